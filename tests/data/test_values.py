from __future__ import annotations

import numpy as np
import pytest
import torch

from cfdiff.data.values import mean_change, to_model, to_saved, unit


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_integer_value_survives_the_way_to_the_model_and_back(dtype: type) -> None:
    top = np.iinfo(dtype).max
    images = np.arange(top + 1, dtype=dtype).reshape(1, 16, -1, 1)
    x = to_model(images)
    assert x.dtype == torch.float32
    assert (x.min().item(), x.max().item()) == (-1.0, 1.0)
    np.testing.assert_array_equal(to_saved(x, dtype), images)


def test_float_images_survive_to_float_rounding() -> None:
    images = np.random.default_rng(0).random((2, 3, 4, 3), dtype=np.float32)
    saved = to_saved(to_model(images), np.float32)
    assert saved.dtype == np.float32
    np.testing.assert_allclose(saved, images, atol=1e-7)


def test_channels_move_and_come_back() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 3), dtype=np.uint8)
    x = to_model(images)
    assert x.shape == (2, 3, 3, 4)
    np.testing.assert_array_equal(to_saved(x, np.uint8), images)


def test_values_are_clamped_and_rounded_half_to_even() -> None:
    x = torch.tensor([-9.0, 9.0, 0.5 / 127.5 - 1, 1.5 / 127.5 - 1, 0.4 / 127.5 - 1]).view(1, 1, 1, 5)
    assert to_saved(x, np.uint8).ravel().tolist()[:2] == [0, 255]
    assert to_saved(torch.zeros(1, 1, 1, 1), np.uint8).item() == 128
    assert to_saved(x, np.uint8).ravel()[4] == 0


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1)])
def test_unit_maps_full_scale_to_one(dtype: type, top: int) -> None:
    scaled = unit(np.array([0, top], dtype=dtype))
    assert scaled.dtype == np.float32
    assert scaled.tolist() == [0.0, 1.0]


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1)])
def test_the_mean_change_of_an_image_is_that_of_its_values_and_channels_in_fractions_of_full_scale(
    dtype: type, top: int
) -> None:
    source = np.zeros((2, 2, 2, 3), dtype)
    source[1, 0, 0, 0] = top
    after = np.zeros_like(source)
    after[1, 0, 0, 1] = top  # one channel falls as another rises: nothing cancels
    assert mean_change(source, after) == pytest.approx([0, 2 / 12])
