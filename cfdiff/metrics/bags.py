"""Bags: how near the achieved mix comes to the planned and the requested one.

A mix is the fraction of positive instances of a bag of n. Requested is what the user asked for; planned is the nearest
k / n that the bag can have; achieved is what the edited bag has by the labels or by the judge.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class RatioErrors(NamedTuple):
    """Of M bags (or of M bags and mixes); the errors lie in [0, 1]."""

    exact: np.ndarray
    """(M,) bool: exactly the planned count of positives, compared as counts and not as fractions; True is better."""
    off_planned: np.ndarray
    """(M,) |achieved - planned|; lower is better."""
    off_requested: np.ndarray
    """(M,) |achieved - requested|, which holds the rounding to k / n too; lower is better."""


def ratio_errors(requested: np.ndarray, planned: np.ndarray, achieved: np.ndarray, size: np.ndarray) -> RatioErrors:
    """The errors of M mixes; requested, planned, achieved (M,) in [0, 1], size (M,) instances in each bag."""
    requested, planned, achieved = (np.asarray(x, np.float64) for x in (requested, planned, achieved))
    exact = np.rint(achieved * size) == np.rint(planned * size)
    return RatioErrors(exact, np.abs(achieved - planned), np.abs(achieved - requested))


def dose_response_slope(requested: np.ndarray, achieved: np.ndarray) -> tuple[float, float] | None:
    """Slope and intercept of the least-squares line achieved = slope requested + intercept; (1, 0) is perfect.

    None where fewer than two different mixes were requested, through which no line is defined.
    """
    if len(np.unique(requested)) < 2:
        return None
    slope, intercept = np.polyfit(np.asarray(requested, np.float64), np.asarray(achieved, np.float64), 1)
    return float(slope), float(intercept)
