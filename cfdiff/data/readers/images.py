"""Single image files: PNG, JPEG, TIFF and BMP as arrays, one by one."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from cfdiff.data.fit import Fit, Shape
from cfdiff.data.limits import MAX_PIXELS
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
            shape, dtype = header(path, str(sample_id))
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
        """Images (B, H, W, C); UserError names a file that is damaged, or not what its header said at first."""
        return np.stack([self._one(row) for row in rows])

    def _one(self, row: int) -> np.ndarray:
        image = self.fit.image(decode(self.paths[row], str(self.ids[row])))
        if (image.shape, image.dtype) != (self.shape, self.dtype):
            raise UserError(f"{self.ids[row]} was changed while it was in use: leave the images be, and start again.")
        return image

    def digest(self, rows: np.ndarray) -> str:
        """sha256 over the content of the files of some rows."""
        return _digest([self.paths[row] for row in rows])


class MaskFiles:
    """One mask file an image; None stands for an empty mask."""

    def __init__(self, paths: Sequence[Path | None], shape: Shape, fit: Fit | None) -> None:
        self.paths, self.shape, self.fit = paths, shape, fit or Fit()

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Masks (B, H, W) bool: every pixel that is not 0."""
        return np.stack([self._one(self.paths[row]) for row in rows])

    def digest(self, rows: np.ndarray) -> str:
        """sha256 over the content of the files of some rows."""
        return _digest([self.paths[row] for row in rows])

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


def _digest(paths: Sequence[Path | None]) -> str:
    h = hashlib.sha256()
    for path in paths:
        try:
            h.update(("none" if path is None else file_sha256(path)).encode() + b"\n")
        except OSError as error:
            assert path is not None
            raise _unreadable(path, path.name, error) from error
    return h.hexdigest()


def header(path: Path, shown: str | None = None) -> tuple[Shape, np.dtype]:
    """Shape (H, W, C) and dtype of an image file, from its header. `shown` is what messages call it."""
    with _image(path, shown or path.name) as image:
        channels, dtype = MODES.get(image.mode, (3, np.uint8))
        _refuse_deep_colour(image, path, shown or path.name)
        return (image.height, image.width, channels), np.dtype(dtype)


def decode(path: Path, shown: str | None = None) -> np.ndarray:
    """The pixels of an image file (H, W, C): uint8, uint16, or float32."""
    with _image(path, shown or path.name) as image:
        channels, dtype = MODES.get(image.mode, (3, np.uint8))
        if dtype == np.uint8:
            image = image.convert("L" if channels == 1 else "RGB")
        pixels = np.asarray(image)
    if dtype == np.uint16 and (pixels.min() < 0 or pixels.max() > 65535):
        raise UserError(
            f"{shown or path.name} has pixels beyond 16 bits: save it with 8 or 16 bits, or as float in [0, 1]."
        )
    return pixels.astype(dtype).reshape(*pixels.shape[:2], channels)


@contextmanager
def _image(path: Path, shown: str) -> Iterator[Image.Image]:
    """An image file; whatever Pillow says of a damaged one, and of one that claims to be huge, is a UserError."""
    try:
        with warnings.catch_warnings():
            # Above MAX_PIXELS Pillow warns, and above twice that it raises: both come before any pixel is read.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                yield image
    except UserError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        claimed = re.search(r"\d+", str(error))
        pixels = f"{int(claimed[0]):,} pixels" if claimed else "a huge image"
        raise UserError(
            f"{shown} cannot be read: its header claims {pixels}, and {MAX_PIXELS:,} are the most; cut it into tiles."
        ) from error
    except MemoryError as error:
        raise UserError(f"{shown} does not fit the memory: cut it into tiles.") from error
    except Exception as error:  # the decoders of a dozen formats raise a dozen types for damaged files
        raise _unreadable(path, shown, error) from error


def _refuse_deep_colour(image: Image.Image, path: Path, shown: str) -> None:
    """Pillow cuts colour PNGs of 16 bits a channel down to 8 without a word; say it instead."""
    if image.format == "PNG" and image.mode in ("RGB", "RGBA", "LA"):
        with path.open("rb") as file:
            depth = file.read(25)[24]
        if depth == 16:
            raise UserError(
                f"{shown} is a PNG of 16 bits a channel in {image.mode}, of which only 8 could be read: "
                f"put such images as uint16 into a .npz or .h5."
            )


def _unreadable(path: Path, shown: str, error: Exception) -> UserError:
    if isinstance(error, FileNotFoundError):
        return UserError(f"{shown} is missing: correct its path or take it off the list.")
    if path.is_file() and path.stat().st_size == 0:
        return UserError(f"{shown} is empty (0 bytes): copy it again or remove it.")
    kind = "is no image" if isinstance(error, UnidentifiedImageError) else "cannot be read as an image"
    return UserError(f"{shown} {kind}: it may be truncated or corrupt, copy it again or remove it.")


def _words(shape: Shape, dtype: np.dtype) -> str:
    return f"{shape[0]}x{shape[1]} with {shape[2]} channel{'s' if shape[2] > 1 else ''} of {dtype}"
