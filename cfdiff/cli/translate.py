"""cfdiff translate."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from cfdiff.cli import tables
from cfdiff.cli.options import EDIT_NAMES, command
from cfdiff.cli.tables import PlainTable
from cfdiff.progress import progress_bar
from cfdiff.translate.settings import TranslateSettings

if TYPE_CHECKING:
    from cfdiff.shard import ShardSummary
    from cfdiff.translate.summary import TranslateSummary

DOC = """Turn negatives into positives, or the reverse.

Runs on the bundled cells with no option. The result is one HDF5 file; a run that was stopped continues when the same
command is given again."""


@command(
    TranslateSettings,
    DOC,
    names={"from_": "--from", **EDIT_NAMES},
)
def translate(settings: TranslateSettings) -> None:
    from cfdiff.translate.run import translate as run

    with progress_bar("translating") as advance:
        summary = run(settings, advance)
    if settings.json_:
        print(json.dumps(summary.as_json()))
    else:
        tables.show(table(summary))


def table(summary: TranslateSummary | ShardSummary) -> PlainTable:
    """The summary as one reads it."""
    shown = PlainTable(title=summary.title, show_header=False)
    for name, value in summary.rows():
        shown.add_row(name, value)
    return shown
