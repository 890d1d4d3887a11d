"""What a picture says of how it is to be seen: which way up, and in which colours."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from cfdiff.data.readers.coded import video_colours
from cfdiff.errors import plain

ORIENTATION, ICC_PROFILE = 274, 34675
"""Tags of EXIF and TIFF."""
SRGB_GAMMA, NEAR = 0.45455, 0.01
"""What a PNG says whose values are stored as those of sRGB are, and how near to it others may be."""


def orientation(image: Image.Image) -> int:
    """1 to 8, as EXIF and TIFF say how the picture is to be turned."""
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except Exception:  # a damaged EXIF block says nothing
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def upright(pixels: np.ndarray, turn: int) -> np.ndarray:
    """The pixels (H, W, ...) as they are to be seen (TIFF 6.0, tag 274)."""
    turned = np.swapaxes(pixels, 0, 1) if turn >= 5 else pixels
    if turn in (3, 4, 7, 8):
        turned = turned[::-1]
    if turn in (2, 3, 6, 7):
        turned = turned[:, ::-1]
    return np.ascontiguousarray(turned)


def profile(image: Image.Image, path: Path) -> str | None:
    """The name of a colour profile that is not sRGB; of gray too, where it says how bright the values are."""
    if (points := video_colours(image, path)) is not None:  # goes before all else
        return points
    data, gamma = image.info.get("icc_profile"), image.info.get("gamma")
    if data:
        return named(data)
    said = isinstance(gamma, float) and gamma > 0 and "srgb" not in image.info
    return f"of gamma {1 / float(gamma):.2g}" if gamma and said and abs(gamma - SRGB_GAMMA) > NEAR else None


def named(data: bytes) -> str | None:
    """The name of an ICC profile; None for sRGB and its gray."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        name = ImageCms.getProfileDescription(profile).strip()
    except Exception:  # one that cannot be read
        return "of an unknown kind"
    usual = name.lower().replace(" ", "")
    return None if "srgb" in usual or "sgray" in usual else name or "without a name"


def profile_notes(found: Sequence[str | None], what: str = "image", of: int | None = None) -> tuple[str, ...]:
    """A sentence for each colour profile of some images or files, as none is applied.

    `of` is how many there are, where only those in `found` were looked at.
    """
    were = "was" if len(found) == 1 else "were"
    few = f" of the {len(found):,} that {were} looked at" if of is not None and of > len(found) else ""
    return tuple(
        f"{n:,} {what}{'s' if n > 1 else ''}{few} {'have' if n > 1 else 'has'} the colour profile {plain(name)!r}, not "
        "sRGB: the values are taken as they stand."
        for name, n in sorted(Counter(name for name in found if name is not None).items())
    )
