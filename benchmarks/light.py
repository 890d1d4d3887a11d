"""What classifiers know of groups that they never saw, taught in other light (--gain, --gamma, --cast) and hardly so.

    python benchmarks/light.py ../shared/data --threads 1 --minutes 2.5 --json benchmarks/results/light.json

A network as the judge of `cfdiff fit` is trained for the same time on the same groups of each set of `anyone.py`: once
with the random brightness that `cfdiff train-classifier` has by itself, once in the light of `cfdiff fit`. Asked are
images of other groups, none of which the test of a fit holds: balanced accuracy and AUC with 95 % intervals over
groups, and the cross-entropy with both classes weighing the same.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from anyone import SETS, prepared
from rich.console import Console
from rich.table import Table
from rows import Rows
from sklearn.metrics import balanced_accuracy_score, log_loss, roc_auc_score

import cfdiff
from cfdiff.data.open import open_source
from cfdiff.data.source import Source
from cfdiff.data.split_file import write_splits
from cfdiff.data.splitting import JUDGE, TRAIN, VAL, VERIFIER, own_split, plan_splits
from cfdiff.data.values import to_model, unit
from cfdiff.edit.cast import probabilities
from cfdiff.fit.classifiers import LIGHT
from cfdiff.fit.space import scaled_for_classifiers
from cfdiff.fit.symmetry import fitting_augment
from cfdiff.metrics.intervals import bootstrap_rows
from cfdiff.models.checkpoint import Model, load_model
from cfdiff.progress import progress_bar

LIGHTS: dict[str, dict[str, float]] = {"as usual": {}, "other light": LIGHT}


def main() -> None:
    study(__doc__, "light", LIGHTS, "light")


def study(doc: str | None, benchmark: str, ways: Mapping[str, Mapping[str, Any]], column: str) -> None:
    """A row for each set and way to train a classifier: a name in the column, and the settings."""
    options = parser(doc).parse_args()
    rows = opened_rows(options, benchmark, ("set", column))
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.only or SETS:
            for way, settings in ways.items():
                rows.put({"set": name, column: way, **measure(name, way, settings, Path(scratch), options)})
    Console(width=150).print(table(rows.rows, column))


def opened_rows(options: argparse.Namespace, benchmark: str, key: Sequence[str]) -> Rows:
    """The rows of a benchmark of classifiers, with what is the same of all."""
    same = {name: getattr(options, name) for name in ("minutes", "threads", "precision", "seed")}
    return Rows(options.json, {"benchmark": benchmark, **same}, key)


def measure(
    name: str, way: str, settings: Mapping[str, Any], scratch: Path, options: argparse.Namespace
) -> dict[str, Any]:
    """Steps of a training with these settings, and what it made knows of groups that it did not learn from."""
    source, learning = opened(name, scratch, options)
    asked = [own_split(source, role) for role in (VERIFIER, JUDGE, VAL)]
    others = source.select(np.flatnonzero(np.isin(source.splits, asked)))
    with progress_bar(f"{name}, {way}") as progress:
        out = scratch / f"{name}-{way}"
        trained = cfdiff.train_classifier(**learning, out=out, progress=progress, **settings)
    return {"steps": trained.step, **figures(load_model(trained.model), others)}


def opened(name: str, scratch: Path, options: argparse.Namespace) -> tuple[Source, dict[str, Any]]:
    """A set of `anyone.py` with the splits of a fit, and the settings of a classifier that learns from it."""
    data = prepared(name, options.data, scratch / f"{name}.npz")
    splits = scratch / f"{name}.csv"
    whole = open_source(str(data))
    write_splits(whole, plan_splits(whole, options.seed).splits, splits)
    source = open_source(str(data), splits=splits)
    return source, {
        "data": str(data),
        "splits": splits,
        "split": own_split(source, TRAIN),
        "val_split": own_split(source, VAL),
        "noisy": False,
        **scaled_for_classifiers(source.shape),
        "augment": fitting_augment(unit(source.read(np.arange(0, len(source), max(1, len(source) // 500))))),
        "max_minutes": options.minutes,
        **{name: getattr(options, name) for name in ("threads", "precision", "seed")},
    }


def figures(model: Model, others: Source) -> dict[str, Any]:
    """What a classifier knows of images of other groups, each figure with its interval."""
    p = probabilities(model, to_model(others.read(np.arange(len(others)))), exact=False).numpy()[:, 1]
    y, groups = others.labels, others.groups
    wanted = {
        "accuracy": lambda rows: balanced_accuracy_score(y[rows], p[rows] > 0.5),
        "negative_known": lambda rows: np.mean(p[rows][y[rows] == 0] < 0.5),
        "positive_known": lambda rows: np.mean(p[rows][y[rows] == 1] > 0.5),
        "auc": lambda rows: roc_auc_score(y[rows], p[rows]),
        "cross_entropy": lambda rows: log_loss(
            y[rows], p[rows], sample_weight=1 / np.bincount(y[rows])[y[rows]], labels=[0, 1]
        ),
    }
    found: dict[str, Any] = {"images": len(others), "groups": None if groups is None else len(set(groups.tolist()))}
    for name, figure in wanted.items():
        within = (0.0, math.inf if name == "cross_entropy" else 1.0)
        interval = bootstrap_rows(len(others), groups, figure, n_boot=500, within=within)
        found[name] = {"value": float(figure(np.arange(len(others)))), "interval": interval}
    return found


def table(rows: list[dict[str, Any]], column: str) -> Table:
    """A line a set and way."""
    heads = ("set", column, "groups", "steps", "balanced accuracy", "AUC", "cross-entropy")
    shown = Table(*heads, title="classifiers of groups that they never saw", title_justify="left")
    for row in rows:
        figures = [
            f"{row[name]['value']:.3f} ({row[name]['interval'][0]:.2f}-{row[name]['interval'][1]:.2f})"
            for name in ("accuracy", "auc", "cross_entropy")
        ]
        shown.add_row(row["set"], row[column], str(row["groups"] or "-"), str(row["steps"]), *figures)
    return shown


def parser(doc: str | None) -> argparse.ArgumentParser:
    """What benchmarks of classifiers are told."""
    options = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("data", type=Path, help="folder with the data sets")
    options.add_argument("--only", nargs="*", choices=list(SETS))
    options.add_argument("--minutes", type=float, default=2.5, help="of each training")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--precision", choices=["no", "bf16"], default="bf16", help="as a fit has it on a CPU with it")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--json", type=Path, help="write all figures here")
    return options


if __name__ == "__main__":
    main()
