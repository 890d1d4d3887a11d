"""The options that say which images, of `cfdiff data`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cfdiff.data.readers.tree import LAYOUTS
from cfdiff.registry import READERS
from cfdiff.settings import READING

SourceArgument = Annotated[
    str, typer.Argument(metavar="SOURCE", help=f"Bundled name, {', '.join(READERS)}; or an URL.", show_default=False)
]
Split = Annotated[str | None, typer.Option(metavar="NAME", help="Only this split; join several with +.")]
Negative = Annotated[str | None, typer.Option(metavar="CLASS", help="The class that is negative.")]
Positive = Annotated[str | None, typer.Option(metavar="CLASS", help="The class that is positive.")]
Splits = Annotated[
    Path | None, typer.Option("--splits", metavar="FILE.csv", help="Splits in place of the data's own (data split).")
]
Layout = Annotated[
    str | None,
    typer.Option(metavar="LEVELS", help=f"What the folders of a folder stand for: {', '.join(LAYOUTS)}."),
]
Reading = Annotated[
    str | None,
    typer.Option(
        metavar="KEY=VALUE,...",
        help=f"{READING}, ...",
    ),
]
GroupKey = Annotated[str | None, typer.Option(metavar="COLUMN", help="Which images belong together.")]
