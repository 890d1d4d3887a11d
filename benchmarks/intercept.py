"""How far classifiers of few groups lean to one class in groups that they never saw, and what --intercept takes out.

    python benchmarks/intercept.py ../shared/data --threads 1 --minutes 2.5 --json benchmarks/results/intercept.json

A network as the judge of `cfdiff fit` is trained on the same groups of each set of `anyone.py` as in `light.py`, in the
same light, with --intercept, which is fitted on groups to validate on. Asked are images of yet other groups, none of
which the test of a fit holds, with the intercept and without it: balanced accuracy with its 95 % interval over groups,
how much of each class is known, and the cross-entropy with both classes weighing the same.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from anyone import SETS
from light import LIGHT, figures, opened, opened_rows, parser
from rich.console import Console
from rich.table import Table

import cfdiff
from cfdiff.data.splitting import JUDGE, VAL, VERIFIER, own_split
from cfdiff.models.checkpoint import load_model
from cfdiff.progress import progress_bar


def main() -> None:
    options = parser(__doc__).parse_args()
    rows = opened_rows(options, "intercept", ("set",))
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.only or SETS:
            rows.put(measure(name, Path(scratch), options))
    Console(width=150).print(table(rows.rows))


def measure(name: str, scratch: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The row of a set."""
    source, learning = opened(name, scratch, options)
    val, *asked = (own_split(source, role) for role in (VAL, VERIFIER, JUDGE))
    with progress_bar(name) as progress:
        trained = cfdiff.train_classifier(
            **learning,
            out=scratch / name,
            intercept=True,
            progress=progress,
            **LIGHT,
        )
    model = load_model(trained.model)
    by = float(model.card.training["intercept"])
    others = source.select(np.flatnonzero(np.isin(source.splits, asked)))
    row: dict[str, Any] = {"set": name, "steps": trained.step, "intercept": by}
    row["val_groups"] = len(set((source.groups if source.groups is not None else source.ids)[source.splits == val]))
    row["with"] = figures(model, others)
    model.net.shift(-by)
    return row | {"without": figures(model, others)}


def table(rows: list[dict[str, Any]]) -> Table:
    """A line a set."""
    heads = (
        "set",
        "groups: validated on, asked",
        "intercept",
        "",
        "balanced accuracy",
        "negative, positive known",
        "CE",
    )
    shown = Table(*heads, title="what classifiers lean in groups that they never saw", title_justify="left")
    for row in rows:
        for kind in ("without", "with"):
            found = row[kind]
            low, high = found["accuracy"]["interval"]
            shown.add_row(
                row["set"],
                f"{row['val_groups']}, {found['groups'] or found['images']}",
                f"{row['intercept']:.2f}",
                kind,
                f"{found['accuracy']['value']:.3f} ({low:.2f}-{high:.2f})",
                f"{found['negative_known']['value']:.2f}, {found['positive_known']['value']:.2f}",
                f"{found['cross_entropy']['value']:.3f}",
            )
    return shown


if __name__ == "__main__":
    main()
