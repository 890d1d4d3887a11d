"""Figures of what was measured of each image: means and shares with their intervals.

`values` are the arrays (N,) by name that --save writes; what is derived here is put there too.
"""

from __future__ import annotations

import numpy as np

from cfdiff.evaluate.realism import Space
from cfdiff.evaluate.settings import EvaluateSettings
from cfdiff.metrics import validity
from cfdiff.metrics.columns import Columns, Figure
from cfdiff.metrics.intervals import Interval
from cfdiff.metrics.realism import cosine_similarity
from cfdiff.registry import METRICS
from cfdiff.roles import WITNESSES
from cfdiff.store.runs import Run


def valid(run: Run, columns: Columns, values: dict[str, np.ndarray]) -> dict[str, Figure]:
    """Flip rate and probability gain, by each classifier that the run had."""
    figures = {}
    for who in WITNESSES:
        if who not in run.prob:
            continue
        p = run.p_target(who)
        gain = validity.probability_gain(p[:, 0], p[:, 1])
        figures[f"flip_rate_{who}"] = columns.share(
            f"flip rate: seen as the target by the {who}", run.flipped(who), "higher"
        )
        figures[f"before_{who}"] = columns.share(f"before: seen as the target by the {who}", validity.flipped(p[:, 0]))
        figures[f"gain_{who}"] = columns.mean(f"probability gain by the {who}", gain, "higher", within=(-1, 1))
        values |= {f"p_target_before/{who}": p[:, 0], f"p_target_after/{who}": p[:, 1]}
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
