from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import structural_similarity_index_measure

from cfdiff.metrics.minimality import changed, changed_regions, changed_share, l2, mean_abs, ssim

GREY = np.arange(256, dtype=np.uint8)
stored = arrays(np.uint8, (2, 5, 6, 3))


def unit(images: np.ndarray) -> np.ndarray:
    """As cfdiff.data.values.unit makes them."""
    return (images / np.float64(np.iinfo(images.dtype).max)).astype(np.float32)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape).astype(np.float32)


def test_equal_images_are_not_changed() -> None:
    x = noise(3, 12, 13, 3)
    for metric in (mean_abs, l2, changed_share, changed_regions):
        assert (metric(x, x) == 0).all() and metric(x, x).shape == (3,)
    assert ssim(x, x) == pytest.approx(1)


def test_one_changed_pixel_counts_as_one() -> None:
    source = np.zeros((1, 4, 5, 3), np.float32)
    cf = source.copy()
    cf[0, 1, 2] = (0.5, -0.5, 0.25)
    assert mean_abs(source, cf) == pytest.approx(1.25 / 60)
    assert l2(source, cf) == pytest.approx(0.75)
    assert changed_share(source, cf) == pytest.approx(1 / 20)
    assert changed_regions(source, cf) == 1


def test_the_two_lengths_of_a_uniform_change_are_known() -> None:
    source = np.full((1, 8, 8, 3), 0.25, np.float32)
    assert mean_abs(source, source + 0.5) == pytest.approx(0.5)
    assert l2(source, source + 0.5) == pytest.approx(0.5 * np.sqrt(8 * 8 * 3))


def test_a_change_of_exactly_four_grey_levels_is_no_change_and_five_is_one() -> None:
    source = unit(GREY[:-5]).reshape(-1, 1, 1, 1)
    assert not changed(source, unit(GREY[4:-1]).reshape(source.shape)).any()
    assert changed(source, unit(GREY[5:]).reshape(source.shape)).all()


def test_one_step_of_16_bits_is_seen_where_eps_is_0() -> None:
    source = np.arange(0, 60000, 997, dtype=np.uint16).reshape(-1, 1, 1, 1)
    assert changed(unit(source), unit(source + 1), eps=0).all()


def test_the_largest_channel_decides_whether_a_pixel_changed() -> None:
    source = np.zeros((1, 1, 2, 3), np.float32)
    cf = source + np.array([[0.01, 0.01, 0.01], [0, 0, 0.02]], np.float32)
    assert changed(source, cf).tolist() == [[[False, True]]]


def test_pixels_that_touch_at_a_corner_are_one_region() -> None:
    drawn = ["##..#", "#....", ".#...", "...##"]
    cf = np.array([[char == "#" for char in line] for line in drawn], np.float32)[None, ..., None]
    assert changed_regions(np.zeros_like(cf), cf) == 3


def test_ssim_of_two_flat_images_is_the_luminance_term() -> None:
    a, b, c1 = 0.2, 0.6, 0.01**2
    x = np.full((1, 16, 16, 1), a)
    assert ssim(x, np.full_like(x, b)) == pytest.approx((2 * a * b + c1) / (a**2 + b**2 + c1))


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_agrees_with_torchmetrics_where_the_window_lies_inside(channels: int) -> None:
    x = noise(2, 32, 24, channels)
    y = (0.7 * x + 0.3 * noise(2, 32, 24, channels, seed=1)).astype(np.float32)
    tensors = [torch.from_numpy(image.transpose(0, 3, 1, 2).astype(np.float64)) for image in (x, y)]
    _, pixels = structural_similarity_index_measure(*tensors, data_range=1.0, reduction="none", return_full_image=True)
    assert ssim(x, y) == pytest.approx(pixels[..., 5:-5, 5:-5].mean(dim=(1, 2, 3)).numpy(), abs=1e-6)


@pytest.mark.parametrize("side", [1, 2, 6, 10])
def test_ssim_takes_tiny_images(side: int) -> None:
    x, y = noise(2, side, 12, 1), noise(2, side, 12, 1, seed=1)
    assert ssim(x, x) == pytest.approx(1) and (ssim(x, y) < 0.99).all()


def test_ssim_is_scikit_images_with_the_papers_setting() -> None:
    x, y = noise(1, 20, 20, 3), noise(1, 20, 20, 3, seed=1)
    peer = structural_similarity(
        x[0], y[0], data_range=1, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim(x, y)[0] == pytest.approx(peer, abs=1e-5)


@given(stored, stored)
def test_the_measures_are_in_range_and_do_not_tell_source_from_counterfactual(a: np.ndarray, b: np.ndarray) -> None:
    x, y = unit(a), unit(b)
    for metric, top in ((mean_abs, 1.0), (l2, np.sqrt(90)), (changed_share, 1.0), (changed_regions, 15)):
        assert ((metric(x, y) >= 0) & (metric(x, y) <= top)).all()
        assert metric(x, y) == pytest.approx(metric(y, x))
    assert (mean_abs(x, y) * np.sqrt(90) <= l2(x, y) + 1e-9).all()
    assert (np.abs(ssim(x, y)) <= 1 + 1e-9).all()


@given(stored, stored, st.floats(0, 0.5), st.floats(0, 0.5))
def test_a_larger_eps_leaves_fewer_changed_pixels(a: np.ndarray, b: np.ndarray, eps: float, more: float) -> None:
    x, y = unit(a), unit(b)
    assert (changed_share(x, y, eps + more) <= changed_share(x, y, eps)).all()
