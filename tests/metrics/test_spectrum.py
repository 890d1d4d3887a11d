from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfdiff.metrics.spectrum import high_frequency_share


def noise(n: int, size: int = 32, channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, size, size, channels))


def test_a_constant_shift_has_no_high_frequency() -> None:
    assert high_frequency_share(np.full((2, 12, 15, 3), 0.3)) == pytest.approx(0, abs=1e-20)


def test_a_checkerboard_has_nothing_else() -> None:
    y, x = np.mgrid[:16, :16]
    assert high_frequency_share(((-1.0) ** (y + x))[None, :, :, None] * 0.02) == pytest.approx(1)


@pytest.mark.parametrize(("period", "share"), [(16, 0), (8, 0), (2, 1)])
def test_a_wave_is_high_where_its_frequency_is_above_half_the_nyquist_frequency(period: int, share: float) -> None:
    wave = np.broadcast_to(np.cos(2 * np.pi * np.arange(32) / period), (1, 32, 32))[..., None]
    for way in (wave, wave.transpose(0, 2, 1, 3)):
        assert high_frequency_share(way) == pytest.approx(share, abs=1e-12)


def test_energies_add_as_parseval_says() -> None:
    """A low wave and a high one are orthogonal: the share is that of the sum of squares, in any mixture."""
    x = np.broadcast_to(np.arange(32), (32, 32))
    low, high = (np.cos(2 * np.pi * x / period)[None, ..., None] * a for period, a in ((16, 0.1), (2, 0.3)))
    expected = (high**2).sum() / ((low**2).sum() + (high**2).sum())
    assert high_frequency_share(low + high) == pytest.approx(expected)


@given(st.floats(1e-6, 1e6), st.integers(0, 100))
def test_the_scale_does_not_matter(scale: float, seed: int) -> None:
    change = noise(2, 9, 2, seed)
    assert high_frequency_share(scale * change) == pytest.approx(high_frequency_share(-change))


def test_white_noise_has_about_its_share_of_the_area() -> None:
    assert high_frequency_share(noise(50, 64)).mean() == pytest.approx(1 - np.pi / 16, abs=0.01)


def test_smoothing_lowers_it() -> None:
    change = noise(5)
    smooth = (change + np.roll(change, 1, 1) + np.roll(change, 1, 2) + np.roll(change, (1, 1), (1, 2))) / 4
    assert (high_frequency_share(smooth) < high_frequency_share(change)).all()


def test_channels_of_opposite_sign_do_not_cancel() -> None:
    change = noise(3)
    both = np.concatenate([change, -change], axis=3)
    assert high_frequency_share(both) == pytest.approx(high_frequency_share(change))


def test_no_change_has_no_share() -> None:
    change = noise(3)
    change[1] = 0
    assert np.isnan(high_frequency_share(change)).tolist() == [False, True, False]
