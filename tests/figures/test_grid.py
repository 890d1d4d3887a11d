from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from cfdiff.figures.grid import Curve, Strip, grid, strips


@pytest.mark.parametrize("n", [1, 7, 24, 100])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_shows_every_image(tmp_path: Path, n: int, channels: int) -> None:
    black, white = (np.full((n, 8, 8, channels), value, np.uint8) for value in (0, 255))
    pictures = [imread(grid(images, tmp_path / f"{k}.png"))[..., :3] for k, images in enumerate((black, white))]
    assert pictures[0].shape == pictures[1].shape
    dark = (pictures[0].mean(axis=2) < 0.1).sum()
    side = dark / n  # pixels of a picture for each image
    assert (pictures[1].mean(axis=2) < 0.1).sum() == 0 and side > 400


def test_a_sweep_has_a_row_for_each_number_of_steps_and_curves_below(tmp_path: Path) -> None:
    rows = [Strip(f"{n} steps", np.zeros((6, 8, 8, 1), np.uint8)) for n in (5, 10)]
    curve = Curve("FID", np.array([5.0, 10]), np.array([3.0, 2]), np.array([[2.0, 4], [1, 3]]), (0.5, 0.2, 0.8))
    without, with_curves = tmp_path / "a.png", tmp_path / "b.png"
    strips(rows, without, "title $x")
    strips(rows, with_curves, "title $x", [curve, curve])
    assert imread(with_curves).shape[0] > imread(without).shape[0] + 300
