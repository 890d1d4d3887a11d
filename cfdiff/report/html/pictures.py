"""Pictures for a page: PNG as base64, the coloured difference, the outline of a mask."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

_BLUE, _RED = (33, 102, 172), (178, 24, 43)  # the ends of matplotlib's RdBu
_STEPS = 60  # shades of either sign
_POWER = 0.7  # of the opacity: faint changes stay visible, and zero is fully transparent


def grey_or_rgb(image: np.ndarray) -> str:
    """PNG of an image (H, W) or (H, W, 3) in [0, 1]."""
    return _encode(Image.fromarray(np.rint(image * 255).astype(np.uint8)))


def overlay(change: np.ndarray, limit: float) -> str:
    """PNG of a signed change (H, W): blue negative, red positive, opaque at `limit` and transparent at zero.

    A palette keeps it at one byte a pixel before compression.
    """
    shade = np.rint(np.clip(change / limit, -1, 1) * _STEPS).astype(np.int64) + _STEPS
    image = Image.fromarray(shade.astype(np.uint8), mode="P")
    image.putpalette([*_BLUE] * _STEPS + [*_RED] * (_STEPS + 1))
    opacity = np.rint(255 * np.abs(np.arange(-_STEPS, _STEPS + 1) / _STEPS) ** _POWER)
    return _encode(image, transparency=opacity.astype(np.uint8).tobytes())


def scale_bar() -> str:
    """PNG, one pixel high, of all shades from the most negative to the most positive."""
    return overlay(np.linspace(-1, 1, 2 * _STEPS + 1)[None], 1.0)


def reduced(image: np.ndarray, side: int) -> np.ndarray:
    """(H, W) or (H, W, 3) float, averaged over squares until no side is longer than `side`; edges may be cropped, but a
    side that is shorter than a square is averaged whole."""
    factor = -(-max(image.shape[:2]) // side)
    if factor == 1:
        return image
    tall, wide = (min(factor, size) for size in image.shape[:2])
    height, width = image.shape[0] // tall, image.shape[1] // wide
    squares = image[: height * tall, : width * wide].reshape(height, tall, width, wide, *image.shape[2:])
    return squares.mean(axis=(1, 3))


def outline(mask: np.ndarray) -> str:
    """An SVG path along the pixel edges of a mask (H, W) bool, in pixels; empty for an empty mask."""
    padded = np.pad(mask, 1).astype(np.int8)
    path = []
    for y, line in enumerate((np.diff(padded, axis=0) != 0)[:, 1:-1]):
        path += [f"M{x} {y}h{length}" for x, length in _runs(line)]
    for x, line in enumerate((np.diff(padded, axis=1) != 0)[1:-1].T):
        path += [f"M{x} {y}v{length}" for y, length in _runs(line)]
    return "".join(path)


def _runs(line: np.ndarray) -> list[tuple[int, int]]:
    """Start and length of each run of True."""
    edges = np.flatnonzero(np.diff(np.pad(line, 1).astype(np.int8))).reshape(-1, 2)
    return [(int(start), int(stop - start)) for start, stop in edges]


def _encode(image: Image.Image, **options: bytes) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True, **options)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
