"""cfdiff bag."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from cfdiff.bag.settings import BagSettings
from cfdiff.cli import tables
from cfdiff.cli.options import EDIT_NAMES, command
from cfdiff.cli.tables import PlainTable
from cfdiff.progress import progress_bar

if TYPE_CHECKING:
    from cfdiff.bag.summary import BagSummary
    from cfdiff.shard import ShardSummary

DOC = """Give bags of instances a chosen fraction of positives.

A bag is a group (all cells of a patient); as many of its instances as it takes are translated, and the others stay
byte for byte. Runs on the bundled cells with no option. The result is one HDF5 file; a run that was stopped continues
when the same command is given again."""


@command(
    BagSettings,
    DOC,
    names=EDIT_NAMES,
)
def bag(settings: BagSettings) -> None:
    from cfdiff.bag.run import bag as run

    with progress_bar("planning") as advance:
        summary = run(settings, advance)
    if settings.json_:
        print(json.dumps(summary.as_json()))
    else:
        tables.show(table(summary))


def table(summary: BagSummary | ShardSummary) -> PlainTable:
    """The summary as one reads it."""
    shown = PlainTable(title=summary.title, show_header=False)
    for name, value in summary.rows():
        shown.add_row(name, value)
    return shown
