"""How a colour image changed, as the eye tells colours apart: lightness and hue in CIELAB, beside |difference|.

The signed mean over the channels, which says all of a gray image, is blind to a change of hue: a pixel that turns from
pink to purple keeps its mean. So the change is shown as three maps, of which each says what it leaves out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cfdiff.data.values import unit

LIGHTNESS = 100.0
"""L* of white: changes of lightness are shown in fractions of it, as other differences in fractions of full range."""
NEUTRAL = 62.0
"""L* of the grey that stands for an unchanged colour: there the screen can show the most saturated colours."""
VIVID = 55.0
"""Chroma, in units of a* and b*, of the strongest change that is drawn."""
LEAST = 5.0
"""Change of a* and b* below which none is drawn at full strength: twice what one can see side by side."""


@dataclass(frozen=True, eq=False)
class ColourChange:
    """Of colour images: lightness (..., H, W) signed, in fractions of white; chroma (..., H, W, 2), the change of a*
    and b*; absolute (..., H, W), the mean |difference| over the channels in [0, 1]."""

    lightness: np.ndarray
    chroma: np.ndarray
    absolute: np.ndarray


def is_colour(shape: tuple[int, ...]) -> bool:
    """Whether images of shape (..., H, W, C) are in colour."""
    return shape[-1] == 3


def colour_change(source: np.ndarray, counterfactual: np.ndarray) -> ColourChange:
    """Of stored sRGB images (..., H, W, 3)."""
    from skimage.color import rgb2lab

    before, after = unit(source), unit(counterfactual)
    moved = (rgb2lab(after) - rgb2lab(before)).astype(np.float32)
    return ColourChange(moved[..., 0] / LIGHTNESS, moved[..., 1:], np.abs(after - before).mean(axis=-1))


def chroma_range(chroma: np.ndarray) -> float:
    """The change of a* and b* that is drawn in full colour: one that holds 99.9 % of the pixels, at least `LEAST`."""
    return max(float(np.quantile(np.hypot(*np.moveaxis(chroma, -1, 0)), 0.999)), LEAST)


def chroma_view(chroma: np.ndarray, limit: float) -> np.ndarray:
    """RGB (..., H, W, 3) in [0, 1]: grey where the colour stayed, else the hue that it moved towards."""
    from skimage.color import lab2rgb

    size = np.hypot(*np.moveaxis(chroma, -1, 0))[..., None]
    shade = chroma * (VIVID / limit) / np.maximum(size / limit, 1.0)
    light = np.full(chroma.shape[:-1], NEUTRAL, np.float32)[..., None]
    return np.clip(lab2rgb(np.concatenate([light, shade], axis=-1)), 0, 1)
