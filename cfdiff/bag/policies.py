"""Which instances of a bag are edited first. The names stand in cfdiff.registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cfdiff.bag.plan import log_odds


@dataclass(frozen=True)
class Policy:
    """An entry of registry.POLICIES.

    Attributes:
        score: (p (N,) the checker's probability of positive, labels (N,) 0 or 1) -> s (N,): an instance is drawn with
            odds proportional to exp(s / temperature).
        asks: whether the score reads the checker's p, which is else not asked.
    """

    score: Callable[[np.ndarray, np.ndarray], np.ndarray]
    asks: bool = True


UNIFORM = Policy(lambda p, labels: np.zeros(len(labels)), asks=False)
"""All alike, whatever the temperature."""
CONFIDENT = Policy(lambda p, labels: np.where(labels == 1, log_odds(p), -log_odds(p)))
"""The log-odds of the instance's own class: those of which the checker is sure."""
BORDERLINE = Policy(lambda p, labels: -np.abs(log_odds(p)))
"""Minus their size: those that lie between the classes."""
