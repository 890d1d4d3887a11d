"""One step of the respaced DDPM chain as the peers of guided-diffusion take it: x0_hat clipped, mean and variance."""

from __future__ import annotations

from torch import Tensor

from cfdiff.engine import NoiseSchedule, x0_from_eps


def posterior_of(schedule: NoiseSchedule, z: Tensor, x0: Tensor, a: int, b: int) -> tuple[Tensor, float]:
    """Mean (B, C, H, W) and variance of q(x_b | x_a = z, x0), b < a; at b = 0 they are x0 and 0.

    The variance is beta_tilde of the step a -> b (Ho et al. 2020, equation 7, for the respaced betas).
    """
    ab_a, ab_b = float(schedule.alpha_bar[a]), float(schedule.alpha_bar[b])
    kept = ab_a / ab_b
    mean = ab_b**0.5 * (1 - kept) / (1 - ab_a) * x0 + kept**0.5 * (1 - ab_b) / (1 - ab_a) * z
    return mean, (1 - kept) * (1 - ab_b) / (1 - ab_a)


def estimate(schedule: NoiseSchedule, z: Tensor, eps: Tensor, a: int) -> Tensor:
    """x0_hat of z at level a, clipped to [-1, 1]."""
    return x0_from_eps(schedule, z, a, eps).clamp(-1, 1)


def posterior_step(schedule: NoiseSchedule, z: Tensor, eps: Tensor, a: int, b: int) -> tuple[Tensor, float]:
    """`posterior_of` at the clipped estimate that eps makes of z."""
    return posterior_of(schedule, z, estimate(schedule, z, eps, a), a, b)
