"""Masks as picture files: black and white, in colours or in transparency, and never smeared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cfdiff.data.arrays import AS_0_AND_1, GROUNDLESS, SHADED, groundless, shaded, smeared
from cfdiff.data.fit import Fit, Shape
from cfdiff.data.readers.images import decode_all, digest_of, indices, look
from cfdiff.data.readers.tiff import opaque
from cfdiff.errors import UserError


class MaskFiles:
    """The mask files of each image, which count together; none stand for an empty mask."""

    def __init__(self, paths: Sequence[Sequence[Path]], shape: Shape, fit: Fit | None) -> None:
        self.paths, self.shape, self.fit = paths, shape, fit or Fit()

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Masks (B, H, W) bool, as `decode_mask`."""
        return np.stack([self._all(self.paths[row]) for row in rows])

    def digest(self, rows: np.ndarray) -> str:
        """sha256 over the content of the files of some rows."""
        return digest_of(self.files(rows))

    def files(self, rows: np.ndarray) -> list[Path | None]:
        """Those of some rows; None for a row without one."""
        return [path for row in rows for path in (self.paths[row] or (None,))]

    def _all(self, paths: Sequence[Path]) -> np.ndarray:
        mask = np.zeros(self.shape[:2], dtype=bool)
        for path in paths:
            mask |= self._one(path)
        return mask

    def _one(self, path: Path) -> np.ndarray:
        mask = self.fit.mask(decode_mask(path))
        if mask.shape != self.shape[:2]:
            raise UserError(
                f"The mask {path.name} is {mask.shape[0]}x{mask.shape[1]} but its image is "
                f"{self.shape[0]}x{self.shape[1]}: they must have the same size."
            )
        return mask


def decode_mask(path: Path, shown: str | None = None) -> np.ndarray:
    """A mask (H, W) bool: where a colour is not 0; or where it is not transparent, if the mask is in that channel.

    `shown` is what messages call it.

    Raises:
        UserError: it cannot be read, is packed with losses, which smear a mask, or says two things.
    """
    shown = shown or path.name
    found = look(path, shown)
    if found.lossy:
        raise UserError(f"The mask {shown} is a JPEG or alike, which smears its edges: save masks as PNG.")
    if found.turned_over:
        raise UserError(
            f"The mask {shown} says that its 0 is white, as tifffile writes arrays of bool, so that it could mean "
            "either: save it as uint8, 0 and 255."
        )
    pixels, alpha = decode_all(path, shown)
    if np.isnan(pixels).any():
        raise UserError(f"The mask {shown} has values that are no numbers (NaN): save masks as black and white.")
    there = np.asarray((pixels != 0).any(axis=2))
    numbers = indices(path, shown)
    if numbers is not None and ((numbers != 0) != there).any():
        raise UserError(
            f"The mask {shown} has a palette in which the colour of number 0 is not black, or another one is, so "
            "that it could mean either: save it as black and white."
        )
    if smeared(pixels[None]).any():
        raise UserError(
            f"The mask {shown} has many values near black and white, as a JPEG that was saved again has: make it "
            "black and white (mask > 127), and save it as PNG."
        )
    if shaded(pixels[None]).any():
        raise UserError(f"The mask {shown} is one {SHADED}: {AS_0_AND_1}.")
    if alpha is None or (alpha == opaque(alpha.dtype)).all():
        if groundless(pixels[None]).any():
            raise UserError(f"The mask {shown} is {GROUNDLESS}: {AS_0_AND_1}.")
        return there
    if (pixels == pixels[:1, :1]).all():
        return np.asarray(alpha != 0)
    if (there == (there & (alpha != 0))).all() and set(np.unique(alpha)) <= {0, opaque(alpha.dtype)}:
        return there  # transparent only where it is 0 anyway
    raise UserError(
        f"The mask {shown} has colours and transparency, which say different things: save it as black and white."
    )
