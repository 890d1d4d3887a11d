"""Figures of what was measured of each image: means and shares with their intervals.

`values` are the arrays (N,) by name that --save writes; what is derived here is put there too.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cfdiff.evaluate.realism import Space
from cfdiff.evaluate.recall import BOTH
from cfdiff.evaluate.settings import EvaluateSettings
from cfdiff.metrics import validity
from cfdiff.metrics.columns import Columns, Figure, entry_of
from cfdiff.metrics.intervals import Interval
from cfdiff.metrics.realism import cosine_similarity
from cfdiff.registry import METRICS
from cfdiff.store.recall import Recall
from cfdiff.store.runs import Run


def valid(
    run: Run,
    columns: Columns,
    values: dict[str, np.ndarray],
    judges: Mapping[str, str],
    recall: Mapping[str, Recall],
) -> dict[str, Figure]:
    """Flip rate, its recall and the probability gain, by each judge, the checker beside it, and by all judges at once.

    `judges`: the names of the judges in `run.prob`, the first of which decides, and how figures call them. Beside every
    flip rate stands the recall of the same model, where it is known.
    """
    figures: dict[str, Figure] = {}
    for name in [*judges, *(name for name in run.prob if name not in judges)]:
        if name not in run.prob:
            continue
        who = judges.get(name, f"the {name}")
        p = run.p_target(name)
        gain = validity.probability_gain(p[:, 0], p[:, 1])
        figures |= _flips(name, who, run.flipped(name), p[:, 0] > 0.5, columns, recall)
        figures[f"gain_{name}"] = columns.mean(f"probability gain by {who}", gain, "higher", within=(-1, 1))
        values |= {f"p_target_before/{name}": p[:, 0], f"p_target_after/{name}": p[:, 1]}
    if len(judges) > 1:
        who = f"{'both' if len(judges) == 2 else f'all {len(judges)}'} judges"
        after = np.logical_and.reduce([run.flipped(name) for name in judges])
        before = np.logical_and.reduce([run.p_target(name)[:, 0] > 0.5 for name in judges])
        figures |= _flips(BOTH, who, after, before, columns, recall)
    return figures


def _flips(
    name: str, who: str, after: np.ndarray, before: np.ndarray, columns: Columns, recall: Mapping[str, Recall]
) -> dict[str, Figure]:
    """The share (N,) bool seen as the target after and before, and of real images of that class between them."""
    figures = {f"flip_rate_{name}": columns.share(f"flip rate: seen as the target by {who}", after, "higher")}
    if name in recall:
        r = recall[name]
        entry = entry_of(r.share, (r.low, r.high), r.n, f"Wilson over {r.over}")
        figures[f"recall_{name}"] = Figure(
            f"its recall: real images of that class seen so by {who}", None, entry, unit="share"
        )
    figures[f"before_{name}"] = columns.share(f"before: seen as the target by {who}", before)
    return figures


def of_pairs(values: dict[str, np.ndarray], columns: Columns, s: EvaluateSettings) -> dict[str, dict[str, Figure]]:
    """Section -> the figures of METRICS that stand in it."""
    found: dict[str, dict[str, Figure]] = {}
    for name in METRICS:
        metric = METRICS[name]
        label = metric.label.format(**dict(s))
        figure = columns.mean(label, values[name], metric.better, metric.unit, metric.within)
        found.setdefault(metric.section, {})[name] = figure
    return found


def similarity(
    values: dict[str, np.ndarray], features: tuple[np.ndarray, np.ndarray], columns: Columns, space: Space
) -> dict[str, Figure]:
    """Cosine of the features (N, D) of sources and counterfactuals."""
    values["cosine_similarity"] = cosine_similarity(*features)
    label = f"cosine similarity with the source (features of {space.name})"
    return {"cosine_similarity": columns.mean(label, values["cosine_similarity"], "higher", within=(-1, 1))}


def faithful(values: dict[str, np.ndarray], columns: Columns) -> dict[str, Figure]:
    """The areas under the curves."""
    words: dict[str, tuple[str, str, Interval]] = {
        "cout": ("COUT, -1 to 1", "higher", (-1, 1)),
        "deletion": ("deletion: area under p(source class)", "lower", (0, 1)),
        "insertion": ("insertion: area under p(source class)", "higher", (0, 1)),
    }
    return {
        key: columns.mean(label, values[key], better, within=within) for key, (label, better, within) in words.items()
    }


def returns(run: Run, trip: dict[str, np.ndarray], columns: Columns) -> dict[str, Figure]:
    """There and back."""
    change = trip["round_trip/mean_abs_difference"]
    figures = {"round_trip": columns.mean("mean |x - x''|, there and back", change, "lower", within=(0, 1))}
    if "round_trip/p_target" in trip and "judge" in run.prob:
        same = validity.flipped(trip["round_trip/p_target"]) == validity.flipped(run.p_target("judge")[:, 0])
        figures["verdict_returns"] = columns.share("judge's verdict on x'' is that on x", same, "higher")
    return figures
