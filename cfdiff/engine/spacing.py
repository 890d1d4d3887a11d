"""tau: the levels that are walked up (encode) and down (decode), one list for both ways."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from cfdiff.engine.schedule import NoiseSchedule
from cfdiff.errors import UserError

Spacing = Literal["uniform", "quadratic", "logsnr"]
PURE_NOISE = -10.2
"""log-SNR under which nothing of an image is left (lambda = -5.1: Lu et al. 2022, appendix D; diffusers'
`lambda_min_clipped`). Beyond, as cosine schedules go, 1 / sqrt(ab) makes x0_hat of the network's smallest error."""


def noise_level(schedule: NoiseSchedule) -> int:
    """Where a walk from N(0, I) begins: the highest level with log(ab / (1 - ab)) >= `PURE_NOISE`, in 1..T."""
    enough = (schedule.log_snr(torch.arange(1, schedule.T + 1)) >= PURE_NOISE).nonzero()
    return int(enough[-1]) + 1 if len(enough) else 1


def make_tau(schedule: NoiseSchedule, depth: float, steps: int, spacing: Spacing = "uniform") -> list[int]:
    """[0 = tau_0 < tau_1 < ... < tau_S = schedule.level_of(depth)], S = `steps` distinct levels above 0.

    Args:
        depth: how far up, a fraction of T in (0, 1].
        steps: S, from 1 to level_of(depth).
        spacing: "uniform" in the level; "quadratic", denser at low noise (Song et al. 2021, appendix D.2);
            "logsnr", uniform in log(ab / (1 - ab)) from level 1 up (Lu et al. 2022, section 4.1).

    Raises:
        UserError: the depth or the number of steps is out of range, or the spacing is unknown.
    """
    top = schedule.level_of(depth)
    if not 1 <= steps <= top:
        raise UserError(
            f"{steps} steps do not fit into depth {depth}, which is level {top} of {schedule.T}; "
            f"use 1 to {top} steps, or a greater depth."
        )
    u = torch.arange(1, steps + 1, dtype=torch.float64) / steps
    if spacing == "uniform":
        wanted = top * u
    elif spacing == "quadratic":
        wanted = top * u**2
    elif spacing == "logsnr":
        wanted = _uniform_in_log_snr(schedule, top, steps)
    else:
        raise UserError(f"Unknown spacing {spacing!r}; use uniform, quadratic or logsnr.")
    return [0, *_distinct(wanted.round().long().tolist(), top)]


def _uniform_in_log_snr(schedule: NoiseSchedule, top: int, steps: int) -> Tensor:
    """(S,) the nearest levels to S log-SNRs with equal gaps, from level 1 (or alone `top`) to `top`."""
    log_snr = schedule.log_snr(torch.arange(1, top + 1))
    targets = torch.linspace(float(log_snr[-1]), float(log_snr[0]), steps, dtype=torch.float64).flip(0)
    return 1 + (targets[:, None] - log_snr).abs().argmin(1)


def _distinct(levels: list[int], top: int) -> list[int]:
    """The nearest strictly increasing list that ends at `top`: rounding collisions move up, then down.

    Both passes keep the gaps >= 1, so S levels in give S distinct levels out, tau_i in i..top - (S - i).
    """
    for i in range(len(levels)):
        levels[i] = max(levels[i], levels[i - 1] + 1 if i else 1)
    return [min(level, top - (len(levels) - 1 - i)) for i, level in enumerate(levels)]
