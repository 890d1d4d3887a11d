"""`cfdiff data`: list, inspect, convert, split and caption images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cfdiff.cli.captions import captions
from cfdiff.cli.data_options import (
    GroupKey,
    Layout,
    Negative,
    Positive,
    Reading,
    SourceArgument,
    Split,
    Splits,
)
from cfdiff.cli.tables import Terminal
from cfdiff.data import bundled, open_source
from cfdiff.data.convert import convert as convert_source
from cfdiff.data.fit import Fit
from cfdiff.data.sheet import contact_sheet
from cfdiff.data.split_file import check_table, write_splits
from cfdiff.data.splitting import plan_splits
from cfdiff.data.summary import Groups, Summary, count_splits, summarise
from cfdiff.errors import plain

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="List, inspect, convert, split and caption image data."
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]


@app.command("ls")
def ls(as_json: AsJson = False) -> None:
    """List the bundled data sets."""
    cards = [bundled.card(name) for name in bundled.BUNDLED]
    if as_json:
        typer.echo(json.dumps(cards, indent=2))
        return
    console = Terminal()
    for card in cards:
        negative, positive = card["classes"]
        _say(console, (card["name"], "bold"), f"  {card['title']}")
        _say(console, f"{card['n']:,} images, {_shape(card['image_shape'], card['dtype'])}")
        counts = _table("split", f"{negative} (negative)", f"{positive} (positive)")
        for split, row in card["counts"].items():
            counts.add_row(split, f"{row[negative]:,}", f"{row[positive]:,}")
        console.print(counts)
        _say(console, f"licence: {card['licence']}\ncite: {card['citation']}\n")


@app.command("inspect")
def inspect(
    source: SourceArgument,
    split: Split = None,
    splits: Splits = None,
    negative: Negative = None,
    positive: Positive = None,
    group_key: GroupKey = None,
    layout: Layout = None,
    reading: Reading = None,
    sheet: Annotated[
        Path | None, typer.Option(metavar="OUT.png", help="Write a contact sheet of both classes.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Count images by class, split and group; show sizes, pixel values and exact copies."""
    opened = open_source(
        source,
        split=split,
        splits=splits,
        negative=negative,
        positive=positive,
        group_key=group_key,
        layout=layout,
        reading=reading,
        keep_other=True,
    )
    summary = summarise(opened)
    written = None if sheet is None else contact_sheet(opened, sheet)
    if as_json:
        for note in opened.notes:
            typer.echo(f"note: {note}", err=True)
        typer.echo(json.dumps(asdict(summary), indent=2))
        return
    _print(summary, opened.notes, Terminal())
    if written is not None:
        typer.echo(f"contact sheet: {written}")


@app.command("convert")
def convert(
    source: SourceArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT.npz", help="The .npz to write.", show_default=False)],
    size: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Scale the shorter side to N and cut the centre.")
    ] = None,
    gray: Annotated[bool, typer.Option("--gray", help="Turn colour into gray.")] = False,
    rgb: Annotated[bool, typer.Option("--rgb", help="Turn gray into RGB.")] = False,
    split: Split = None,
    splits: Splits = None,
    negative: Negative = None,
    positive: Positive = None,
    group_key: GroupKey = None,
    layout: Layout = None,
    reading: Reading = None,
    limit: Annotated[int | None, typer.Option(metavar="N", help="A random part of N images.")] = None,
    seed: Annotated[int, typer.Option(help="Which random part.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Overwrite OUT.npz.")] = False,
) -> None:
    """Write any readable data as one .npz; with --size, --gray or --rgb the images may differ before."""
    if gray and rgb:
        raise typer.BadParameter("--gray and --rgb exclude each other")
    channels = 1 if gray else 3 if rgb else None
    opened = open_source(
        source,
        split=split,
        splits=splits,
        negative=negative,
        positive=positive,
        group_key=group_key,
        layout=layout,
        reading=reading,
        limit=limit,
        seed=seed,
        fit=Fit(size, channels),
    )
    written = convert_source(opened, out, force)
    typer.echo(f"{written}: {len(opened):,} images, {_shape(opened.shape, opened.dtype)}")


@app.command("split")
def split_data(
    source: SourceArgument,
    out: Annotated[Path, typer.Option("--out", metavar="OUT.csv", help="The table to write.")] = Path("splits.csv"),
    seed: Annotated[int, typer.Option(help="Which groups go where.")] = 0,
    group_key: GroupKey = None,
    layout: Layout = None,
    reading: Reading = None,
    negative: Negative = None,
    positive: Positive = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite OUT.csv.")] = False,
    as_json: AsJson = False,
) -> None:
    """Divide images by group into train, train-verifier, train-judge, val and test, for --splits of every command."""
    check_table(out, source, force, "splits")
    # Images of other classes are split too: a table of all images fits whichever classes a run asks for.
    opened = open_source(
        source,
        negative=negative,
        positive=positive,
        group_key=group_key,
        layout=layout,
        reading=reading,
        keep_other=True,
    )
    plan = plan_splits(opened, seed)
    write_splits(opened, plan.splits, out)
    rows = count_splits(replace(opened, splits=plan.splits))
    if as_json:
        typer.echo(json.dumps({"splits": rows, "notes": list(plan.notes)}, indent=2))
        return
    console = Terminal()
    for note in plan.notes:
        _say(console, f"note: {plain(note)}")
    table = _table("split", *next(iter(rows.values())))
    for name, row in rows.items():
        table.add_row(_text(name), *("" if n is None else f"{n:,}" for n in row.values()))
    console.print(table)
    typer.echo(f"{out}: use it with --splits {out}")


app.command("captions")(captions)


@app.command("build-malaria")
def build_malaria(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="Folder with Parasitized/ and Uninfected/, or a .npz.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the .npz and its card, or a .npz.")],
    everything: Annotated[bool, typer.Option("--all", help="Every cell, not the bundled part.")] = False,
    patients: Annotated[
        Path | None, typer.Option(metavar="CARD", help="Exactly the patients that a card.json lists.")
    ] = None,
) -> None:
    """Build the bundled malaria cells, or all of them, from the original images."""
    malaria = bundled.builder("malaria-cells")
    names = None if patients is None else malaria.patients_in(patients)
    typer.echo(malaria.build(source, out, everything, patients=names))


SHOWN_GROUPS = 20
"""How many groups the text lists; --json has all."""


def _print(summary: Summary, notes: tuple[str, ...], console: Console) -> None:
    """The summary as text and tables."""
    negative, positive = map(plain, summary.classes)
    _say(
        console,
        (plain(summary.name), "bold"),
        f": {summary.n:,} images, {_shape(summary.shape, summary.dtype)}; "
        f"negative = {negative}, positive = {positive}{'; with masks' if summary.masks else ''}",
    )
    for note in notes:
        _say(console, f"note: {plain(note)}")
    classes = list(next(iter(summary.counts.values())))
    counts = _table("split", *classes, "all")
    for split, row in summary.counts.items():
        counts.add_row(_text(split), *(f"{row[c]:,}" for c in classes), f"{sum(row.values()):,}")
    console.print(counts)
    values = _table("class", "pixel range", "mean, in [0, 1]", "std, in [0, 1]")
    for name, v in summary.values.items():
        values.add_row(_text(name), f"{v.range[0]:g} to {v.range[1]:g}", f"{v.mean:.4f}", f"{v.std:.4f}")
    console.print(values)
    if summary.groups is not None:
        _print_groups(summary.groups, classes, console)
    copies = summary.duplicates
    console.print(
        f"exact copies: {copies.images} images in {copies.sets} sets; across splits "
        f"{copies.across_splits}, labels {copies.across_labels}, groups {copies.across_groups}"
    )
    console.print(f"fingerprint: {summary.fingerprint}", soft_wrap=True)


def _print_groups(groups: Groups, classes: list[str], console: Console) -> None:
    """How many there are, and a table of the largest."""
    console.print(
        f"groups: {groups.n:,}, of {groups.smallest} to {groups.largest} images "
        f"(median {groups.median:g}); {groups.only_negative} all negative, "
        f"{groups.only_positive} all positive, {groups.in_several_splits} in more than one split"
    )
    largest = sorted(groups.counts.items(), key=lambda item: (-sum(item[1].values()), item[0]))
    by_group = _table("group", *classes, "all")
    for name, row in largest[:SHOWN_GROUPS]:
        by_group.add_row(_text(name), *(f"{row[c]:,}" for c in classes), f"{sum(row.values()):,}")
    if len(largest) > SHOWN_GROUPS:
        by_group.add_row(f"and {len(largest) - SHOWN_GROUPS:,} smaller (--json)")
    console.print(by_group)


def _table(first: str, *numbers: str) -> Table:
    """A table of numbers, with names in the first column."""
    table = Table()
    table.add_column(_text(first))
    for heading in numbers:
        table.add_column(_text(heading), justify="right")
    return table


def _say(console: Console, *parts: str | tuple[str, str]) -> None:
    """Print text that may hold names from the data: plain, and without colours for what looks like a number."""
    console.print(Text.assemble(*parts), highlight=False)


def _text(name: str) -> Text:
    """A name from the data: whatever it looks like, it is no markup."""
    return Text(plain(name))


def _shape(shape: Sequence[int], dtype: object) -> str:
    return f"{shape[0]}x{shape[1]} {'gray' if shape[2] == 1 else 'RGB'} {dtype}"
