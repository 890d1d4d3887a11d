"""Control images: what of an image must not move, as lines. registry.CONTROLS names them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage  # type: ignore[import-untyped]
from skimage.feature import canny
from skimage.filters import threshold_otsu

from cfdiff.data.ground import rim
from cfdiff.data.source import Source, require_masks
from cfdiff.data.values import unit
from cfdiff.errors import UserError
from cfdiff.registry import CONTROLS

SIGMA = 1.0
"""Of Canny's Gaussian, in pixels."""


def edges(images: np.ndarray, masks: np.ndarray | None = None) -> np.ndarray:
    """(B, H, W) float32, 1 on Canny's edges (1986) of images (B, H, W, C), whose grays are stretched to [0, 1]
    first."""
    return np.stack([canny(_stretched(gray), SIGMA) for gray in unit(images).mean(axis=3)]).astype(np.float32)


def outline(images: np.ndarray, masks: np.ndarray | None = None) -> np.ndarray:
    """(B, H, W) float32, 1 on the border of the object: what is on the other side of Otsu's threshold than the rim."""
    return np.stack([border(objects(gray)) for gray in unit(images).mean(axis=3)]).astype(np.float32)


def mask(images: np.ndarray, masks: np.ndarray | None = None) -> np.ndarray:
    """(B, H, W) float32, the data's own masks."""
    if masks is None:
        raise UserError("--control mask needs masks, and the data has none: use --control edges or outline.")
    return np.asarray(masks, np.float32)


def objects(gray: np.ndarray) -> np.ndarray:
    """(H, W) bool of a gray image in [0, 1]: brighter, or darker, than Otsu's threshold, as the rim is not; holes
    filled."""
    if np.ptp(gray) == 0:
        return np.zeros(gray.shape, bool)
    bright = gray > threshold_otsu(gray)
    return np.asarray(ndimage.binary_fill_holes(bright if rim(bright).mean() < 0.5 else ~bright))


def border(inside: np.ndarray) -> np.ndarray:
    """(H, W) bool, the pixels of an object (H, W) bool that touch what is outside; the rim of the image is none."""
    return np.asarray(inside & ~ndimage.binary_erosion(inside, border_value=1))


def require_lines(name: str, source: Source) -> None:
    """Raise UserError where `--control name` is made of masks that the source has not."""
    if name == "mask":
        require_masks(
            source, "--control mask", f"--control {' or '.join(other for other in CONTROLS if other != name)}"
        )


def control_images(name: str, source: Source, rows: Sequence[int] | np.ndarray) -> np.ndarray:
    """(B, H, W) float32 in [0, 1] of some images of a source, by a name of registry.CONTROLS.

    Raises:
        UserError: it takes masks, and there are none.
    """
    require_lines(name, source)
    found: np.ndarray = CONTROLS[name](source.read(rows), source.read_masks(rows))
    return found


def _stretched(gray: np.ndarray) -> np.ndarray:
    low, span = gray.min(), np.ptp(gray)
    return (gray - low) / span if span else np.zeros_like(gray)
