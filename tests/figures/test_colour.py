from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage.color import lab2rgb, rgb2lab

from cfdiff.figures.colour import LEAST, chroma_range, chroma_view, colour_change, is_colour
from cfdiff.figures.panel import change_map, panel


def from_lab(light: float, a: float, b: float) -> np.ndarray:
    """A (4, 4, 3) image of one colour, uint8."""
    return np.rint(255 * lab2rgb(np.full((4, 4, 3), (light, a, b), np.float64))).astype(np.uint8)


def test_a_change_of_hue_alone_has_no_lightness_and_its_own_direction() -> None:
    pink, purple = from_lab(60, 30, 0), from_lab(60, 20, -25)
    change = colour_change(pink, purple)
    assert np.abs(change.lightness).max() < 0.01
    assert change.chroma.mean((0, 1)) == pytest.approx([-10, -25], abs=1)
    assert change.absolute.mean() > 0.05 and np.abs(change_map(purple / 255 - pink / 255)).max() < change.absolute.max()


def test_a_darker_image_of_the_same_hue_is_negative_lightness() -> None:
    change = colour_change(from_lab(70, 10, 10), from_lab(50, 10, 10))
    assert change.lightness.mean() == pytest.approx(-0.2, abs=0.01) and np.abs(change.chroma).max() < 1.5


def test_an_unchanged_colour_is_grey_and_another_the_hue_that_it_moved_to() -> None:
    chroma = np.array([[[0.0, 0.0], [20.0, 0.0], [0.0, -20.0], [80.0, 0.0]]])
    seen = chroma_view(chroma, 20.0)
    assert np.ptp(seen[0, 0]) < 0.01
    assert seen[0, 1].argmax() == 0 and seen[0, 2].argmax() == 2, "towards red, towards blue"
    assert seen[0, 3] == pytest.approx(seen[0, 1], abs=1e-6), "beyond the limit no stronger"
    hue = rgb2lab(seen)[0, 2]
    assert abs(hue[1]) < 0.5 * abs(hue[2]) and hue[2] < 0


def test_faint_changes_are_not_blown_up() -> None:
    assert chroma_range(np.zeros((2, 4, 4, 2))) == LEAST
    assert chroma_range(np.full((2, 4, 4, 2), 30.0)) == pytest.approx(30 * 2**0.5)


def test_a_panel_of_colour_images_tells_changes_apart_that_have_one_mean(tmp_path: Path) -> None:
    source = np.full((2, 12, 12, 3), (180, 120, 150), np.uint8)
    turned, darker = source.copy(), source.copy()
    turned[:, 4:8, 4:8] = (120, 180, 150)
    darker[:, 4:8, 4:8] = (150, 90, 120)
    common: dict[str, Any] = {"before": np.full(2, 0.1), "after": np.full(2, 0.9), "classes": ("a", "b")}

    def drawn(name: str, counterfactual: np.ndarray) -> np.ndarray:
        difference = counterfactual / 255 - source / 255
        out = panel(source, counterfactual, difference.astype(np.float32), **common, out=tmp_path / f"{name}.png")
        return np.asarray(Image.open(out).convert("RGB")).astype(int)

    assert is_colour(source.shape) and not is_colour((2, 12, 12, 1))
    same, hue, dark = drawn("same", source), drawn("hue", turned), drawn("dark", darker)
    green = lambda page: ((page[..., 1] - page[..., 0] > 40) & (page[..., 1] - page[..., 2] > 10)).sum()  # noqa: E731
    assert green(hue) > 2 * 16 * green(same) + 100, "in the counterfactual and in the view of the colour"
    assert same.shape == hue.shape == dark.shape and (hue != dark).any()
