"""Small data in every layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def pixels() -> np.ndarray:
    """Six gray images (6, 5, 7) uint8, all different."""
    return np.random.default_rng(0).integers(0, 256, (6, 5, 7), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path, pixels: np.ndarray) -> Path:
    """`cells/healthy/0..2.png` and `cells/diseased/3..5.png`."""
    root = tmp_path / "cells"
    for i, image in enumerate(pixels):
        path = root / ("healthy" if i < 3 else "diseased") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return root
