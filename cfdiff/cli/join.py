"""cfdiff join."""

from __future__ import annotations

import json

from cfdiff.cli import tables
from cfdiff.cli.options import command
from cfdiff.cli.tables import PlainTable
from cfdiff.join.settings import JoinSettings
from cfdiff.progress import progress_bar

DOC = """Make one result of the shards of a job array.

Each job has run the same command with its own --shard; this names the shards that are missing, or joins them all into
the file that one process would have made."""


@command(JoinSettings, DOC, names={"json_": "--json"}, arguments=("run",))
def join(settings: JoinSettings) -> None:
    from cfdiff.join.run import join as run

    with progress_bar("joining") as advance:
        summary = run(settings, advance)
    if settings.json_:
        print(json.dumps(summary.as_json()))
    else:
        shown = PlainTable(title=f"{settings.run.name}, joined", show_header=False)
        for name, value in summary.rows():
            shown.add_row(name, value)
        tables.show(shown)
