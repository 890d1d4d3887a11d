"""How good a diffusion model is: L_simple by level, the variational bound in bits/dim, and a look at its samples.

Levels and noise are fixed, so that validations and runs compare.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from cfdiff.data.values import to_saved
from cfdiff.engine import (
    Ddim,
    NoiseSource,
    Trajectory,
    decode,
    l_simple,
    make_tau,
    prior_term,
    vlb_term,
)
from cfdiff.files import atomic
from cfdiff.models.denoiser import Denoiser
from cfdiff.models.space import Space, encoded

BUCKETS = 10
VLB_IMAGES, VLB_LEVELS = 16, 10
SAMPLES, SAMPLE_STEPS, COLUMNS = 16, 20, 4
LARGE = 64
"""Samples smaller than this are enlarged by a whole number."""


class DiffusionValidation:
    """What is measured and drawn at each validation of a diffusion model; where time is short, a share of it.

    Images (N, C, H, W) in [-1, 1] are on the network's device; samples go into `folder`. `labels` int64, classes (N,)
    with -1 for none, or codes (N, n), are for a conditional model: its loss is also measured told these, and its
    samples are of both classes.
    """

    def __init__(
        self,
        denoiser: Callable[[nn.Module], Denoiser],
        space: Space,
        images: Tensor,
        dtype: np.dtype,
        folder: Path,
        labels: Tensor | None = None,
    ) -> None:
        self.denoiser, self.space, self.images, self.dtype, self.folder = denoiser, space, images, dtype, folder
        self.labels = labels
        self.z0 = encoded(space, images)

    @torch.no_grad()
    def __call__(self, net: nn.Module, step: int, share: float) -> dict[str, Any]:
        """`val_loss` and `bits_per_dim`, told nothing, and samples-STEP.png; of a conditional model also
        `val_loss_told_class` or `val_loss_told`; `val_images` where not all images were taken."""
        n, bound, samples = self._counts(share)
        denoise = self.denoiser(net)
        if samples:
            shape = self.space.shape(*self.images.shape[1:])
            sample_grid(denoise, self.space, shape, self.folder / f"samples-{step:06d}.png", self.images, samples)
        z0 = self.z0[:n]
        figures = validate(denoise, z0)
        if self.labels is not None:
            name = "val_loss_told_class" if self.labels.ndim == 1 else "val_loss_told"
            figures[name] = validate(denoise, z0, condition=self.labels[:n])["val_loss"]
        if bound and self.space.discrete:
            figures |= bits_per_dim(denoise, self.images, self.dtype, bound)
        return figures if share >= 1 else {**figures, "val_images": n}

    def passes(self, share: float) -> int:
        """Images through the network: one a validation image, one a level of the bound, one a step of a sample."""
        n, bound, samples = self._counts(share)
        losses = 1 if self.labels is None else 2
        return losses * n + bound * VLB_LEVELS + samples * SAMPLE_STEPS

    def _counts(self, share: float) -> tuple[int, int, int]:
        """Images of the loss and of the bound, and samples: in whole rows of four, or none."""
        rows = int(share * SAMPLES / COLUMNS)
        return max(1, int(share * len(self.images))), int(share * VLB_IMAGES), rows * COLUMNS


@torch.no_grad()
def validate(denoise: Denoiser, images: Tensor, batch: int = 64, condition: Tensor | None = None) -> dict[str, Any]:
    """L_simple over images (N, c, h, w) in its space, one level each, spread over 1..T; and by tenth of the levels.

    `condition` (N,) or (N, n) int64 is what it is told of each; None is nothing.
    """
    schedule = denoise.schedule
    levels, noise = fixed(images, schedule.T)
    conditions = repeat(None, -(-len(images) // batch)) if condition is None else condition.split(batch)
    losses = torch.cat(
        [
            l_simple(schedule, partial(denoise, condition=told), x0, at.to(images.device), eps).cpu()
            for x0, at, eps, told in zip(
                images.split(batch), levels.split(batch), noise.split(batch), conditions, strict=True
            )
        ]
    )
    bucket = (levels - 1) * BUCKETS // schedule.T
    by_level = {
        f"{k * schedule.T // BUCKETS}+": float(losses[bucket == k].mean())
        for k in range(BUCKETS)
        if (bucket == k).any()
    }
    return {"val_loss": float(losses.mean()), "val_loss_by_level": by_level}


def fixed(images: Tensor, T: int) -> tuple[Tensor, Tensor]:
    """A level in 1..T for each of N images, (N,) int64 on the CPU, spread over all, and noise as the images: always the
    same."""
    levels = (torch.arange(len(images)) * 997 % T) + 1
    return levels, torch.randn(images.shape, generator=torch.Generator().manual_seed(0)).to(images.device)


@torch.no_grad()
def bits_per_dim(denoise: Denoiser, images: Tensor, dtype: np.dtype, n: int = VLB_IMAGES) -> dict[str, float]:
    """The bound L_T + sum L_{l-1} + L_0 (engine/vlb.py) of `n` images; nothing for floats, which have no bins.

    ||eps - eps_theta||^2 is smooth in l: it is measured at a few levels, evenly in log l, and read off a line between
    them (in log-log scale) for the rest, with the exact weight of every level. Uniform levels would miss the low
    ones, which hold most of the bound.
    """
    if dtype.kind != "u":
        return {}

    schedule = denoise.schedule
    x0 = images[:: max(1, len(images) // n)][:n]
    source = NoiseSource(0, map(str, range(len(x0))))
    first = vlb_term(schedule, denoise, x0, 1, source.like(x0), bins=2 ** (8 * dtype.itemsize))
    bound = float(prior_term(schedule, x0).mean() + first.mean())
    if schedule.T == 1:
        return {"bits_per_dim": bound}

    levels = np.unique(np.geomspace(2, schedule.T, VLB_LEVELS - 1).round().astype(int))
    errors = [
        float(l_simple(schedule, denoise, x0, torch.full((len(x0),), level, device=x0.device), source.like(x0)).mean())
        for level in levels.tolist()
    ]
    squared_error = np.exp(np.interp(np.log(np.arange(2, schedule.T + 1)), np.log(levels), np.log(errors)))
    beta, ab = schedule.betas.numpy()[1:], schedule.alpha_bar.numpy()
    r = (1 - ab[1:-1]) / (1 - ab[2:])
    terms = (r - 1 - np.log(r)) / 2 + beta / (2 * (1 - beta) * (1 - ab[2:])) * squared_error
    return {"bits_per_dim": bound + float(terms.sum()) / math.log(2)}


@torch.no_grad()
def sample_grid(
    denoise: Denoiser, space: Space, shape: tuple[int, int, int], out: Path, like: Tensor, n: int = SAMPLES
) -> None:
    """Draw `n` images from pure noise (c, h, w), the same noise each time, and write them as a PNG, four a row.

    Of a conditional model the left half is negative, and the right half positive from the same noise.
    """
    place = torch.arange(n, device=like.device)
    right = (place % COLUMNS >= COLUMNS // 2).long() if denoise.conditional else None
    ids = place if right is None else place - COLUMNS // 2 * right
    x_T = NoiseSource(0, map(str, ids.tolist())).like(like.new_empty(n, *shape))
    z0 = drawn(denoise, x_T, right, clip=space.discrete)
    draw_grid(to_saved(space.decode(z0), np.dtype(np.uint8)), out)


@torch.no_grad()
def drawn(denoise: Denoiser, x_T: Tensor, condition: Tensor | None, clip: bool) -> Tensor:
    """z_0 of pure noise (B, c, h, w) by DDIM with `SAMPLE_STEPS` steps, each told its class of `condition` (B,)."""
    schedule, ask = denoise.schedule, partial(denoise, condition=condition)
    tau = make_tau(schedule, 1.0, min(SAMPLE_STEPS, schedule.T))
    # Plain decoding reads the path only at its end; there is no encoded image below it.
    path = Trajectory(tau, [x_T] * len(tau), [*[None] * (len(tau) - 1), ask(x_T, tau[-1])], calls=1, schedule=schedule)
    return decode(schedule, ask, path, solver=Ddim(), anchored=False, clip=clip)


def draw_grid(images: np.ndarray, out: Path, columns: int = COLUMNS) -> None:
    """Write (N, H, W, C) uint8 as a PNG, so many a row."""
    with atomic(out) as scratch:
        _grid(images, columns).save(scratch, format="PNG")


def _grid(images: np.ndarray, columns: int = COLUMNS, gap: int = 1) -> Image.Image:
    """(N, H, W, C) uint8 in rows of `columns`; gray unless C is 3."""
    if images.shape[3] != 3:
        images = images.mean(axis=3, keepdims=True).round().astype(np.uint8)
    zoom = max(1, -(-LARGE // images.shape[1]))
    images = images.repeat(zoom, axis=1).repeat(zoom, axis=2)
    framed = np.pad(images, ((0, 0), (gap, gap), (gap, gap), (0, 0)), constant_values=255)
    rows = [np.concatenate(list(framed[i : i + columns]), axis=1) for i in range(0, len(framed), columns)]
    page = np.concatenate(rows, axis=0)
    return Image.fromarray(page if page.shape[2] == 3 else page[..., 0])
