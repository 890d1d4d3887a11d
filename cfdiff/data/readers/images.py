"""Single image files: PNG, JPEG, TIFF and BMP as arrays, one by one."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from cfdiff.data.fit import Fit, Shape
from cfdiff.data.limits import MAX_PIXELS
from cfdiff.data.raw import file_sha256
from cfdiff.data.readers.coded import bits
from cfdiff.data.readers.foreign import in_truth
from cfdiff.data.readers.listed import MANY
from cfdiff.data.readers.shown import orientation, profile, profile_notes, upright
from cfdiff.data.readers.tiff import TIFF_BEGINNINGS, Tiff, beside, opaque
from cfdiff.data.readers.tiff import decode as read_tiff
from cfdiff.data.readers.tiff import look as look_at_tiff
from cfdiff.errors import UserError, first_line, plain
from cfdiff.files import far

LOOKED = 1000
"""Of more than MANY files, how many are looked at before they are read."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
LOSSY = ("JPEG", "MPO", "WEBP", "JPEG2000", "AVIF")
FORMATS = ("PNG", "JPEG", "MPO", "TIFF", "BMP", "DIB", "GIF", "WEBP", "JPEG2000", "AVIF", "PPM")
"""What Pillow may take a file for, whatever it is called; of the others some start programs (EPS)."""
MAY_BE = (*SUFFIXES, ".jfif", ".jpe", ".dib", ".gif", ".webp", ".jp2", ".j2k", ".avif", ".ppm", ".pgm", ".pbm", ".pnm")
"""How files of FORMATS are called; for others it is no damage that they are none of these."""
CONVERT = "`cfdiff data convert` with --size and --gray or --rgb makes them so"
# Pillow mode -> channels, dtype; without an alpha channel.
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
    """Images in files of their own: sizes are checked from the headers at once, pixels are read on demand.

    Of more than MANY files only some are looked at beforehand, and each of the others when it is read.
    """

    def __init__(self, paths: Sequence[Path], ids: np.ndarray, fit: Fit | None) -> None:
        self.paths, self.ids, self.fit = paths, ids, fit or Fit()
        self.looked = range(0, len(paths), 1 if len(paths) <= MANY else -(-len(paths) // LOOKED))
        self.notes: tuple[str, ...] = ()
        self.shape, self.dtype = self._common()

    def _common(self) -> tuple[Shape, np.dtype]:
        """The one shape (H, W, C) and dtype of all files; UserError names two files that differ."""
        first: tuple[Shape, np.dtype] | None = None
        profiles: list[str | None] = []
        for row in self.looked:
            found = look(self.paths[row], str(self.ids[row]))
            profiles.append(found.profile)
            here = self.fit.shape(found.shape), found.dtype
            first = first or here
            if here != first:
                raise unlike(self.ids[0], first, self.ids[row], here)
        assert first is not None
        self.notes = profile_notes(profiles, of=len(self.paths))
        if len(self.looked) < len(self.paths):
            self.notes += (
                f"Of {len(self.paths):,} images the headers of {len(self.looked):,} were looked at: one of another "
                "size or that is damaged will be noticed when it is read.",
            )
        return first

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Images (B, H, W, C); UserError names a file that is damaged, of another size, or not what its header said at
        first."""
        return np.stack([self._one(row) for row in rows])

    def _one(self, row: int) -> np.ndarray:
        image = self.fit.image(decode(self.paths[row], str(self.ids[row])))
        if (here := (image.shape, image.dtype)) != (self.shape, self.dtype):
            if row not in self.looked:
                raise unlike(self.ids[0], (self.shape, self.dtype), self.ids[row], here)
            raise UserError(f"{self.ids[row]} was changed while it was in use: leave the images be, and start again.")
        return image

    def digest(self, rows: np.ndarray) -> str:
        """sha256 over the content of the files of some rows."""
        return digest_of(self.files(rows))

    def files(self, rows: np.ndarray) -> list[Path]:
        """Those of some rows."""
        return [self.paths[row] for row in rows]


def digest_of(paths: Sequence[Path | None]) -> str:
    """sha256 over the content of files; None stands for none."""
    h = hashlib.sha256()
    for path in paths:
        try:
            h.update(("none" if path is None else file_sha256(path)).encode() + b"\n")
        except OSError as error:
            assert path is not None
            raise unreadable(path, path.name, error) from error
    return h.hexdigest()


@dataclass(frozen=True)
class Look:
    """What an image file says of itself: (H, W, C) as it is shown, upright and without alpha, and the type.

    `profile` names a colour profile other than sRGB; `lossy` says that the pixels are near what was saved, not it;
    `turned_over` that what is stored as 0 is shown as white.
    """

    shape: Shape
    dtype: np.dtype
    profile: str | None = None
    lossy: bool = False
    turned_over: bool = False


def look(path: Path, shown: str | None = None) -> Look:
    """What the header of an image file says. `shown` is what messages call it.

    Raises:
        UserError: it is no image, or one that would be read wrongly: of several pages or frames, of other colours or
            other bits than can be read.
    """
    shown = shown or path.name
    tiff = _tiff(path, shown)
    with _image(path, shown, tiff) as image:
        if tiff is None:
            channels, dtype = MODES.get(image.mode, (3, np.uint8))
            _refuse_misread(image, path, shown)
            shape, lossy = (image.height, image.width, channels), image.format in LOSSY
        else:
            shape, dtype, lossy = tiff.shape, tiff.dtype.type, tiff.lossy
        if orientation(image) >= 5:
            shape = (shape[1], shape[0], shape[2])
        return Look(shape, np.dtype(dtype), profile(image, path), lossy, tiff is not None and tiff.white_is_zero)


def header(path: Path, shown: str | None = None) -> tuple[Shape, np.dtype]:
    """Shape (H, W, C) and dtype of an image file, as `look`."""
    found = look(path, shown)
    return found.shape, found.dtype


def decode(path: Path, shown: str | None = None) -> np.ndarray:
    """The pixels of an image file (H, W, C), upright: uint8, uint16, or float32.

    Raises:
        UserError: it cannot be read, or some of it is transparent, so that its colours are not what one sees.
    """
    shown = shown or path.name
    pixels, alpha = decode_all(path, shown)
    if alpha is not None and (alpha != opaque(alpha.dtype)).any():
        raise UserError(
            f"{shown} is transparent in places, and what is behind it is not said: save it on a background."
        )
    return pixels


def decode_all(path: Path, shown: str) -> tuple[np.ndarray, np.ndarray | None]:
    """The pixels (H, W, C) without alpha, and alpha (H, W) or None; upright."""
    tiff = _tiff(path, shown)
    with _image(path, shown, tiff) as image:
        if tiff is not None and not tiff.by_pillow:
            channels, dtype = tiff.shape[2], tiff.dtype.type
            values = read_tiff(path, shown)
            pixels, alpha = values[..., :channels], values[..., channels] if tiff.alpha else None
        else:
            channels, dtype = MODES.get(image.mode, (3, np.uint8))
            if tiff is None:
                _refuse_misread(image, path, shown)
            alpha = None
            if dtype == np.uint8:
                if image.has_transparency_data:
                    alpha = np.asarray(image.convert("RGBA"))[..., 3]
                image = _plain(image, channels)
            pixels = _stored(image)
            if dtype == np.uint16 and isinstance(clear := image.info.get("transparency"), int):
                alpha = np.where(pixels == clear, 0, 65535).astype(np.uint16)
        turn = orientation(image)
    if dtype == np.uint16 and (pixels.min() < 0 or pixels.max() > 65535):
        raise UserError(f"{shown} has pixels beyond 16 bits: save it with 8 or 16 bits, or as float in [0, 1].")
    pixels = pixels.astype(dtype).reshape(*pixels.shape[:2], channels)
    return upright(pixels, turn), None if alpha is None else upright(alpha, turn)


def indices(path: Path, shown: str) -> np.ndarray | None:
    """The numbers (H, W) of the colours of a picture with a palette, upright; None where it has none."""
    tiff = _tiff(path, shown)
    with _image(path, shown, tiff) as image:
        if image.mode != "P":
            return None
        numbers = _stored(image)
        return upright(numbers, orientation(image))


def _stored(image: Image.Image) -> np.ndarray:
    """The pixels of an image, loaded first: loading turns a TIFF upright, and numpy takes the shape before that."""
    image.load()
    return np.asarray(image)


def _plain(image: Image.Image, channels: int) -> Image.Image:
    """8-bit gray or RGB; what has a palette with transparency loses that alone."""
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA") if image.has_transparency_data else image
    return image.convert("L" if channels == 1 else "RGB")


def _tiff(path: Path, shown: str) -> Tiff | None:
    """What a TIFF says of itself; None for other images, and for what is no TIFF whatever it is called."""
    try:
        with path.open("rb") as file:
            if file.read(4) not in TIFF_BEGINNINGS:
                return None
        return look_at_tiff(path, shown)
    except UserError:
        raise
    except MemoryError as error:
        raise UserError(f"{shown} does not fit the memory: cut it into tiles.") from error
    except Exception as error:
        raise unreadable(path, shown, error) from error


@contextmanager
def _image(path: Path, shown: str, tiff: Tiff | None = None) -> Iterator[Image.Image]:
    """An image file; whatever Pillow says of a damaged one, and of one that claims to be huge, is a UserError.

    A TIFF that Pillow is not to read is an empty image with its orientation and colour profile.
    """
    try:
        if tiff is not None and (area := tiff.shape[0] * tiff.shape[1]) > MAX_PIXELS:
            raise Image.DecompressionBombError(f"Image size ({area} pixels)")
        if tiff is not None and not tiff.by_pillow:
            yield beside(path, shown)
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of what is damaged beside the pixels
            # Above MAX_PIXELS Pillow warns, and above twice that it raises: both come before any pixel is read.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            # As an open file: of a path Pillow maps the pixels into memory, at the size that a TIFF has once turned.
            with path.open("rb") as file, Image.open(file, formats=_formats()) as image:
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
        raise unreadable(path, shown, error) from error


@cache
def _formats() -> tuple[str, ...]:
    """Those of FORMATS that this Pillow has."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _refuse_misread(image: Image.Image, path: Path, shown: str) -> None:
    """Raise UserError for what Pillow would read, but wrongly and without a word."""
    if (frames := getattr(image, "n_frames", 1)) > 1:
        raise UserError(f"{shown} has {frames} frames: save each as a file of its own.")
    if image.mode in ("CMYK", "LAB", "HSV", "YCbCr"):
        raise UserError(f"{shown} has its colours as {image.mode}: save it as gray or RGB.")
    depth = bits(image, path)
    if depth > 8 and MODES.get(image.mode, (3, np.uint8))[1] == np.uint8:
        raise UserError(
            f"{shown} is a{'n' if image.format == 'AVIF' else ''} {image.format} of {depth} bits a channel in "
            f"{image.mode}, of which only 8 could be read: put such images as uint16 into a .npz or .h5."
        )


def unreadable(path: Path, shown: str, error: Exception) -> UserError:
    """The true reason why a file is no image."""
    if isinstance(error, FileNotFoundError):
        return UserError(f"{shown} is missing: correct its path or take it off the list.")
    if path.is_file() and path.stat().st_size == 0:
        return UserError(f"{shown} is empty (0 bytes): copy it again or remove it.")
    if isinstance(error, PermissionError):
        return UserError(f"{shown} may not be read ({error.strerror}): change its permissions or remove it.")
    if (away := far(error)) is not None:
        return UserError(f"{shown} {away}.")
    if path.is_dir():
        return UserError(f"{shown} is a folder and no image: correct its path or take it off the list.")
    if (truth := in_truth(path)) is not None:
        return UserError(f"{shown} is no image that can be read but {truth}.")
    if isinstance(error, UnidentifiedImageError):
        if path.suffix and path.suffix.lower() not in MAY_BE:
            return UserError(
                f"{shown} is no PNG, JPEG, TIFF, BMP, GIF, WebP, JPEG 2000, AVIF or PNM, and no other kind of picture "
                "is read: save it as PNG or TIFF."
            )
        return UserError(f"{shown} is no image: it may be truncated or corrupt, copy it again or remove it.")
    why = "" if isinstance(error, SyntaxError | AssertionError | TypeError) else f" ({plain(first_line(error))})"
    return UserError(
        f"{shown} cannot be read as an image{why}: it may be truncated or corrupt, copy it again or remove it."
    )


def unlike(one: str, first: tuple[Shape, np.dtype], other: str, here: tuple[Shape, np.dtype]) -> UserError:
    """What to say of two images that differ in shape or type."""
    how = "save them with the same bits" if here[0] == first[0] else CONVERT
    return UserError(f"{one} is {in_words(*first)} but {other} is {in_words(*here)}: all must be alike, {how}.")


def in_words(shape: Shape, dtype: np.dtype) -> str:
    return f"{shape[0]}x{shape[1]} with {shape[2]} channel{'s' if shape[2] > 1 else ''} of {dtype}"
