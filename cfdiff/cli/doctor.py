"""cfdiff doctor."""

from __future__ import annotations

import json
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cfdiff.cli.options import EDIT_NAMES, command
from cfdiff.doctor.settings import DoctorSettings
from cfdiff.progress import progress_bar

DOC = """Find what is wrong with data, models and settings, in about a minute.

Each check is a line: ok, warn or fail, what was measured, and what to do. With no option it checks the bundled data and
weights; with the options of a run it checks that run. It ends with 0, or with 1 if a line says fail."""

COLOURS = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@command(DoctorSettings, DOC, names=EDIT_NAMES)
def doctor(settings: DoctorSettings) -> None:
    from cfdiff.doctor.run import doctor as run

    with progress_bar("checking what there is") as advance:
        found = run(settings, advance)
    if settings.json_:
        print(json.dumps(found))
    else:
        _print(found, Console())
    if found["counts"]["fail"]:
        raise typer.Exit(1)


def _print(found: dict[str, Any], console: Console) -> None:
    console.print(table(found))
    counts = found["counts"]
    console.print(Text(f"{counts['ok']} ok, {counts['warn']} to look at, {counts['fail']} failed"))


def table(found: dict[str, Any]) -> Table:
    """The lines as one reads them; what to do stands under the figure."""
    title = Text(f"{found['data'] or 'no data'}, {found['images']} images", style="table.title")
    shown = Table("check", "", "found", title=title, title_justify="left")
    for line in found["lines"]:
        text = Text(line["figure"])
        if line["advice"]:
            text.append(f"\n→ {line['advice']}", style="bold")
        shown.add_row(Text(line["name"]), Text(line["status"], style=COLOURS[line["status"]]), text)
    return shown
