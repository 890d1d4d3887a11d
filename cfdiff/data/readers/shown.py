"""What a picture says of how it is to be seen: which way up, and in which colours."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from cfdiff.data.readers.coded import video_colours
from cfdiff.errors import plain

ORIENTATION, ICC_PROFILE = 274, 34675
"""Tags of EXIF and TIFF."""
SRGB_GAMMA, NEAR = 0.45455, 0.01
"""What a PNG says whose values are stored as those of sRGB are, and how near to it others may be."""
SRGB_PRIMARIES = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
PRIMARIES = {"Display P3": (0.68, 0.32, 0.265, 0.69, 0.15, 0.06), "Adobe RGB": (0.64, 0.33, 0.21, 0.71, 0.15, 0.06)}
"""Red, green and blue, x and y of each."""
EXIF, INTEROPERABILITY, COLOUR_SPACE, UNCALIBRATED = 0x8769, 0xA005, 0xA001, 0xFFFF
"""Directories and a tag of EXIF, and what it says of colours that are not sRGB."""
GRAY_MODES = ("1", "L", "LA", "I;16", "I;16L", "I;16B", "I", "F")
UNSEEN = 3
"""Steps of 255 by which a profile may differ from sRGB and be it: rounded tables do."""


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
    if data := image.info.get("icc_profile"):
        return named(data)
    if "srgb" in image.info:
        return None
    gamma, primaries = image.info.get("gamma"), image.info.get("chromaticity")
    if isinstance(gamma, float) and gamma > 0 and abs(gamma - SRGB_GAMMA) > NEAR:
        return f"of gamma {1 / gamma:.2g}"
    if primaries and image.mode not in GRAY_MODES and not _near(primaries[2:], SRGB_PRIMARIES):
        return next((name for name, known in PRIMARIES.items() if _near(primaries[2:], known)), "of other primaries")
    return _by_camera(image)


def _near(values: Sequence[float], others: Sequence[float]) -> bool:
    return all(abs(a - b) <= NEAR for a, b in zip(values, others, strict=True))


def _by_camera(image: Image.Image) -> str | None:
    """The colours that EXIF names, as cameras do where they store no profile (DCF: Adobe RGB is R03)."""
    try:
        exif = image.getexif()
        space, index = exif.get_ifd(EXIF).get(COLOUR_SPACE), str(exif.get_ifd(INTEROPERABILITY).get(1) or "")
    except Exception:  # a damaged EXIF block says nothing
        return None
    if space == 2 or (space == UNCALIBRATED and index.startswith("R03")):
        return "Adobe RGB"
    return "uncalibrated, as EXIF says" if space == UNCALIBRATED and image.mode not in GRAY_MODES else None


@lru_cache(maxsize=64)
def named(data: bytes) -> str | None:
    """The name of an ICC profile; None for sRGB and its gray, whatever they are called: what it does counts."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        name = ImageCms.getProfileDescription(profile).strip()
    except Exception:  # one that cannot be read
        return "of an unknown kind"
    usual = name.lower().replace(" ", "")
    called = "srgb" in usual or "sgray" in usual
    moved = _moved(profile)
    if called if moved is None else moved <= UNSEEN:
        return None
    return f"{name} (sRGB in its name alone)" if called else name or "without a name"


def _moved(profile: ImageCms.ImageCmsProfile) -> int | None:
    """How far, of 255, colours move at most from the profile to sRGB; None where that cannot be tried."""
    mode = {"RGB": "RGB", "GRAY": "L"}.get(profile.profile.xcolor_space.strip())
    if mode is None:
        return None
    levels = np.arange(0, 256, 51, dtype=np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), axis=-1)
    colours = grid.reshape(1, -1, 3) if mode == "RGB" else levels[None]
    try:
        there = ImageCms.profileToProfile(
            Image.fromarray(colours), profile, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except Exception:  # one that says how to come to its colours, and not back
        return None
    flat = np.asarray(Image.fromarray(colours).convert("RGB")).astype(int)
    return int(np.abs(np.asarray(there).astype(int) - flat).max())


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
