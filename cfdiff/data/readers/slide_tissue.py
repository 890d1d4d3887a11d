"""Where tissue is on a stained slide: what has a colour and is not black."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import median_filter  # type: ignore[import-untyped]

WINDOWS = 8
"""Points a side of a tile at which it is asked."""
COLOURED, BLACK = 0.05, 0.1
"""Saturation from which on a point is tissue (glass has about 0.01; CLAM takes 8 of 255 = 0.03), and brightness up to
which it is none, but what was not scanned or is a pen. Fixed, not found for each slide by Otsu's method, which cuts a
slide that is all tissue in two."""


def tissue_of(picture: np.ndarray) -> np.ndarray:
    """(H, W) bool of a picture (H, W, 3) uint8: saturation and value as in HSV, without single points."""
    brightest = picture.max(axis=2).astype(np.float64)
    saturation = (brightest - picture.min(axis=2)) / np.maximum(brightest, 1)
    tissue = (saturation >= COLOURED) & (brightest > BLACK * 255)
    return median_filter(tissue.astype(np.uint8), size=3, mode="nearest") > 0
