"""L_simple, the training loss (Ho et al. 2020, eq. 14), with an optional weight lambda(t) per level."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from cfdiff.engine.process import q_sample
from cfdiff.engine.schedule import NoiseSchedule

BatchDenoise = Callable[[Tensor, Tensor], Tensor]
"""(x (B, ...), levels (B,) int64) -> eps_theta (B, ...): the network as training sees it."""


def l_simple(
    schedule: NoiseSchedule,
    denoise: BatchDenoise,
    x0: Tensor,
    levels: Tensor,
    noise: Tensor,
    weights: Tensor | None = None,
) -> Tensor:
    """lambda(l) || eps - eps_theta(x_l, l) ||^2, the mean over the pixels of each sample.

    Args:
        denoise: called once with x_l (B, ...) and `levels`; its output is compared in float32.
        x0: (B, ...) clean images in [-1, 1].
        levels: (B,) int64 in 1..T.
        noise: the eps of x_l, as x0.
        weights: (T + 1,) lambda by level; None is 1 everywhere.

    Returns:
        (B,) the loss of each sample, with its graph; the caller takes the mean.
    """
    eps_theta = denoise(q_sample(schedule, x0, levels, noise), levels)
    loss = (noise - eps_theta.to(noise.dtype)).square().flatten(1).mean(1)
    return loss if weights is None else loss * weights.to(loss.device, loss.dtype)[levels.to(loss.device)]
