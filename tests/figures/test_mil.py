from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from cfdiff.figures.mil import Curve, dose_curves


def test_a_picture_of_one_way_is_half_as_wide_as_one_of_two(tmp_path: Path) -> None:
    """One panel stood in a figure for two, half of which was empty."""
    curve = Curve([(np.array([0.0, 1.0]), np.array([0.2, 0.8]))], [(0.0, 0.2), (1.0, 0.8)])
    one, two = (
        dose_curves({str(k): curve for k in range(n)}, positive="a", diagonal=True, out=tmp_path / f"{n}.png")
        for n in (1, 2)
    )
    with Image.open(one) as single, Image.open(two) as double:
        assert 2 * single.width == double.width and single.height == double.height
        dark = np.asarray(single.convert("L")) < 128
    columns = np.flatnonzero(dark.any(0))
    assert columns[0] < 0.2 * dark.shape[1] and columns[-1] > 0.8 * dark.shape[1]
