"""What turns a classifier's logits into honest probabilities: temperatures (Guo et al. 2017), and an intercept.

Both are fitted on validation images at each validation of a training. The temperatures, one a noise level, are stored
in its card; nothing applies them unless it asks: a guide's gradient scales with 1 / temperature, which --scale would
otherwise have to make up for. The intercept goes into the weights.
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
"""The size of an intercept, at most; log-odds that lie further off are saturated anyway."""


def fit_temperature(logits: Tensor, labels: Tensor, steps: int = 40) -> float:
    """The T > 0 that minimises the cross-entropy of logits / T, by bisection on its slope, which is convex in 1 / T.

    Args:
        logits: (N, 2) float32 of images that were not trained on.
        labels: (N,) int64.
    """
    logits, labels = logits.cpu().double(), labels.cpu()  # MPS has no float64
    picked = logits.gather(1, labels[:, None])[:, 0]

    def slope(inverse: float) -> float:
        expected = (F.softmax(logits * inverse, dim=1) * logits).sum(1)
        return float((expected - picked).mean())

    return math.exp(-_root(lambda log_inverse: slope(math.exp(log_inverse)), -math.log(HIGH), -math.log(LOW), steps))


def fit_intercept(log_odds: Tensor, labels: Tensor, groups: np.ndarray, steps: int = 40) -> float:
    """What to add to the log-odds of the positive class so that they lean less to one class.

    Calibration in the large (Cox 1958; Van Calster et al. 2019): the b at which the classes, each with the same weight,
    have the lowest cross-entropy. Other groups lean otherwise, so b is believed as far as it rests on many:

        b / (1 + 1 / G + 1 / I),    I = sum_i w_i p_i (1 - p_i)

    the posterior mean of the lean of a new group where one group's is N(m, 1), m is N(0, 1), and b has the variance
    1 / I of a fit to so many images: of one group with many images half of it, of many groups nearly all.

    Args:
        log_odds: (..., N) float32 of images that were not trained on, at one noise level or several.
        labels: (N,) int64, both classes among them.
        groups: (N,) what each image belongs to. G is how many groups of equal weight would be as many.
    """
    z, positive = log_odds.cpu().double(), labels.cpu() == 1  # MPS has no float64

    def slope(b: float) -> float:
        return float((z + b)[..., ~positive].sigmoid().mean() - (-(z + b))[..., positive].sigmoid().mean())

    b = _root(slope, -MOST, MOST, steps)
    weights = torch.where(positive, 0.5 / positive.sum(), 0.5 / (~positive).sum()).double()
    share = np.bincount(np.unique(groups, return_inverse=True)[1], weights.numpy())
    doubt = (z + b).sigmoid() * (-(z + b)).sigmoid()
    known = float((doubt * weights).sum(-1).mean()) * len(weights)
    return b / (1 + float(np.sum(share**2)) + 1 / max(known, 1e-12))


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
