"""`cfdiff data captions`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cfdiff.cli.data_options import GroupKey, Layout, Negative, Positive, Reading, SourceArgument, Split, Splits
from cfdiff.data import open_source
from cfdiff.data.attributes import Spot, describe, told_columns
from cfdiff.data.captions import write_captions
from cfdiff.data.split_file import check_table
from cfdiff.errors import plain


def captions(
    source: SourceArgument,
    out: Annotated[Path, typer.Option("--out", metavar="OUT.csv", help="The table to write.")] = Path("captions.csv"),
    noun: Annotated[
        str | None,
        typer.Option(metavar="WORD", help="What is on the images; known of bundled data, else image."),
    ] = None,
    spot: Annotated[
        Spot | None, typer.Option(help="The spot whose size and place are said: of the masks, the darkest place, none.")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Columns of the data that are said, as stage,stain.")
    ] = None,
    split: Split = None,
    splits: Splits = None,
    negative: Negative = None,
    positive: Positive = None,
    group_key: GroupKey = None,
    layout: Layout = None,
    reading: Reading = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite OUT.csv.")] = False,
) -> None:
    """Make a caption for each image of its class, columns, brightness, colour and a spot, for cfdiff train-clip."""
    check_table(out, source, force, "captions")
    opened = open_source(
        source,
        split=split,
        splits=splits,
        negative=negative,
        positive=positive,
        group_key=group_key,
        layout=layout,
        reading=reading,
    )
    said, found = describe(opened, source, noun, spot, told_columns(columns))
    written = write_captions(opened, said, found, out)
    typer.echo(f"{written}: {len(said):,} captions, {len(set(said)):,} different, as {plain(said[0])!r}")
