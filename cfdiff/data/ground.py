"""The plain ground that an object lies on: what is no place for an edit."""

from __future__ import annotations

import numpy as np
from scipy import ndimage  # type: ignore[import-untyped]

from cfdiff.data.values import unit

PLAIN = 8 / 255
"""Of the full range: a ground differs by no more from its most frequent colour, which the rings of JPEG do not."""


def off_ground(images: np.ndarray) -> np.ndarray:
    """(B, H, W) bool, all of images (B, H, W, C) but the plain ground that an object lies on: what has, within `PLAIN`,
    the most frequent colour of the rim and is joined to the rim. All of an image that would be nothing but ground."""
    return np.stack([_off_ground(image) for image in unit(images)])


def rim(image: np.ndarray) -> np.ndarray:
    """The outermost pixels of an image (H, W) or (H, W, C), each corner twice: (2 H + 2 W,) or (2 H + 2 W, C)."""
    return np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])


def _off_ground(image: np.ndarray) -> np.ndarray:
    colours, counts = np.unique(rim(image), axis=0, return_counts=True)
    plain = np.abs(image - colours[counts.argmax()]).max(axis=2) <= PLAIN
    regions, _ = ndimage.label(plain, np.ones((3, 3)))
    ground = plain & np.isin(regions, rim(regions))
    return np.asarray(~ground | ground.all())
