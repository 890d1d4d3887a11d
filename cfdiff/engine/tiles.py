"""Overlapping tiles of an image, and the windows by which what is known of tiles is put together without a seam.

The windows of all tiles sum to 1 at every pixel, so a change of the whole image comes back as it was from what its
tiles say of it (weighted overlap-add; Allen and Rabiner 1977 for signals).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

Box = tuple[slice, slice]
"""Rows and columns of a tile."""


@dataclass(frozen=True)
class Tiles:
    """How images are cut.

    Attributes:
        side: height and width of a tile, in pixels; an image that is smaller along an axis is not cut there.
        overlap: least part of a tile's side that its neighbour has too, above 0 and at most a half.
    """

    side: int
    overlap: float = 0.25

    def shape(self, images: tuple[int, int, int]) -> tuple[int, int, int]:
        """(H, W, C) of the tiles of such images."""
        height, width, channels = images
        return min(height, self.side), min(width, self.side), channels

    def grid(self, height: int, width: int) -> Grid:
        """The tiles of an image of that size."""
        return Grid(self._starts(height), self._starts(width), *self.shape((height, width, 1))[:2], height, width)

    def _starts(self, n: int) -> tuple[int, ...]:
        """Where tiles begin along n pixels: the first at 0, the last at the far border, evenly spaced."""
        if n <= self.side:
            return (0,)
        step = self.side - max(1, math.ceil(self.overlap * self.side))
        count = math.ceil((n - self.side) / max(1, step)) + 1
        return tuple(round(i * (n - self.side) / (count - 1)) for i in range(count))


@dataclass(frozen=True)
class Grid:
    """The tiles of one size of images, row by row.

    Attributes:
        tops, lefts: where they begin along each axis.
        height, width: of a tile; `image_height`, `image_width`: of an image.
    """

    tops: tuple[int, ...]
    lefts: tuple[int, ...]
    height: int
    width: int
    image_height: int
    image_width: int

    def __len__(self) -> int:
        return len(self.tops) * len(self.lefts)

    @cached_property
    def boxes(self) -> tuple[Box, ...]:
        """Rows and columns of each tile."""
        return tuple(
            (slice(top, top + self.height), slice(left, left + self.width)) for top in self.tops for left in self.lefts
        )

    def window(self, tile: int) -> np.ndarray:
        """(height, width) float64, the share that a tile has in each of its pixels; those of all tiles sum to 1."""
        row, column = divmod(tile, len(self.lefts))
        return np.outer(self._down[row], self._across[column])

    @cached_property
    def _down(self) -> np.ndarray:
        return _windows(self.tops, self.height, self.image_height)

    @cached_property
    def _across(self) -> np.ndarray:
        return _windows(self.lefts, self.width, self.image_width)


def _windows(starts: tuple[int, ...], side: int, n: int) -> np.ndarray:
    """(tiles, side), along one axis: sin^2 up where the one before ends, 1, down where the next begins; sum 1."""
    windows, total = np.ones((len(starts), side)), np.zeros(n)
    for before, (one, next_) in enumerate(zip(starts, starts[1:], strict=False)):
        both = one + side - next_
        rise = np.sin(0.5 * np.pi * (np.arange(both) + 0.5) / both) ** 2
        windows[before, side - both :] *= rise[::-1]
        windows[before + 1, :both] *= rise
    for start, window in zip(starts, windows, strict=True):
        total[start : start + side] += window
    return np.stack([window / total[start : start + side] for start, window in zip(starts, windows, strict=True)])
