"""Single image files: PNG, JPEG, TIFF and BMP as arrays, one by one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from cfdiff.data.fit import Fit, Shape
from cfdiff.data.raw import file_sha256
from cfdiff.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
# Pillow mode -> channels, dtype. An alpha channel is dropped.
MODES = {
    "1": (1, np.uint8),
    "L": (1, np.uint8),
    "LA": (1, np.uint8),
    "I;16": (1, np.uint16),
    "I;16L": (1, np.uint16),
    "I;16B": (1, np.uint16),
    "I": (1, np.uint16),
    "F": (1, np.float32),
}


class ImageFiles:
    """Images in files of their own: sizes are checked from the headers at once, pixels are read on demand."""

    def __init__(self, paths: Sequence[Path], ids: np.ndarray, fit: Fit | None) -> None:
        self.paths, self.ids, self.fit = paths, ids, fit or Fit()
        self.shape, self.dtype = self._common()

    def _common(self) -> tuple[Shape, np.dtype]:
        """The one shape (H, W, C) and dtype of all files; UserError names two files that differ."""
        first: tuple[Shape, np.dtype] | None = None
        for path, sample_id in zip(self.paths, self.ids, strict=True):
            shape, dtype = header(path)
            here = self.fit.shape(shape), dtype
            first = first or here
            if here != first:
                raise UserError(
                    f"{self.ids[0]} is {_words(*first)} but {sample_id} is {_words(*here)}: all must be "
                    f"alike, `cfdiff data convert` with --size and --gray or --rgb makes them so."
                )
        assert first is not None
        return first

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Images (B, H, W, C)."""
        return np.stack([self.fit.image(decode(self.paths[row])) for row in rows])

    def digest(self) -> str:
        """sha256 over the ids and the files' content."""
        h = hashlib.sha256()
        for path, sample_id in zip(self.paths, self.ids, strict=True):
            h.update(f"{sample_id}\0{file_sha256(path)}\n".encode())
        return h.hexdigest()


class MaskFiles:
    """One mask file an image; None stands for an empty mask."""

    def __init__(self, paths: Sequence[Path | None], shape: Shape, fit: Fit | None) -> None:
        self.paths, self.shape, self.fit = paths, shape, fit or Fit()

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Masks (B, H, W) bool: every pixel that is not 0."""
        return np.stack([self._one(self.paths[row]) for row in rows])

    def _one(self, path: Path | None) -> np.ndarray:
        if path is None:
            return np.zeros(self.shape[:2], dtype=bool)
        mask = self.fit.mask(np.asarray(decode(path).any(axis=2)))
        if mask.shape != self.shape[:2]:
            raise UserError(
                f"The mask {path.name} is {mask.shape[0]}x{mask.shape[1]} but its image is "
                f"{self.shape[0]}x{self.shape[1]}: they must have the same size."
            )
        return mask


# What Pillow raises for damaged files; a damaged header may also claim a picture too large to open.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


def header(path: Path) -> tuple[Shape, np.dtype]:
    """Shape (H, W, C) and dtype of an image file, from its header."""
    try:
        with Image.open(path) as image:
            channels, dtype = MODES.get(image.mode, (3, np.uint8))
            _refuse_deep_colour(image, path)
            return (image.height, image.width, channels), np.dtype(dtype)
    except _DAMAGE as error:
        raise _unreadable(path, error) from error


def decode(path: Path) -> np.ndarray:
    """The pixels of an image file (H, W, C): uint8, uint16, or float32."""
    try:
        with Image.open(path) as image:
            channels, dtype = MODES.get(image.mode, (3, np.uint8))
            if dtype == np.uint8:
                image = image.convert("L" if channels == 1 else "RGB")  # type: ignore[assignment]
            pixels = np.asarray(image)
    except _DAMAGE as error:
        raise _unreadable(path, error) from error
    if dtype == np.uint16 and (pixels.min() < 0 or pixels.max() > 65535):
        raise UserError(f"{path.name} has pixels beyond 16 bits: save it with 8 or 16 bits, or as float in [0, 1].")
    return pixels.astype(dtype).reshape(*pixels.shape[:2], channels)


def _refuse_deep_colour(image: Image.Image, path: Path) -> None:
    """Pillow cuts colour PNGs of 16 bits a channel down to 8 without a word; say it instead."""
    if image.format == "PNG" and image.mode in ("RGB", "RGBA", "LA"):
        with path.open("rb") as file:
            depth = file.read(25)[24]
        if depth == 16:
            raise UserError(
                f"{path.name} is a PNG of 16 bits a channel in {image.mode}, of which only 8 could be read: "
                f"put such images as uint16 into a .npz or .h5."
            )


def _unreadable(path: Path, error: Exception) -> UserError:
    if isinstance(error, FileNotFoundError):
        return UserError(f"{path.name} is missing: correct its path or take it off the list.")
    if path.is_file() and path.stat().st_size == 0:
        return UserError(f"{path.name} is empty (0 bytes): copy it again or remove it.")
    kind = "is no image" if isinstance(error, UnidentifiedImageError) else "cannot be read as an image"
    return UserError(f"{path.name} {kind}: it may be truncated or corrupt, copy it again or remove it.")


def _words(shape: Shape, dtype: np.dtype) -> str:
    return f"{shape[0]}x{shape[1]} with {shape[2]} channel{'s' if shape[2] > 1 else ''} of {dtype}"
