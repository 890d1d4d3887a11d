"""Valid: does the judge call the counterfactual what was asked?"""

from __future__ import annotations

import numpy as np


def flipped(p_after: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """(N,) bool: the target probability is above the threshold; their mean is the flip rate, higher is better.

    p_after (N,): what the judge gives the target class in the counterfactual. Exactly at the threshold is not flipped.
    """
    return np.asarray(p_after) > threshold


def probability_gain(p_before: np.ndarray, p_after: np.ndarray) -> np.ndarray:
    """(N,) in [-1, 1]: the target probability in the counterfactual less that in the source; higher is better."""
    return np.asarray(p_after, np.float64) - np.asarray(p_before, np.float64)
