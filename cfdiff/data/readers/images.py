"""Single image files: PNG, JPEG, TIFF and BMP as arrays, one by one."""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image, ImageCms, UnidentifiedImageError

from cfdiff.data.fit import Fit, Shape
from cfdiff.data.limits import MAX_PIXELS
from cfdiff.data.raw import file_sha256
from cfdiff.data.readers.foreign import in_truth
from cfdiff.data.readers.tiff import Tiff
from cfdiff.data.readers.tiff import decode as read_tiff
from cfdiff.data.readers.tiff import look as look_at_tiff
from cfdiff.errors import UserError, first_line, plain

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
ORIENTATION, ICC_PROFILE = 274, 34675
"""Tags of EXIF and TIFF."""
LOSSY = ("JPEG", "MPO", "WEBP", "JPEG2000")
TIFF_BEGINNINGS = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
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
    """Images in files of their own: sizes are checked from the headers at once, pixels are read on demand."""

    def __init__(self, paths: Sequence[Path], ids: np.ndarray, fit: Fit | None) -> None:
        self.paths, self.ids, self.fit = paths, ids, fit or Fit()
        self.notes: tuple[str, ...] = ()
        self.shape, self.dtype = self._common()

    def _common(self) -> tuple[Shape, np.dtype]:
        """The one shape (H, W, C) and dtype of all files; UserError names two files that differ."""
        first: tuple[Shape, np.dtype] | None = None
        profiles: Counter[str] = Counter()
        for path, sample_id in zip(self.paths, self.ids, strict=True):
            found = look(path, str(sample_id))
            profiles.update([] if found.profile is None else [found.profile])
            here = self.fit.shape(found.shape), found.dtype
            first = first or here
            if here != first:
                raise UserError(
                    f"{self.ids[0]} is {in_words(*first)} but {sample_id} is {in_words(*here)}: all must be "
                    f"alike, `cfdiff data convert` with --size and --gray or --rgb makes them so."
                )
        assert first is not None
        self.notes = tuple(
            f"{n:,} image{'s have' if n > 1 else ' has'} the colour profile {plain(name)!r}, not sRGB: the values are "
            "taken as they stand."
            for name, n in sorted(profiles.items())
        )
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
        """Masks (B, H, W) bool, as `decode_mask`."""
        return np.stack([self._one(self.paths[row]) for row in rows])

    def digest(self, rows: np.ndarray) -> str:
        """sha256 over the content of the files of some rows."""
        return _digest([self.paths[row] for row in rows])

    def _one(self, path: Path | None) -> np.ndarray:
        if path is None:
            return np.zeros(self.shape[:2], dtype=bool)
        mask = self.fit.mask(decode_mask(path))
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


@dataclass(frozen=True)
class Look:
    """What an image file says of itself: (H, W, C) as it is shown, upright and without alpha, and the type.

    `profile` names a colour profile other than sRGB; `lossy` says that the pixels are near what was saved, not it.
    """

    shape: Shape
    dtype: np.dtype
    profile: str | None = None
    lossy: bool = False


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
        if _turned(image):
            shape = (shape[1], shape[0], shape[2])
        return Look(shape, np.dtype(dtype), _profile(image), lossy)


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
    pixels, alpha = _decode(path, shown)
    if alpha is not None and (alpha != _opaque(alpha.dtype)).any():
        raise UserError(
            f"{shown} is transparent in places, and what is behind it is not said: save it on a background."
        )
    return pixels


def decode_mask(path: Path) -> np.ndarray:
    """A mask (H, W) bool: where a colour is not 0; or where it is not transparent, if the mask is in that channel.

    Raises:
        UserError: it cannot be read, is packed with losses, which smear a mask, or says two things.
    """
    if look(path).lossy:
        raise UserError(f"The mask {path.name} is a JPEG or alike, which smears its edges: save masks as PNG.")
    pixels, alpha = _decode(path, path.name)
    there = np.asarray((pixels != 0).any(axis=2))
    if alpha is None or (alpha == _opaque(alpha.dtype)).all():
        return there
    if (pixels == pixels[:1, :1]).all():
        return np.asarray(alpha != 0)
    if (there == (there & (alpha != 0))).all() and set(np.unique(alpha)) <= {0, _opaque(alpha.dtype)}:
        return there  # transparent only where it is 0 anyway
    raise UserError(
        f"The mask {path.name} has colours and transparency, which say different things: save it as black and white."
    )


def _decode(path: Path, shown: str) -> tuple[np.ndarray, np.ndarray | None]:
    """The pixels (H, W, C) without alpha, and alpha (H, W) or None; upright."""
    tiff = _tiff(path, shown)
    with _image(path, shown, tiff) as image:
        if tiff is not None and not tiff.by_pillow:
            channels, dtype = tiff.shape[2], tiff.dtype.type
            values = read_tiff(path, shown)
            pixels, alpha = values[..., :channels], values[..., channels] if tiff.alpha else None
        else:
            channels, dtype = MODES.get(image.mode, (3, np.uint8))
            _refuse_misread(image, path, shown)
            alpha = None
            if dtype == np.uint8:
                if image.has_transparency_data:
                    alpha = np.asarray(image.convert("RGBA"))[..., 3]
                image = _plain(image, channels)
            pixels = np.asarray(image)
        turn = _orientation(image)
    if dtype == np.uint16 and (pixels.min() < 0 or pixels.max() > 65535):
        raise UserError(f"{shown} has pixels beyond 16 bits: save it with 8 or 16 bits, or as float in [0, 1].")
    pixels = pixels.astype(dtype).reshape(*pixels.shape[:2], channels)
    return _upright(pixels, turn), None if alpha is None else _upright(alpha, turn)


def _opaque(dtype: np.dtype) -> int:
    return int(np.iinfo(dtype).max) if dtype.kind == "u" else 1


def _plain(image: Image.Image, channels: int) -> Image.Image:
    """8-bit gray or RGB; what has a palette with transparency loses that alone."""
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA") if image.has_transparency_data else image
    return image.convert("L" if channels == 1 else "RGB")


def _orientation(image: Image.Image) -> int:
    """1 to 8, as EXIF and TIFF say how the picture is to be turned."""
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except Exception:  # a damaged EXIF block says nothing
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _turned(image: Image.Image) -> bool:
    """Whether height and width change places when the picture is put upright."""
    return _orientation(image) >= 5


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """The pixels (H, W, ...) as they are to be seen (TIFF 6.0, tag 274)."""
    turned = np.swapaxes(pixels, 0, 1) if orientation >= 5 else pixels
    if orientation in (3, 4, 7, 8):
        turned = turned[::-1]
    if orientation in (2, 3, 6, 7):
        turned = turned[:, ::-1]
    return np.ascontiguousarray(turned)


def _profile(image: Image.Image) -> str | None:
    """The name of a colour profile that is not sRGB."""
    data = image.info.get("icc_profile")
    if not data or image.mode in ("1", "L", "I;16", "I", "F"):
        return None
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        name = ImageCms.getProfileDescription(profile).strip()
    except Exception:  # one that cannot be read
        return "of an unknown kind"
    return None if "srgb" in name.lower().replace(" ", "") else name or "without a name"


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
        raise _unreadable(path, shown, error) from error


@contextmanager
def _image(path: Path, shown: str, tiff: Tiff | None = None) -> Iterator[Image.Image]:
    """An image file; whatever Pillow says of a damaged one, and of one that claims to be huge, is a UserError.

    A TIFF that Pillow is not to read is an empty image with its orientation and colour profile.
    """
    try:
        if tiff is not None and (area := tiff.shape[0] * tiff.shape[1]) > MAX_PIXELS:
            raise Image.DecompressionBombError(f"Image size ({area} pixels)")
        if tiff is not None and not tiff.by_pillow:
            yield _beside(path)
            return
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


def _beside(path: Path) -> Image.Image:
    """An image of one pixel that says of itself what a TIFF says beside its pixels."""
    image = Image.new("RGB", (1, 1))
    with tifffile.TiffFile(path) as file:
        tags = file.pages[0].tags  # type: ignore[union-attr]
        if ORIENTATION in tags and isinstance(tags[ORIENTATION].value, int):
            image.getexif()[ORIENTATION] = int(tags[ORIENTATION].value)
        if ICC_PROFILE in tags:
            image.info["icc_profile"] = bytes(tags[ICC_PROFILE].value)
    return image


def _refuse_misread(image: Image.Image, path: Path, shown: str) -> None:
    """Raise UserError for what Pillow would read, but wrongly and without a word."""
    if (frames := getattr(image, "n_frames", 1)) > 1:
        raise UserError(f"{shown} has {frames} frames: save each as a file of its own.")
    if image.mode in ("CMYK", "LAB", "HSV", "YCbCr"):
        raise UserError(f"{shown} has its colours as {image.mode}: save it as gray or RGB.")
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
    if isinstance(error, PermissionError):
        return UserError(f"{shown} may not be read ({error.strerror}): change its permissions or remove it.")
    if (truth := in_truth(path)) is not None:
        return UserError(f"{shown} is no image that can be read but {truth}.")
    if isinstance(error, UnidentifiedImageError):
        return UserError(f"{shown} is no image: it may be truncated or corrupt, copy it again or remove it.")
    why = "" if isinstance(error, SyntaxError | AssertionError | TypeError) else f" ({plain(first_line(error))})"
    return UserError(
        f"{shown} cannot be read as an image{why}: it may be truncated or corrupt, copy it again or remove it."
    )


def in_words(shape: Shape, dtype: np.dtype) -> str:
    return f"{shape[0]}x{shape[1]} with {shape[2]} channel{'s' if shape[2] > 1 else ''} of {dtype}"
