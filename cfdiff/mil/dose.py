"""The answer of a bag model over the mix, where instances were edited, and where real ones took their place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cfdiff.metrics.bag_scores import tau
from cfdiff.mil.answers import Said
from cfdiff.mil.batches import FEW
from cfdiff.mil.measure import Measured

STEP = 0.1
"""Mixes to the nearest multiple of this are one point of a mean curve."""


@dataclass(frozen=True)
class Point:
    """The mean answer to versions of bags whose mixes are alike.

    Attributes:
        positives: of each, where that makes the point; None where the nearest tenth of the mix does.
        mix, answer: means over the versions, in [0, 1].
        versions: how many.
    """

    positives: int | None
    mix: float
    answer: float
    versions: int


@dataclass(frozen=True, eq=False)
class Doses:
    """Answers to B bags at their mixes, the same versions in both ways; `edited` is empty without a sweep."""

    edited: Sequence[Said]
    swapped: Sequence[Said]

    def figures(self) -> dict[str, Measured]:
        """How the answer follows the mix in either way, and whether the two ways agree."""
        found: dict[str, Measured] = {}
        for name, words, said in (
            ("edited", "under edits", self.edited),
            ("swapped", "under exchanged real instances", self.swapped),
        ):
            if not said:
                continue
            groups = np.array([one.bag.group for one in said])
            follow = np.array([tau(one.score, one.bag.mixes) for one in said])
            rise = np.array([_rise(one) for one in said])
            found[f"{name}_tau"] = Measured.mean(f"tau-b with the mix {words}", follow, groups, (-1, 1), "higher")
            found[f"{name}_rise"] = Measured.mean(f"rise, lowest to highest mix, {words}", rise, groups, (-1, 1))
        if self.edited and self.swapped:
            twins = _twins(self.edited, self.swapped)
            groups = np.array([one.bag.group for one, _ in twins])
            same = np.array([tau(a.score, b.score) for a, b in twins])
            off = np.array([np.abs(a.probability - b.probability).mean() for a, b in twins])
            found["agreement"] = Measured.mean("tau-b between the two ways", same, groups, (-1, 1), "higher")
            found["gap"] = Measured.mean("mean |answer edited - exchanged|", off, groups, (0, 1), "lower")
        if self.edited:
            groups = np.array([one.bag.group for one in self.edited])
            shares = np.array([attention_of_edits(one) for one in self.edited])
            for column, when in enumerate(("before", "after")):
                label = f"attention on what becomes positive, {when} (1: the mean)"
                found[f"attention_{when}"] = Measured.mean(label, shares[:, column], groups, (0, np.inf))
        return found

    def curve(self) -> dict[str, list[Point]]:
        """Way -> points of the mean over bags and versions, from the lowest mix on."""
        ways = {"edited": self.edited, "swapped": self.swapped}
        return {name: mean_curve(said) for name, said in ways.items() if said}


def mean_curve(said: Sequence[Said]) -> list[Point]:
    """Mean sigmoid(score) at no positive, at one and two in bags of which they are less than a tenth, else to a tenth.

    None at all and one in a large bag are what a bag model must tell apart, and would be one point by their tenth.
    """
    mixes = np.concatenate([one.bag.mixes for one in said])
    answers = np.concatenate([one.probability for one in said])
    positives = np.concatenate([one.bag.positives for one in said])
    alone = (positives == 0) | (np.isin(positives, FEW) & (mixes < STEP))
    tenth = np.maximum(1, np.rint(mixes / STEP).astype(int))
    points = []
    for counted, kinds in ((True, positives), (False, tenth)):
        for k in np.unique(kinds[alone == counted]).tolist():
            here = (alone == counted) & (kinds == k)
            means = float(mixes[here].mean()), float(answers[here].mean())
            points.append(Point(int(k) if counted else None, *means, int(here.sum())))
    return sorted(points, key=lambda point: point.mix)


def attention_of_edits(one: Said) -> tuple[float, float]:
    """Mean attention on the instances that became positive, in the first version and in theirs, times n.

    1 is what an instance gets where all get the same. NaN where none became positive.
    """
    became = (one.bag.labels == 1) & (one.bag.labels[0] != 1)
    if not became.any():
        return float("nan"), float("nan")
    n = one.bag.size
    before = np.broadcast_to(one.attention[0], one.attention.shape)[became].mean()
    return float(n * before), float(n * one.attention[became].mean())


def _rise(one: Said) -> float:
    low, high = int(one.bag.mixes.argmin()), int(one.bag.mixes.argmax())
    return float(one.probability[high] - one.probability[low]) if high != low else float("nan")


def _twins(edited: Sequence[Said], swapped: Sequence[Said]) -> list[tuple[Said, Said]]:
    of = {one.bag.name: one for one in swapped}
    return [(one, of[one.bag.name]) for one in edited if one.bag.name in of]
