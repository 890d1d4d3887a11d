"""Temperatures that turn a classifier's logits into honest probabilities (Guo et al. 2017), one a noise level.

They are fitted on validation images after each validation of a training and stored in its card; nothing applies them
unless it asks: a guide's gradient scales with 1 / temperature, which --scale would otherwise have to make up for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

LOW, HIGH = 0.05, 20.0
"""The range of temperatures; a classifier at chance has none, and ends at the upper end."""


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

    low, high = 1 / HIGH, 1 / LOW
    for _ in range(steps):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return float((low * high) ** -0.5)


def temperature_at(training: Mapping[str, Any], level: int) -> float:
    """The temperature that a card's `training` gives for a level, linear between fitted levels; 1 where it has none."""
    fitted = training.get("calibration") or {}
    levels = sorted(map(int, fitted))
    return float(np.interp(level, levels, [fitted[str(k)] for k in levels])) if levels else 1.0


def temperatures(logits: Mapping[int, Tensor], labels: Tensor) -> dict[str, float]:
    """`training.calibration` of a card: the fitted temperature at each level of `logits`."""
    with torch.no_grad():
        return {str(level): round(fit_temperature(at, labels), 4) for level, at in logits.items()}
