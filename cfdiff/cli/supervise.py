"""cfdiff supervise."""

from __future__ import annotations

import json

from cfdiff.cli import tables
from cfdiff.cli.options import command
from cfdiff.cli.tables import PlainTable
from cfdiff.remote import shown
from cfdiff.supervise.settings import SuperviseSettings

DOC = """Train an ordinary classifier on counterfactual pairs as well as on images.

Takes the pairs of a run that the verifier accepts, labels each counterfactual with the class asked for, and may ask the
classifier to ignore what the difference map leaves out. --pairs none is the plain training to compare with: as many
images a step. The same command again continues where it stopped. More: docs/supervision.md."""


@command(SuperviseSettings, DOC, names={"json_": "--json", "half": "--half/--full", "calibrate": "--calibrate"})
def supervise(settings: SuperviseSettings) -> None:
    from cfdiff.supervise.run import supervise as run

    result = run(settings)
    if settings.json_:
        print(json.dumps(result.as_json()))
        return
    table = PlainTable(title=shown(settings.data), show_header=False)
    for name, value in result.rows():
        table.add_row(name, value)
    tables.show(table)
