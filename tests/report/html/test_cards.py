from __future__ import annotations

import numpy as np
import pytest

from cfdiff.report.html.cards import inside


def test_the_share_of_the_change_in_a_mask_counts_channels_that_go_opposite_ways() -> None:
    change = np.zeros((4, 4, 3), np.float32)
    change[0, 0] = (0.3, -0.3, 0.0)  # in the mask; its signed mean is zero
    change[3, 3] = 0.1
    mask = np.zeros((4, 4), bool)
    mask[0, 0] = True
    assert inside(change, mask) == pytest.approx(0.6 / 0.9)
    assert inside(np.zeros((4, 4, 1)), mask) == 0
