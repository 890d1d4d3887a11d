"""What turns a classifier's logits into honest probabilities: temperatures (Guo et al. 2017), and an intercept.

Both are fitted on validation images at each validation of a training. The temperatures, one a noise level, are stored
in its card; nothing applies them unless it asks: a guide's gradient scales with 1 / temperature, which --scale would
otherwise have to make up for. The intercept goes into the weights; it has no gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

LOW, HIGH = 0.05, 20.0
"""The range of temperatures; a classifier at chance has none, and ends at the upper end."""
MOST = 20.0
"""The size of an intercept, at most: classes that no threshold mixes up have none."""


def fit_temperature(logits: Tensor, labels: Tensor, steps: int = 40) -> float:
    """The T > 0 that minimises the cross-entropy of logits / T, by bisection on its slope, which is convex in 1 / T.

    Args:
        logits: (N, 2) float32 of images that were not trained on.
        labels: (N,) int64.
    """
    logits, labels = logits.double(), labels.to(logits.device)
    picked = logits.gather(1, labels[:, None])[:, 0]

    def slope(inverse: float) -> float:
        expected = (F.softmax(logits * inverse, dim=1) * logits).sum(1)
        return float((expected - picked).mean())

    return math.exp(-_root(lambda log_inverse: slope(math.exp(log_inverse)), -math.log(HIGH), -math.log(LOW), steps))


def fit_intercept(log_odds: Tensor, labels: Tensor, groups: int, steps: int = 40) -> float:
    """What to add to the log-odds of the positive class so that they lean to neither: a b at which the classes, each
    with the same weight, have the lowest cross-entropy, times G / (G + 1).

    A network of few groups takes what is new to it for one of the classes, most often the positive one; "calibration in
    the large" (Cox 1958; Van Calster et al. 2019) takes that out. How far it leans differs between groups as much as it
    leans at all, so of one group half is believed, of many nearly all: the posterior mean where groups are N(mean, s^2)
    and the mean itself is N(0, s^2).

    Args:
        log_odds: (..., N) float32 of images that were not trained on, at one noise level or several.
        labels: (N,) int64, both classes among them.
        groups: G, how many the images are of; theirs is the number of images where each is a group of its own.
    """
    z, positive = log_odds.double(), labels.to(log_odds.device) == 1

    def slope(b: float) -> float:
        wrong = (z + b).sigmoid()
        return float(wrong[..., ~positive].mean() - (1 - wrong[..., positive]).mean())

    return _root(slope, -MOST, MOST, steps) * groups / (groups + 1)


def _root(slope: Callable[[float], float], low: float, high: float, steps: int) -> float:
    """Where in low..high a slope that grows passes 0, by so many halvings; the end next to it where it does not."""
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return (low + high) / 2


def temperature_at(training: Mapping[str, Any], level: int) -> float:
    """The temperature that a card's `training` gives for a level, linear between fitted levels; 1 where it has none."""
    fitted = training.get("calibration") or {}
    levels = sorted(map(int, fitted))
    return float(np.interp(level, levels, [fitted[str(k)] for k in levels])) if levels else 1.0


def temperatures(logits: Mapping[int, Tensor], labels: Tensor) -> dict[str, float]:
    """`training.calibration` of a card: the fitted temperature at each level of `logits`."""
    with torch.no_grad():
        return {str(level): round(fit_temperature(at, labels), 4) for level, at in logits.items()}
