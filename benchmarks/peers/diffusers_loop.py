"""An inversion loop as one writes it with diffusers: a scheduler up, its partner down, guidance in between.

Both schedulers cover all of T in `grid` steps; the loop takes those below the depth, as image-to-image pipelines do
with their strength. Guidance is what cfdiff has, the noise-aware guide and the checkers on x0_hat, without its clamp,
its closed loop, its anchor, its ladder and its trimming.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import diffusers
from torch import Tensor

from cfdiff.engine import NoiseSchedule, NoiseSource
from peers.networks import Networks

DEPTH = 0.3


def ddim(net: Networks, x: Tensor, target: Tensor, scales: Sequence[float], noise: NoiseSource) -> list[Tensor]:
    """DDIMInverseScheduler and DDIMScheduler, 50 steps of T, of which 15 lie below the depth."""
    up, down = (of(kind, net.schedule, 50) for kind in ("DDIMInverseScheduler", "DDIMScheduler"))
    return _edited(net, x, target, scales, up, down)


def dpm(net: Networks, x: Tensor, target: Tensor, scales: Sequence[float], noise: NoiseSource) -> list[Tensor]:
    """DPM-Solver++(2M) and its inverse, 27 steps of T, of which 8 lie below the depth."""
    kinds = ("DPMSolverMultistepInverseScheduler", "DPMSolverMultistepScheduler")
    return _edited(net, x, target, scales, *(of(kind, net.schedule, 27) for kind in kinds))


def of(kind: str, schedule: NoiseSchedule, grid: int) -> Any:
    """A scheduler of diffusers on our noise schedule, over all of T in `grid` steps."""
    options = {"clip_sample": False} if kind.startswith("DDIM") else {}
    scheduler = getattr(diffusers, kind)(
        num_train_timesteps=schedule.T, trained_betas=schedule.betas.float().numpy(), **options
    )
    scheduler.set_timesteps(grid)
    return scheduler


def _edited(net: Networks, x: Tensor, target: Tensor, scales: Sequence[float], up: Any, down: Any) -> list[Tensor]:
    top = net.schedule.level_of(DEPTH)
    rising = [int(t) for t in up.timesteps if t <= top]
    falling = [int(t) for t in down.timesteps if t <= top]
    z = x
    for t in rising:
        z = up.step(net.eps(z, t + 1), t, z).prev_sample
    found = []
    for scale in scales:
        back = type(down).from_config(down.config)
        back.set_timesteps(len(down.timesteps))
        y = z
        for t in falling:
            y = back.step(net.guided(y, t + 1, target, scale), t, y).prev_sample
        found.append(y)
    return found
