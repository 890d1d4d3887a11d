"""One step of a solver from level a to level b: DDIM, DDPM and DPM-Solver++(2M).

The coefficients are computed in float64 from the schedule and are plain numbers; the tensors stay float32.
"""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor

from cfdiff.engine.process import x0_from_eps
from cfdiff.engine.schedule import NoiseSchedule
from cfdiff.errors import UserError

Variance = Literal["beta", "beta_tilde"]


def ddim_step(
    schedule: NoiseSchedule,
    x: Tensor,
    eps: Tensor,
    a: int,
    b: int,
    eta: float = 0,
    noise: Tensor | None = None,
) -> Tensor:
    """x_b = sqrt(ab_b) x0_hat + sqrt(1 - ab_b - sigma^2) eps + sigma z  (Song et al. 2021, eq. 12).

    sigma = eta sqrt((1 - ab_b) / (1 - ab_a)) sqrt(1 - ab_a / ab_b). With eta = 0, b may lie above a
    (encode), and the same eps leads back. b = 0 lands on alpha_bar = 1 exactly, so on x0_hat.

    Args:
        x, eps: (B, ...) x_a and the noise in it.
        a, b: levels in 0..T.
        eta: 0 is deterministic, 1 is `ddpm_step` with variance beta_tilde.
        noise: z, (B, ...) standard normal; needed where eta > 0 and b > 0.
    """
    ab_a, ab_b = _alpha_bar(schedule, a), _alpha_bar(schedule, b)
    x0_hat = x0_from_eps(schedule, x, a, eps)
    if eta == 0 or b == 0:
        return math.sqrt(ab_b) * x0_hat + math.sqrt(1 - ab_b) * eps
    sigma = eta * math.sqrt((1 - ab_b) / (1 - ab_a)) * math.sqrt(1 - ab_a / ab_b)
    return math.sqrt(ab_b) * x0_hat + math.sqrt(1 - ab_b - sigma**2) * eps + sigma * _given(noise)


def ddpm_step(
    schedule: NoiseSchedule,
    x: Tensor,
    eps: Tensor,
    a: int,
    b: int,
    variance: Variance = "beta_tilde",
    noise: Tensor | None = None,
) -> Tensor:
    """x_b ~ N(mu~(x0_hat, x_a), variance) of the process respaced to a -> b  (Ho et al. 2020, algorithm 2).

    b < a; beta = 1 - ab_a / ab_b is the respaced beta; beta_tilde = beta (1 - ab_b) / (1 - ab_a). The larger
    variance, beta, is the sigma-hat of Song et al. 2021, section 5. The last step, to b = 0, adds no noise.
    """
    ab_a, ab_b = _alpha_bar(schedule, a), _alpha_bar(schedule, b)
    alpha = ab_a / ab_b
    beta = 1 - alpha
    c_0 = math.sqrt(ab_b) * beta / (1 - ab_a)
    c_x = math.sqrt(alpha) * (1 - ab_b) / (1 - ab_a)
    mean = c_0 * x0_from_eps(schedule, x, a, eps) + c_x * x
    if b == 0:
        return mean
    sigma2 = beta if variance == "beta" else beta * (1 - ab_b) / (1 - ab_a)
    return mean + math.sqrt(sigma2) * _given(noise)


def dpm_solver_2m_step(
    schedule: NoiseSchedule,
    x: Tensor,
    x0_hat: Tensor,
    a: int,
    b: int,
    before: tuple[int, Tensor] | None = None,
) -> Tensor:
    """x_b = sigma_b / sigma_a x_a - alpha_b (e^-h - 1) D  (Lu et al. 2022, DPM-Solver++, algorithm 2).

    D = x0_a + h / (2 h') (x0_a - x0_a'), with h = lambda_b - lambda_a, h' = lambda_a - lambda_a' and lambda
    half the log-SNR. First order, which is DDIM, without a step before, and at b = 0, where h is infinite.

    Args:
        before: (a', x0_a'): the level and the x0_hat that the step before started from.
    """
    ab_a, ab_b = _alpha_bar(schedule, a), _alpha_bar(schedule, b)
    sigma_ratio = math.sqrt((1 - ab_b) / (1 - ab_a))
    e_minus_h = sigma_ratio * math.sqrt(ab_a / ab_b)
    D = x0_hat
    if before is not None and b > 0:
        a_before, x0_before = before
        lambda_before, lambda_a, lambda_b = (float(schedule.log_snr(level)) / 2 for level in (a_before, a, b))
        D = x0_hat + (lambda_b - lambda_a) / (2 * (lambda_a - lambda_before)) * (x0_hat - x0_before)
    return sigma_ratio * x + math.sqrt(ab_b) * (1 - e_minus_h) * D


def _alpha_bar(schedule: NoiseSchedule, level: int) -> float:
    return float(schedule.alpha_bar[level])


def _given(noise: Tensor | None) -> Tensor:
    if noise is None:
        raise UserError("A stochastic step (eta > 0, or DDPM) needs noise; pass a NoiseSource.")
    return noise
