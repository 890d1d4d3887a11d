"""Where a fit runs its diffusion: in pixels while they are few, from `LATENT_FROM` on in latents."""

from __future__ import annotations

import math
from typing import Any

from cfdiff.models.autoencoder import AutoencoderConfig

LATENT_FROM = 96
"""Pixels of the longer side from which a diffusion model learns more in the same time in latents."""
FINE_UP_TO = 256
"""The longer side up to which latents are a quarter as large as the images; beyond, an eighth."""
COLOUR = 8
"""Channels of the latents of colour images: the principal components of 4 x 4 pixels draw cells of 128 px at 32.3 dB
with 8, at 26.9 dB with 4."""
PATCH = 2
"""Of the U-Net, as in train.settings: what it sees must be a multiple of it."""


def fitting_space(asked: str, shape: tuple[int, int, int]) -> str:
    """The space of images (H, W, C): the one that is asked for, or for "auto" by their size."""
    return asked if asked != "auto" else "latent" if max(shape[:2]) >= LATENT_FROM else "pixel"


def autoencoder_of(shape: tuple[int, int, int]) -> dict[str, Any]:
    """Settings of the autoencoder of images (H, W, C) that differ from the defaults."""
    coarse: dict[str, Any] = {} if max(shape[:2]) <= FINE_UP_TO else {"widths": (48, 96)}
    return coarse if shape[2] == 1 else {**coarse, "latent": COLOUR}


def scaled_for_classifiers(size: tuple[int, ...]) -> dict[str, int]:
    """Settings of classifiers of images or latents (h, w, ...): they see about 64 pixels a side, 128 of large ones.

    timm's models halve it five times: of 32 pixels one would be left, of 28 nothing. Work goes with the area.
    """
    least, side = min(size[:2]), max(size[:2])
    if least <= 32:
        return {"upsample": math.ceil(48 / least)}
    return {} if side < 128 else {"downsample": 2 if side <= FINE_UP_TO else 4}


def seen_by_diffusion(space: str, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """(h, w, c) of images (H, W, C) in the space."""
    if space != "latent":
        return shape
    config = AutoencoderConfig(channels=shape[2], size=shape[:2], **autoencoder_of(shape))
    return shape[0] // config.factor, shape[1] // config.factor, config.latent


def multiple(space: str, shape: tuple[int, int, int]) -> int:
    """Both sides of the images must be multiples of this."""
    if space != "latent":
        return 2 * PATCH
    return PATCH * AutoencoderConfig(channels=shape[2], size=shape[:2], **autoencoder_of(shape)).factor
