"""cfdiff fit."""

from __future__ import annotations

import json

from cfdiff.cli import tables
from cfdiff.cli.options import command
from cfdiff.fit.settings import FitSettings
from cfdiff.progress import progress_bar

DOC = """Make models, settings and first counterfactuals for a data set, in a given time.

Looks at the data, divides it by group, trains all models, checks them, tunes the settings of an edit by a verifier that
never steers, and shows both directions on test images. Give the same command again to go on with a fit that was
stopped. Then: cfdiff translate --data DATA --weights OUT --from negative."""


@command(FitSettings, DOC, names={"json_": "--json"}, arguments=("data",))
def fit(settings: FitSettings) -> None:
    from cfdiff.fit.run import fit as run

    with progress_bar("looking") as advance:
        result = run(settings, advance)
    if settings.json_:
        print(json.dumps(result.as_json()))
    else:
        tables.show(*result.lines())
