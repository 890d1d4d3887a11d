"""What a picture says of how it is to be seen: which way up, and in which colours."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms

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


def profile(image: Image.Image) -> str | None:
    """The name of a colour profile that is not sRGB; of gray too, where it says how bright the values are."""
    data, gamma = image.info.get("icc_profile"), image.info.get("gamma")
    if not data:
        said = isinstance(gamma, float) and gamma > 0 and "srgb" not in image.info
        return f"of gamma {1 / float(gamma):.2g}" if gamma and said and abs(gamma - SRGB_GAMMA) > NEAR else None
    return profile_name(data)


def profile_name(data: bytes) -> str | None:
    """The name of an ICC profile; None for sRGB and its gray."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        name = ImageCms.getProfileDescription(profile).strip()
    except Exception:  # one that cannot be read
        return "of an unknown kind"
    plain = name.lower().replace(" ", "")
    return None if "srgb" in plain or "sgray" in plain else name or "without a name"
