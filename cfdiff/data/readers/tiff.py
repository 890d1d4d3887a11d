"""TIFF as it says that it is: Pillow alone takes 16-bit colour as 8 bits, and the first page of many for all.

Every TIFF is looked at by tifffile. What Pillow reads rightly (8 bits or less a channel, channels side by side, 16-bit
and float gray) Pillow decodes, which knows all the usual codecs; deeper colour and planes of their own are tifffile's.
"""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile

from cfdiff.errors import UserError

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what is wrong is said here, once
OWN_CODECS = {"NONE", "DEFLATE", "ADOBE_DEFLATE", "PACKBITS", "LZMA"}
"""Compressions that tifffile undoes itself; for others it needs imagecodecs."""
LOSSY = {"JPEG", "OJPEG", "JPEG_LOSSY", "JPEGXR", "JPEGXL", "WEBP", "APERIO_JP2000_YCBC", "APERIO_JP2000_RGB"}
COLOURS = {"MINISBLACK": 1, "MINISWHITE": 1, "RGB": 3, "PALETTE": 1, "YCBCR": 3}
"""Photometric interpretation -> channels stored."""


class Tiff(NamedTuple):
    """What a file says of itself: (H, W, C) without an alpha channel, as stored; and who decodes it."""

    shape: tuple[int, int, int]
    dtype: np.dtype
    alpha: bool
    lossy: bool
    by_pillow: bool


def look(path: Path, shown: str) -> Tiff:
    """What the one page of a TIFF is; UserError for what cannot be read as one image."""
    with tifffile.TiffFile(path) as file:
        return _look(file, shown)


def decode(path: Path, shown: str) -> np.ndarray:
    """The pixels (H, W, C) as stored, with an alpha channel last where there is one; for what Pillow does not read."""
    with tifffile.TiffFile(path) as file:
        found = _look(file, shown)
        page: Any = file.pages[0]
        if any(n <= 0 for n in page.databytecounts) or _end(page) > path.stat().st_size:
            raise UserError(f"{shown} is cut short: copy it again.")  # else what is missing would be read as zeros
        pixels = page.asarray()
    pixels = np.moveaxis(pixels, 0, -1) if page.planarconfig == 2 and pixels.ndim == 3 else pixels
    pixels = pixels.reshape(*found.shape[:2], found.shape[2] + found.alpha)
    if page.photometric.name == "MINISWHITE" and pixels.dtype.kind == "u":
        pixels = np.iinfo(pixels.dtype).max - pixels
    return pixels.astype(found.dtype.newbyteorder("="), copy=False)


def _end(page: Any) -> int:
    return max(a + b for a, b in zip(page.dataoffsets, page.databytecounts, strict=True))


def _look(file: tifffile.TiffFile, shown: str) -> Tiff:
    every: Any = file.pages
    pages = [page for page in every if not (page.is_reduced or page.is_mask)]
    if len(pages) != 1:
        raise UserError(f"{shown} has {len(pages)} pages: save each as a file of its own, with one page.")
    page: Any = file.pages[0]
    bits, kind = _one(page.bitspersample, shown, "bits"), _kind(page)
    photometric = getattr(page.photometric, "name", str(page.photometric))
    stored = COLOURS.get(photometric)
    if stored is None:
        raise UserError(f"{shown} has its colours as {photometric}: save it as gray or RGB.")
    alpha = page.samplesperpixel == stored + 1
    if page.samplesperpixel not in (stored, stored + 1) or page.imagedepth != 1:
        raise UserError(f"{shown} has {page.samplesperpixel} channels: 1 or 3 are needed, save those that count.")
    if (kind, bits) not in DEPTHS:
        raise UserError(
            f"{shown} has {bits} bits a channel ({kind}): save it with 8 or 16 bits scaled to the full range, or as "
            "float in [0, 1]."
        )
    shape = (page.imagelength, page.imagewidth, 3 if photometric == "PALETTE" else stored)
    planes = page.planarconfig == 2 and page.samplesperpixel > 1
    codec = getattr(page.compression, "name", str(page.compression))
    by_pillow = not planes and (bits <= 8 or (stored == 1 and not alpha and (kind, bits) not in (("float", 16),)))
    by_pillow = by_pillow and not (kind == "float" and bits == 64) and not (photometric == "MINISWHITE" and bits > 8)
    if not by_pillow and codec not in OWN_CODECS and importlib.util.find_spec("imagecodecs") is None:
        raise UserError(
            f"{shown} is packed by {codec} with {bits} bits a channel{' in planes' if planes else ''}: pip install "
            "imagecodecs, or save it uncompressed."
        )
    return Tiff(shape, np.dtype(DEPTHS[kind, bits]), alpha, codec in LOSSY, by_pillow)


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


def _kind(page: Any) -> str:
    formats = page.sampleformat if isinstance(page.sampleformat, tuple) else (page.sampleformat,)
    return {1: "uint", 2: "int", 3: "float", 4: "uint"}.get(int(formats[0]), "complex")
