from __future__ import annotations

import numpy as np
import pytest

from cfdiff.metrics.validity import flipped, probability_gain


def test_flipped_is_what_is_strictly_above_the_threshold() -> None:
    p = np.array([0.1, 0.5, 0.51, 0.9])
    assert flipped(p).tolist() == [False, False, True, True]
    assert flipped(p, threshold=0.05).all() and not flipped(p, threshold=0.9).any()


def test_the_gain_is_after_less_before() -> None:
    gain = probability_gain(np.array([0.1, 0.9, 1.0], np.float32), np.array([0.9, 0.1, 1.0], np.float32))
    assert gain == pytest.approx([0.8, -0.8, 0])
