"""The figures of a bag model on real bags, by its target, with 95 % intervals over patients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from cfdiff.metrics.bag_scores import bag_auroc, balanced_accuracy, log_loss, tau
from cfdiff.metrics.intervals import ANYWHERE, Interval, bootstrap_rows, mean_interval
from cfdiff.mil.answers import Said


@dataclass(frozen=True)
class Measured:
    """A figure.

    Attributes:
        label: what it is. value: None where it is not defined. n: bags that it is of.
        better: which way is good.
    """

    label: str
    value: float | None
    interval: Interval | None
    n: int
    better: Literal["higher", "lower", None] = None

    @classmethod
    def mean(
        cls,
        label: str,
        values: np.ndarray,
        groups: np.ndarray,
        within: Interval = ANYWHERE,
        better: Literal["higher", "lower", None] = None,
    ) -> Measured:
        """The mean over bags of values (B,), of which those that are NaN are left out."""
        there = np.isfinite(values)
        if not there.any():
            return cls(label, None, None, 0, better)
        kept = values[there]
        return cls(label, float(kept.mean()), mean_interval(kept, groups[there], within), len(kept), better)


@dataclass(frozen=True, eq=False)
class Scores:
    """Of B real bags: score (B,) logit, positive (B,) bool class, mix (B,) NaN unknown, groups (B,) patients."""

    score: np.ndarray
    positive: np.ndarray
    mix: np.ndarray
    groups: np.ndarray

    @classmethod
    def of(cls, said: Sequence[Said]) -> Scores:
        """Of the first version of each bag."""
        mix = [one.bag.mixes[0] if one.bag.known else math.nan for one in said]
        return cls(
            np.array([one.score[0] for one in said], np.float64),
            np.array([one.bag.classes[0] == 1 for one in said]),
            np.array(mix, np.float64),
            np.array([one.bag.group for one in said]),
        )


def figures(scores: Scores, target: str) -> dict[str, Measured]:
    """All figures that can be told: of the class always, of the fraction where instance labels are known.

    sigmoid(score) is read as a class only where --target label made it one, and as a fraction only with fraction.
    """
    n, s = len(scores.score), scores
    found: dict[str, Measured] = {}

    def boot(label: str, statistic: object, within: Interval, better: Literal["higher", "lower"]) -> Measured:
        assert callable(statistic)
        value = float(statistic(np.arange(n)))
        if not math.isfinite(value):
            return Measured(label, None, None, n, better)
        return Measured(label, value, bootstrap_rows(n, s.groups, statistic, within=within), n, better)

    auroc = partial(_rows, bag_auroc, s.score, s.positive)
    found["auroc"] = boot("AUROC of positive bags", auroc, (0, 1), "higher")
    if target == "label":
        right = partial(_rows, balanced_accuracy, s.score, s.positive)
        found["balanced_accuracy"] = boot("balanced accuracy", right, (0, 1), "higher")
        found["log_loss"] = boot(
            "cross-entropy (nats)", partial(_rows, log_loss, s.score, s.positive), (0, np.inf), "lower"
        )
    if np.isfinite(s.mix).all():
        found["tau"] = boot("Kendall's tau-b with the mix", partial(_rows, tau, s.score, s.mix), (-1, 1), "higher")
        if target == "fraction":
            off = np.abs(1 / (1 + np.exp(-s.score)) - s.mix)
            found["mae"] = Measured.mean("mean |fraction - true|", off, s.groups, (0, 1), "lower")
    return found


def _rows(statistic: object, a: np.ndarray, b: np.ndarray, rows: np.ndarray) -> float:
    assert callable(statistic)
    return float(statistic(a[rows], b[rows]))
