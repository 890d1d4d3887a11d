from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfdiff.data.fit import Fit


@settings(max_examples=40)
@given(
    height=st.integers(1, 30),
    width=st.integers(1, 30),
    channels=st.sampled_from([1, 3]),
    size=st.none() | st.integers(1, 20),
    wanted=st.sampled_from([None, 1, 3]),
    dtype=st.sampled_from([np.uint8, np.uint16, np.float32]),
)
def test_the_announced_shape_is_the_shape_of_the_result(height, width, channels, size, wanted, dtype) -> None:
    fit = Fit(size, wanted)
    image = np.ones((height, width, channels), dtype)
    fitted = fit.image(image)
    assert fitted.shape == fit.shape(image.shape)
    assert fitted.dtype == dtype
    assert (fitted == 1).all()
    assert fit.mask(np.ones((height, width), bool)).shape == fitted.shape[:2]


def test_nothing_asked_leaves_the_image_alone() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert Fit().image(image) is image


def test_the_centre_square_is_kept() -> None:
    image = np.zeros((4, 8, 1), np.uint8)
    image[:, 2:6] = 200
    assert (Fit(size=4).image(image) == 200).all()
    assert Fit(size=4).mask(image[..., 0] > 0).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_gray_turned_into_colour_and_back_is_the_same(dtype: type) -> None:
    image = np.arange(0, np.iinfo(dtype).max, np.iinfo(dtype).max // 60, dtype=dtype)[:60].reshape(6, 10, 1)
    np.testing.assert_array_equal(Fit(channels=1).image(Fit(channels=3).image(image)), image)


def test_16_bit_values_are_not_cut_by_resizing() -> None:
    assert (Fit(size=3).image(np.full((9, 9, 1), 60001, np.uint16)) == 60001).all()
