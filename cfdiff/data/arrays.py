"""Images and masks that come as one array: what shapes and types they may have."""

from __future__ import annotations

import math

import numpy as np

from cfdiff.data.limits import BYTES_A_NAME, MAX_PIXELS, check_memory
from cfdiff.data.source import check_float_range
from cfdiff.errors import UserError

NEAR = 16 / 255
"""Values that far from black or white, of the whole range, are near it."""


def as_images(images: np.ndarray, name: str) -> np.ndarray:
    """Images (N, H, W[, C]) as (N, H, W, C) of uint8, uint16 or float32 in [0, 1]; UserError otherwise."""
    if images.ndim == 3:
        images = images[..., None]
    images = images.astype(images.dtype.newbyteorder("="), copy=False)
    check_layout(images.shape, images.dtype, name)
    if images.dtype.kind == "f":
        images = images.astype(np.float32)
        check_float_range(images, name)
    return images


def check_layout(shape: tuple[int, ...], dtype: np.dtype, name: str) -> None:
    """Raise UserError unless (N, H, W, C) with 1 or 3 channels, not empty, of a pixel type and a size we can take."""
    if len(shape) == 1 and dtype.kind in "SUOV":
        raise UserError(
            f"{name} has names or encoded bytes as images: store pixels, (N, H, W) or (N, H, W, 3), or list files in a "
            ".csv."
        )
    if len(shape) == 4 and shape[1] in (1, 3) and shape[3] not in (1, 3):
        raise UserError(
            f"{name} has images of shape {tuple(shape)}, with the channels first: put them last with "
            "np.moveaxis(images, 1, -1)."
        )
    if len(shape) == 4 and shape[3] == 4:
        raise UserError(f"{name} has images of 4 channels: leave alpha out, and save colours as RGB.")
    if len(shape) != 4 or shape[3] not in (1, 3):
        raise UserError(f"{name} has images of shape {tuple(shape)}: (N, H, W) or (N, H, W, 3) is needed.")
    if 0 in shape:
        raise UserError(f"{name} is empty: its images have shape {tuple(shape)}.")
    if dtype.newbyteorder("=") not in (np.uint8, np.uint16) and dtype.kind != "f":
        raise UserError(f"{name} has pixels of type {dtype}: save them as uint8, uint16, or float in [0, 1].")
    if (pixels := shape[1] * shape[2]) > MAX_PIXELS:
        raise UserError(
            f"{name} has images of {shape[1]}x{shape[2]}, which is {pixels:,} pixels, and {MAX_PIXELS:,} are the most: "
            "cut them into tiles."
        )
    check_memory(shape[0] * BYTES_A_NAME, f"The names of the {shape[0]:,} images that {name} claims to hold")


def check_masks(shape: tuple[int, ...], dtype: np.dtype, images: tuple[int, ...], name: str) -> None:
    """Raise UserError unless masks of this shape are those of images (N, H, W[, C])."""
    n, h, w = images[:3]
    packed = shape == (n, h, -(-w // 8)) and dtype == np.uint8 and w > 1
    if not packed and (shape not in ((n, h, w), (n, h, w, 1)) or dtype.kind not in "biuf"):
        raise UserError(
            f"{name} has masks of shape {shape} for {n} images of {h}x{w}: one mask per image is needed, as numbers."
        )


def as_masks(masks: np.ndarray, shape: tuple[int, ...], name: str) -> np.ndarray:
    """Masks (N, H, W) bool from (N, H, W), (N, H, W, 1) or bit-packed rows (N, H, ceil(W / 8))."""
    check_masks(masks.shape, masks.dtype, shape, name)
    n, h, w = shape[:3]
    if math.prod(masks.shape) != n * h * w:
        return np.unpackbits(masks, axis=-1, count=w).astype(bool)
    if masks.dtype.kind == "f" and np.isnan(masks).any():
        raise UserError(f"{name} has masks that are NaN in places: save them as 0 and 1.")
    if smeared(masks).any():
        raise UserError(
            f"{name} has masks with many values near black and white, as one that was a JPEG or a network's output "
            "has: make them black and white (masks > 127, or > 0.5), as every value but 0 counts."
        )
    masks = masks.reshape(n, h, w)
    if groundless(masks).any():
        raise UserError(f"{name} has masks {GROUNDLESS}: {AS_0_AND_1}.")
    if shaded(masks).any():
        raise UserError(f"{name} has masks {SHADED}: {AS_0_AND_1}.")
    return masks != 0


GROUNDLESS = "of several values and no 0, so that what lies outside is not said"
SHADED = "in which most neighbours differ, as in a picture or a map of heat or of probabilities"
"""What is said of masks that `groundless` and `shaded` find."""
AS_0_AND_1 = "store 0 outside and 1 inside, as every value but 0 counts"
PAIRS = 256
"""Neighbours in a mask from which on it can be said to be shaded: a small one may be little but its soft edge."""


def groundless(masks: np.ndarray) -> np.ndarray:
    """(N,) bool of masks (N, ...), or of pictures (N, H, W, C): whether none of several values is 0 (black)."""
    if masks.dtype.kind == "b" or masks.size == 0:
        return np.zeros(len(masks), bool)
    axes = tuple(range(1, min(masks.ndim, 3)))
    there = (masks != 0).any(axis=3) if masks.ndim == 4 else masks != 0
    several = masks != masks[:, :1, :1]
    return np.asarray(there.all(axis=axes) & several.reshape(len(masks), -1).any(axis=1))


def shaded(masks: np.ndarray) -> np.ndarray:
    """(N,) bool of masks (N, H, W) or pictures (N, H, W, C): whether most neighbours in them differ.

    Labels and numbered objects are flat, and so is a mask but for its edge.
    """
    if masks.dtype.kind == "b" or masks.size == 0:
        return np.zeros(len(masks), bool)
    pictures = masks.reshape(*masks.shape[:3], -1)
    differ, pairs = np.zeros(len(masks), np.int64), np.zeros(len(masks), np.int64)
    for a, b in ((pictures[:, 1:], pictures[:, :-1]), (pictures[:, :, 1:], pictures[:, :, :-1])):
        inside = (a != 0).any(axis=3) & (b != 0).any(axis=3)
        pairs += inside.sum(axis=(1, 2))
        differ += (inside & (a != b).any(axis=3)).sum(axis=(1, 2))
    return np.asarray((pairs >= PAIRS) & (2 * differ > pairs))


def smeared(masks: np.ndarray) -> np.ndarray:
    """(N,) bool of masks (N, ...): whether more values are near black and white than between, and some near each.

    A soft edge has few such values, a JPEG many. White is 1 in floats up to 1, 255 where no value is above, else 65535.
    """
    if masks.dtype.kind == "b" or masks.size == 0:
        return np.zeros(len(masks), bool)
    high = float(masks.max())
    white = 1 if masks.dtype.kind == "f" and high <= 1 else 255 if high <= 255 else 65535
    axes = tuple(range(1, masks.ndim))
    dark = np.sum((masks > 0) & (masks < NEAR * white), axes)
    bright = np.sum((masks < white) & (masks > (1 - NEAR) * white), axes)
    if not (dark.any() and bright.any()):  # nearly always
        return np.zeros(len(masks), bool)
    between = np.sum((masks >= NEAR * white) & (masks <= (1 - NEAR) * white), axes)
    return np.asarray((dark > 0) & (bright > 0) & (dark + bright > between))
