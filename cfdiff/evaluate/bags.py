"""Bags: how near the achieved mix is to what was planned and asked, for each bag and pooled."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cfdiff.evaluate.judge import Judge
from cfdiff.evaluate.result import Mix, OneBag
from cfdiff.metrics.bags import dose_response_slope, ratio_errors
from cfdiff.metrics.columns import Columns, Figure
from cfdiff.store.bags import Bags

WORDS = {
    "achieved": "judge, all images",
    "achieved_by_labels": "labels, judge where edited",
    "achieved_by_checker": "labels, checker where edited",
}


def judged_rows(bags: Bags, judge: Judge, batch: int) -> np.ndarray:
    """(R,) bool: whether a judge sees the image of each row as positive; it is asked once of every image."""
    edit, picture = bags.read("row/edit"), bags.read("instance/source")[bags.read("row/instance")]
    seen = np.zeros(len(edit), bool)
    for name, index, here in (("source", picture, edit < 0), ("counterfactual", edit, edit >= 0)):
        images, back = np.unique(index[here], return_inverse=True)
        starts = range(0, len(images), batch)
        p = [judge.predict(bags.images(name, images[i : i + batch]))[:, 1] for i in starts]
        seen[here] = (np.concatenate([np.empty(0), *p]) > 0.5)[back]
    return seen


def achieved_mixes(bags: Bags, anew: np.ndarray | None) -> dict[str, np.ndarray]:
    """Name -> (J,) achieved mixes of WORDS, as stored; `anew` (R,) is the word of another judge in place of its own."""
    achieved = {name: bags.read(f"mix/{name}") for name in WORDS if f"mix/{name}" in bags}
    if anew is None:
        return achieved
    before = bags.read("instance/label")[bags.read("row/instance")]
    by_labels = np.where(bags.read("row/edit") >= 0, anew, before)
    own = {"achieved": anew, "achieved_by_labels": by_labels}
    return achieved | {k: np.array([rows[bags.rows(j)].mean() for j in range(len(bags))]) for k, rows in own.items()}


def bag_figures(bags: Bags, achieved_by: dict[str, np.ndarray], n_boot: int, seed: int) -> dict[str, Figure]:
    """Pooled over the J pairs of a bag and a mix; intervals are over whole bags. `achieved_by`: of achieved_mixes."""
    requested, planned, size = _ratios(bags)
    columns = Columns(len(bags), _names(bags), None, n_boot, seed)

    def mean(label: str, values: np.ndarray, better: str | None = None) -> Figure:
        return columns.mean(label, values, better, within=(0, 1))

    figures = {"rounding": mean("mean |planned - requested| (rounding to k / n)", np.abs(planned - requested))}
    for name, who in WORDS.items():
        if name not in achieved_by:
            continue
        achieved = achieved_by[name]
        errors = ratio_errors(requested, planned, achieved, size)
        figures[f"{name}_exact"] = columns.share(f"exact count ({who})", errors.exact, "higher")
        figures[f"{name}_off_planned"] = mean(f"mean |achieved - planned| ({who})", errors.off_planned, "lower")
        figures[f"{name}_off_requested"] = mean(f"mean |achieved - requested| ({who})", errors.off_requested, "lower")
        if dose_response_slope(requested, achieved) is not None:
            figures |= _line(name, who, requested, achieved, columns)
    return figures


def _line(name: str, who: str, requested: np.ndarray, achieved: np.ndarray, columns: Columns) -> dict[str, Figure]:
    """Slope and intercept of the dose-response line."""

    def of(k: int) -> Callable[[np.ndarray], float]:
        def statistic(rows: np.ndarray) -> float:
            drawn = dose_response_slope(requested[rows], achieved[rows])
            return float("nan") if drawn is None else drawn[k]

        return statistic

    return {
        f"{name}_{part}": columns.statistic(f"dose-response {part}, ideal {ideal} ({who})", of(k))
        for k, (part, ideal) in enumerate((("slope", 1), ("intercept", 0)))
    }


def per_bag(bags: Bags, achieved: dict[str, np.ndarray]) -> tuple[OneBag, ...]:
    """One entry a bag: its instances, its mixes with the ratios, and the slope over its mixes."""
    requested, planned, size = _ratios(bags)
    names = _names(bags)
    entries = []
    for name in dict.fromkeys(names.tolist()):
        rows = np.flatnonzero(names == name)
        mixes = tuple(
            Mix(float(requested[j]), float(planned[j]), {k: float(a[j]) for k, a in achieved.items()}) for j in rows
        )
        lines = {k: dose_response_slope(requested[rows], a[rows]) for k, a in achieved.items()}
        slopes = {k: None if line is None else line[0] for k, line in lines.items()}
        entries.append(OneBag(name, int(size[rows[0]]), mixes, slopes))
    return tuple(entries)


def _ratios(bags: Bags) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return bags.read("mix/requested"), bags.read("mix/planned"), np.diff(bags.read("mix/offset"))


def _names(bags: Bags) -> np.ndarray:
    return bags.read("bag/name")[bags.read("mix/bag")]
