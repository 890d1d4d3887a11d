"""TIFF as it says that it is: Pillow alone takes 16-bit colour as 8 bits, and the first page of many for all.

Every TIFF is looked at by tifffile. What Pillow reads rightly (8 bits or less a channel, channels side by side, 16-bit
and float gray) Pillow decodes, which knows all the usual codecs; deeper colour, planes of their own, and whatever
Pillow does not open, such as BigTIFF in big-endian order, are tifffile's.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import struct
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile
from PIL import Image

from cfdiff.data.readers.shown import ICC_PROFILE, ORIENTATION
from cfdiff.errors import UserError

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what is wrong is said here, once
SUFFIXES = (".tif", ".tiff")
TIFF_BEGINNINGS = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
OWN_CODECS = {"NONE", "DEFLATE", "ADOBE_DEFLATE", "PACKBITS", "LZMA"}
"""Compressions that tifffile undoes itself; for others it needs imagecodecs."""
LOSSY = {"JPEG", "OJPEG", "JPEG_LOSSY", "JPEGXR", "JPEGXL", "WEBP", "APERIO_JP2000_YCBC", "APERIO_JP2000_RGB"}
NOT_PILLOW = {"WEBP"}
"""Compressions that Pillow names and cannot undo in its wheels."""
COLOURS = {"MINISBLACK": 1, "MINISWHITE": 1, "RGB": 3, "PALETTE": 1, "YCBCR": 3}
"""Photometric interpretation -> channels stored."""
STRUCTURE = {256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325, 338, 339}
"""Tags that say how the pixels lie: without one of them others would be read, or none."""


class Tiff(NamedTuple):
    """What a file says of itself: (H, W, C) without an alpha channel, as stored; and who decodes it."""

    shape: tuple[int, int, int]
    dtype: np.dtype
    alpha: bool
    lossy: bool
    by_pillow: bool
    white_is_zero: bool


def look(path: Path, shown: str) -> Tiff:
    """What the one page of a TIFF is; UserError for what cannot be read as one image."""
    with tifffile.TiffFile(path) as file:
        return _look(file, _page(file, shown), path, shown)


def decode(path: Path, shown: str) -> np.ndarray:
    """The pixels (H, W, C) as stored, with an alpha channel last where there is one; for what Pillow does not read."""
    with tifffile.TiffFile(path) as file:
        page = _page(file, shown)
        found = _look(file, page, path, shown)
        if _end(page) > path.stat().st_size:
            raise UserError(f"{shown} is cut short: copy it again.")  # else what is missing would be read as zeros
        pixels, colours = page.asarray(), page.colormap
    pixels = np.moveaxis(pixels, 0, -1) if page.planarconfig == 2 and pixels.ndim == 3 else pixels
    if colours is not None:
        pixels = np.moveaxis(colours >> 8, 0, -1)[pixels]
    elif page.bitspersample < 8:
        pixels = pixels.astype(np.uint8) * np.uint8(255 // (2**page.bitspersample - 1))
    pixels = pixels.reshape(*found.shape[:2], found.shape[2] + found.alpha)
    if page.photometric.name == "MINISWHITE" and pixels.dtype.kind == "u":
        pixels = np.iinfo(pixels.dtype).max - pixels
    if 0 in page.extrasamples and (pixels[..., -1] != opaque(pixels.dtype)).any():
        raise UserError(f"{shown} has a channel beside its colours, and does not say what it is: save it without.")
    return pixels.astype(found.dtype.newbyteorder("="), copy=False)


def beside(path: Path, shown: str) -> Image.Image:
    """An image of one pixel that says of itself what a TIFF says beside its pixels: orientation and colour profile."""
    image = Image.new("RGB", (1, 1))
    with tifffile.TiffFile(path) as file:
        tags = _page(file, shown).tags
        if ORIENTATION in tags and isinstance(tags[ORIENTATION].value, int):
            image.getexif()[ORIENTATION] = int(tags[ORIENTATION].value)
        if ICC_PROFILE in tags:
            image.info["icc_profile"] = bytes(tags[ICC_PROFILE].value)
    return image


def opaque(dtype: np.dtype) -> int:
    """The value of an alpha channel where nothing shines through."""
    return int(np.iinfo(dtype).max) if dtype.kind == "u" else 1


def _end(page: Any) -> int:
    return max(a + b for a, b in zip(page.dataoffsets, page.databytecounts, strict=True))


def _page(file: tifffile.TiffFile, shown: str) -> Any:
    """The one page in full size; thumbnails and pyramids beside it do not count, a mask of transparency does."""
    every: list[Any] = list(file.pages)
    pages = [page for page in every if not page.is_reduced]
    count = frames_behind(file, pages[0]) if len(pages) == 1 else len(pages)
    if count > 1:
        raise UserError(f"{shown} has {count} pages: save each as a file of its own, with one page.")
    if not every:
        raise UserError(f"{shown} has no page that can be read: it may be damaged, copy it again or save it anew.")
    _refuse_cut(file, (pages or every)[0], shown)
    if not pages:
        raise UserError(
            f"{shown} has no page in full size, only such as are called reduced, as in raw files of cameras: save the "
            "picture itself as TIFF or PNG."
        )
    return pages[0]


def _refuse_cut(file: tifffile.TiffFile, page: Any, shown: str) -> None:
    """Raise UserError where the list of a page's tags, or the value of one in STRUCTURE, ends with the file.

    libtiff writes that list behind the pixels. tifffile passes over what is missing and takes its default (1 bit, not
    packed), so that a file that lacks its last bytes would be read as noise.
    """
    form, handle = file.tiff, file.filehandle
    handle.seek(page.offset)
    head = handle.read(form.tagnosize)
    count = struct.unpack(form.tagnoformat, head)[0] if len(head) == form.tagnosize else 0
    body = handle.read(count * form.tagsize)
    codes = {struct.unpack_from(f"{form.byteorder}H", body, at)[0] for at in range(0, len(body) - 1, form.tagsize)}
    if not count or len(body) < count * form.tagsize or any(code not in page.tags for code in codes & STRUCTURE):
        raise UserError(f"{shown} is cut short, or the list of its tags is damaged: copy it again.")


def frames_behind(file: tifffile.TiffFile, page: Any) -> int:
    """How many frames follow behind one header, as ImageJ, MetaMorph and tifffile store stacks."""
    if not (file.is_imagej or file.is_shaped or file.is_stk):
        return 1
    try:
        return max(1, *(math.prod(series.shape) // math.prod(page.shape) for series in file.series))
    except Exception:  # what they say of themselves is damaged
        return 1


def _look(file: tifffile.TiffFile, page: Any, path: Path, shown: str) -> Tiff:
    bits, kind = _one(page.bitspersample, shown, "bits"), kind_of_values(page)
    photometric = getattr(page.photometric, "name", str(page.photometric))
    stored = COLOURS.get(photometric)
    if stored is None:
        raise UserError(f"{shown} has its colours as {photometric}: save it as gray or RGB.")
    alpha = page.samplesperpixel == stored + 1
    if page.samplesperpixel not in (stored, stored + 1) or page.imagedepth != 1:
        raise UserError(
            f"{shown} has {page.samplesperpixel} channels, called {photometric}: save it as gray, of one channel, or "
            "as RGB."
        )
    if (kind, bits) not in DEPTHS:
        raise UserError(
            f"{shown} has {bits} bits a channel ({kind}): save it with 8 or 16 bits scaled to the full range, or as "
            "float in [0, 1]."
        )
    if photometric == "MINISWHITE" and (kind != "uint" or bits > 16):
        raise UserError(
            f"{shown} says that its 0 is white, and its values ({kind}, {bits} bits) do not say what is black: save it "
            "with black as 0."
        )
    if any(size <= 0 for size in page.databytecounts):
        raise UserError(f"{shown} leaves out some of its pixels, as a sparse or damaged TIFF does: save it whole.")
    shape = (page.imagelength, page.imagewidth, 3 if photometric == "PALETTE" else stored)
    planes = page.planarconfig == 2 and page.samplesperpixel > 1
    codec = getattr(page.compression, "name", str(page.compression))
    by_pillow = not planes and (bits <= 8 or (stored == 1 and not alpha and (kind, bits) not in (("float", 16),)))
    by_pillow = by_pillow and not (kind == "float" and bits == 64) and not (photometric == "MINISWHITE" and bits > 8)
    by_pillow = by_pillow and 0 not in page.extrasamples and page.offset == file.pages[0].offset
    by_pillow = by_pillow and codec not in NOT_PILLOW and _pillow_opens(path)
    if not by_pillow and photometric == "YCBCR":
        raise UserError(f"{shown} has its colours as YCBCR, in a layout that is rare: save it as RGB.")
    if not by_pillow and codec not in OWN_CODECS and importlib.util.find_spec("imagecodecs") is None:
        raise UserError(
            f"{shown} is packed by {codec} with {bits} bits a channel{' in planes' if planes else ''}: pip install "
            "imagecodecs, or save it uncompressed."
        )
    dtype = np.uint8 if photometric == "PALETTE" else DEPTHS[kind, bits]  # of a palette, bits are those of its numbers
    return Tiff(shape, np.dtype(dtype), alpha, codec in LOSSY, by_pillow, photometric == "MINISWHITE")


def _pillow_opens(path: Path) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(path, formats=("TIFF",)):
                return True
        except Exception:
            return False


DEPTHS: dict[tuple[str, int], type[np.generic]] = {
    **{("uint", bits): np.uint8 for bits in (1, 2, 4, 8)},
    ("uint", 16): np.uint16,
    ("uint", 32): np.uint16,  # as long as the values are within 16 bits
    ("int", 32): np.uint16,
    ("float", 16): np.float32,
    ("float", 32): np.float32,
    ("float", 64): np.float32,
}
"""Kind and bits of a channel -> the type that they are read as."""


def _one(values: Any, shown: str, what: str) -> int:
    """The one number that all channels share."""
    several = set(values) if isinstance(values, tuple) else {values}
    if len(several) != 1:
        raise UserError(f"{shown} has channels of different {what}: save them alike.")
    return int(several.pop())


def kind_of_values(page: Any) -> str:
    """uint, int, float or complex."""
    formats = page.sampleformat if isinstance(page.sampleformat, tuple) else (page.sampleformat,)
    return {1: "uint", 2: "int", 3: "float", 4: "uint"}.get(int(formats[0]), "complex")
