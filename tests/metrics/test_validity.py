from __future__ import annotations

import numpy as np
import pytest

from cfdiff.metrics.validity import flip_rate, probability_gain


def test_the_flip_rate_counts_what_is_strictly_above_the_threshold() -> None:
    p = np.array([0.1, 0.5, 0.51, 0.9])
    assert flip_rate(p) == 0.5
    assert flip_rate(p, threshold=0.05) == 1
    assert flip_rate(p, threshold=0.9) == 0


def test_the_gain_is_after_less_before() -> None:
    gain = probability_gain(np.array([0.1, 0.9, 1.0], np.float32), np.array([0.9, 0.1, 1.0], np.float32))
    assert gain == pytest.approx([0.8, -0.8, 0])
