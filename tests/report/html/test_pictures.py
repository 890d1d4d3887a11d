from __future__ import annotations

import base64
import io
import re

import numpy as np
from hypothesis import given
from hypothesis.extra import numpy as hnp
from PIL import Image

from cfdiff.report.html.pictures import grey_or_rgb, outline, overlay, reduced, scale_bar


def decoded(encoded: str, mode: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))).convert(mode)).astype(int)


def test_an_image_keeps_its_8_bit_values() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7))
    assert (decoded(grey_or_rgb(image / 255), "L") == image).all()
    colour = np.random.default_rng(0).integers(0, 256, (5, 7, 3))
    assert (decoded(grey_or_rgb(colour / 255), "RGB") == colour).all()


def test_the_overlay_is_clear_at_zero_blue_below_red_above_and_full_from_the_limit_on() -> None:
    pixels = decoded(overlay(np.array([[0.0, -0.1, 0.1, -0.2, 0.2, 5.0]]), 0.2), "RGBA")[0]
    alpha = pixels[:, 3]
    assert alpha[0] == 0 and (alpha[3:] == 255).all() and (alpha[1:3] > 0).all() and (alpha[1:3] < 255).all()
    assert (pixels[[1, 3], 2] > pixels[[1, 3], 0]).all() and (pixels[[2, 4], 0] > pixels[[2, 4], 2]).all()
    assert (pixels[4] == pixels[5]).all()


def test_the_scale_bar_runs_from_full_blue_over_nothing_to_full_red() -> None:
    bar = decoded(scale_bar(), "RGBA")[0]
    assert bar[0, 3] == bar[-1, 3] == 255 and bar[len(bar) // 2, 3] == 0
    assert (np.diff(bar[: len(bar) // 2, 3]) <= 0).all()


def test_a_picture_is_reduced_by_averaging_squares() -> None:
    image = np.arange(16.0).reshape(4, 4)
    assert (reduced(image, 4) == image).all()
    assert (reduced(image, 2) == [[2.5, 4.5], [10.5, 12.5]]).all()
    assert reduced(np.ones((300, 200, 3)), 128).shape == (100, 66, 3)
    assert (reduced(np.arange(3000.0)[None], 240)[0, :2] == [6, 19]).all()  # a line is averaged along itself alone


def test_the_outline_of_a_square_is_its_four_sides() -> None:
    mask = np.zeros((5, 6), bool)
    mask[1:3, 2:5] = True
    assert sorted(re.findall(r"M[\d ]+[hv]\d+", outline(mask))) == ["M2 1h3", "M2 1v2", "M2 3h3", "M5 1v2"]
    assert outline(np.zeros((4, 4), bool)) == ""


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)))
def test_the_outline_is_as_long_as_the_pixel_edges_between_inside_and_outside(mask: np.ndarray) -> None:
    padded = np.pad(mask, 1).astype(int)
    edges = np.abs(np.diff(padded, axis=0)).sum() + np.abs(np.diff(padded, axis=1)).sum()
    assert sum(map(int, re.findall(r"[hv](\d+)", outline(mask)))) == edges
