"""A denoiser: a network with all that it takes to read its output as eps (compare k-diffusion's external.py)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cfdiff.engine.process import Parametrisation, convert
from cfdiff.engine.schedule import NoiseSchedule


def timestep_of(level: Tensor) -> Tensor:
    """t = level - 1: the network that was trained on T steps knows 0..T-1; level 0 is asked as level 1."""
    return level.clamp(min=1) - 1


@dataclass(frozen=True, eq=False)
class Denoiser:
    """eps_theta(x_l, level, condition).

    Attributes:
        net: (x (B, C, H, W), t (B,) int64[, condition]) -> (B, C, H, W), or (B, 2C, H, W) with learned sigma.
        schedule: the noise that it was trained on.
        parametrisation: what its output is.
        learned_sigma: the second half of its channels is a variance (Nichol & Dhariwal 2021), which is left out.
        timestep: (B,) int64 levels -> timesteps as the network counts them.
        dtype: autocast of the network alone; None is none.
        conditional: whether the network may be told a class, (B,) int64 with 0 negative, 1 positive and -1 nothing.
        told_nothing: whether a network that may be told a class may also be told nothing.
    """

    net: Callable[..., Tensor]
    schedule: NoiseSchedule
    parametrisation: Parametrisation = "eps"
    learned_sigma: bool = False
    timestep: Callable[[Tensor], Tensor] = timestep_of
    dtype: torch.dtype | None = None
    conditional: bool = False
    told_nothing: bool = True

    def __call__(self, x: Tensor, level: int | Tensor, condition: Any = None) -> Tensor:
        """eps as x, in float32 at least.

        Args:
            x: (B, C, H, W) x_l.
            level: l in 0..T for all, or (B,) int64; 0 is asked as 1.
            condition: what the network is told besides, as it takes it; None tells it nothing.
        """
        if isinstance(level, int):
            level = max(level, 1)
            levels = torch.full((len(x),), level, dtype=torch.int64, device=x.device)
        else:
            levels = level = level.clamp(min=1)
        told = () if condition is None else (condition,)
        half = nullcontext() if self.dtype is None else torch.autocast(x.device.type, dtype=self.dtype)
        with half:
            out = self.net(x, self.timestep(levels), *told)
        if self.learned_sigma:
            out = out.chunk(2, dim=1)[0]
        out = out.to(torch.promote_types(x.dtype, torch.float32))
        return convert(self.schedule, x, level, out, self.parametrisation, "eps")
