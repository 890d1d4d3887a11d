"""How fast this machine trains, and so in which precision, and how large a diffusion network the time allows."""

from __future__ import annotations

import time

import torch

from cfdiff.edit.cast import DTYPES
from cfdiff.engine.loss import l_simple
from cfdiff.engine.schedule import NoiseSchedule
from cfdiff.errors import UserError
from cfdiff.fit.plan import Precision
from cfdiff.models.denoiser import Denoiser
from cfdiff.models.unet import UNet, UNetConfig
from cfdiff.train.diffusion import default_mult

WIDTHS = {64: 60_000, 48: 24_000, 32: 0}
"""Channels of the first resolution -> images that must be seen in the time; below, the narrower network learns more."""
LEAST = 1500
"""Images that a first diffusion model has to see at least: with fewer there is nothing to look at."""
BATCH = 16
QUICKER = 1.1
"""How much more bfloat16 must do to be worth its coarser numbers: a processor without it computes it the long way."""


def images_a_second(
    shape: tuple[int, int, int], width: int, device: torch.device, precision: Precision = "no"
) -> float:
    """Training images (H, W, C) a second through our U-Net of that width, measured on two steps."""
    height, columns, channels = shape
    mult = default_mult(shape, 2)
    size = {"channels": channels, "size": (height, columns), "width": width, "mult": mult, "classes": 2}
    net = UNet(UNetConfig.model_validate(size)).to(device)
    denoise = Denoiser(net, NoiseSchedule.cosine(1000), dtype=DTYPES[precision])
    x = torch.zeros(BATCH, channels, height, columns, device=device)
    levels = torch.full((BATCH,), 500, device=device)
    best = 0.0
    for _ in range(3):  # the first warms up
        started = time.monotonic()
        l_simple(denoise.schedule, denoise, x, levels, torch.randn_like(x)).mean().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = max(best, BATCH / max(1e-9, time.monotonic() - started))
    return best


def fitting_network(shape: tuple[int, int, int], minutes: float, device: torch.device) -> tuple[int, Precision]:
    """Width and precision of the widest network that sees enough images in `minutes` of training.

    Raises:
        UserError: even the narrowest would see too few; says what it would take here.
    """
    pace = 0.0
    for width, wanted in WIDTHS.items():
        pace, precision = _quickest(shape, width, device)
        if pace * 60 * minutes >= max(wanted, LEAST):
            return width, precision
    raise UserError(
        f"{minutes:.3g} minutes for the diffusion model are too short here: at {pace:.3g} images a second of "
        f"{shape[0]}x{shape[1]} it takes {LEAST / pace / 60:.2g} at least; raise --minutes, or make the images smaller "
        "(cfdiff data convert --size)."
    )


def _quickest(shape: tuple[int, int, int], width: int, device: torch.device) -> tuple[float, Precision]:
    """The pace, and in which precision; bfloat16 only where it can be timed and trained in."""
    whole = images_a_second(shape, width, device)
    if device.type not in ("cpu", "cuda"):
        return whole, "no"
    half = images_a_second(shape, width, device, "bf16")
    return (half, "bf16") if half > QUICKER * whole else (whole, "no")
