"""TIFF slides, looked at before OpenSlide, which shows whatever it opens as 8-bit RGB, its first page alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tifffile

from cfdiff.data.readers.shown import ORIENTATION
from cfdiff.data.readers.tiff import COLOURS, SUFFIXES, TIFF_BEGINNINGS, frames_behind, kind_of_values
from cfdiff.errors import UserError

FULL = 0.75
"""A page with sides of at least so much of the largest is one of its own, and no level of a pyramid."""
ALPHA = (1, 2)
"""What TIFF calls a channel of transparency."""


def refuse_misread(path: Path, shown: str) -> None:
    """Raise UserError for a TIFF that OpenSlide would show otherwise than it is, without a word."""
    with path.open("rb") as file:
        if file.read(4) not in TIFF_BEGINNINGS:
            return
    with tifffile.TiffFile(path) as tiff:
        page: Any = tiff.pages[0]
        depths = set(page.bitspersample) if isinstance(page.bitspersample, tuple) else {page.bitspersample}
        if max(depths) > 8 or kind_of_values(page) != "uint":
            raise UserError(
                f"{shown} has {max(depths)} bits a channel ({kind_of_values(page)}), and slides are read with 8: save "
                "tiles of it as TIFF, which keep their bits, or scale it to 8 bits."
            )
        photometric = getattr(page.photometric, "name", str(page.photometric))
        more = page.samplesperpixel - COLOURS.get(photometric, 0)
        if photometric not in COLOURS or more < 0 or len(page.extrasamples) < more or _unknown(page):
            raise UserError(
                f"{shown} has {page.samplesperpixel} channels, called {photometric}, and slides are read as gray or "
                "RGB: save those that are meant as such."
            )
        if ORIENTATION in page.tags and page.tags[ORIENTATION].value != 1:
            raise UserError(f"{shown} says that it is to be turned, which slides are not: save it upright.")
        if path.suffix.lower() in SUFFIXES and (pages := _full_pages(tiff)) > 1:
            raise UserError(
                f"{shown} has {pages} pages in full size, and only the first would be read: save each as a file of its "
                "own."
            )


def _unknown(page: Any) -> bool:
    """Whether there are channels that are neither colours nor transparency."""
    return len(page.extrasamples) > 1 or any(int(sample) not in ALPHA for sample in page.extrasamples)


def _full_pages(tiff: tifffile.TiffFile) -> int:
    """Pages as large as the largest; scanners' files are not asked, whose levels and focal planes OpenSlide knows."""
    sides = [(page.imagelength, page.imagewidth) for page in tiff.pages if not page.is_reduced]  # type: ignore[union-attr]
    height, width = (max(side) for side in zip(*sides, strict=True)) if sides else (0, 0)
    full = sum(h >= FULL * height and w >= FULL * width for h, w in sides)
    return full if full > 1 else frames_behind(tiff, tiff.pages[0])
