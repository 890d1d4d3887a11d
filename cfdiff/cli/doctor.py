"""cfdiff doctor."""

from __future__ import annotations

import json

import typer
from rich.text import Text

from cfdiff.cli import tables
from cfdiff.cli.options import EDIT_NAMES, command
from cfdiff.cli.tables import PlainTable
from cfdiff.doctor.lines import Report
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
        report = run(settings, advance)
    if settings.json_:
        print(json.dumps(report.as_json()))
    else:
        counts = report.counts
        tables.show(table(report), f"{counts['ok']} ok, {counts['warn']} to look at, {counts['fail']} failed")
    if report.failed:
        raise typer.Exit(1)


def table(report: Report) -> PlainTable:
    """The lines as one reads them; what to do stands under the figure."""
    shown = PlainTable("check", "", "found", title=f"{report.data or 'no data'}, {report.images} images")
    for line in report.lines:
        text = Text(line.figure)
        if line.advice:
            text.append(f"\n→ {line.advice}", style="bold")
        shown.add_row(line.name, Text(line.status, style=COLOURS[line.status]), text)
    return shown
