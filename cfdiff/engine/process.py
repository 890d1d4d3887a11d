"""The noising process q, its posterior, and the four parametrisations of one prediction: eps, x0, mu, v.

Every function takes a level (an int, or (B,) int64), works on float32 tensors of shape (B, ...), and reads
alpha_bar from the schedule's float64 table. DESIGN section 3; Ho et al. 2020; Salimans & Ho 2022 for v.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from torch import Tensor

from cfdiff.engine.schedule import NoiseSchedule, pick

Denoise = Callable[[Tensor, int], Tensor]
"""(x_l (B, ...), level l) -> eps_theta (B, ...), float32: the denoiser as the sampler sees it."""

Parametrisation = Literal["eps", "x0", "mu", "v"]
PARAMETRISATIONS: tuple[Parametrisation, ...] = get_args(Parametrisation)


def q_sample(schedule: NoiseSchedule, x0: Tensor, level: int | Tensor, eps: Tensor) -> Tensor:
    """x_l = sqrt(ab_l) x_0 + sqrt(1 - ab_l) eps  (Ho et al. 2020, eq. 4)."""
    signal, noise = schedule.signal_noise(level, x0)
    return signal * x0 + noise * eps


def x0_from_eps(schedule: NoiseSchedule, x: Tensor, level: int | Tensor, eps: Tensor) -> Tensor:
    """Tweedie's estimate: x0_hat = (x_l - sqrt(1 - ab_l) eps) / sqrt(ab_l)."""
    signal, noise = schedule.signal_noise(level, x)
    return (x - noise * eps) / signal


def eps_from_x0(schedule: NoiseSchedule, x: Tensor, level: int | Tensor, x0: Tensor) -> Tensor:
    """The eps that makes `x0` Tweedie's estimate at x_l; level > 0."""
    signal, noise = schedule.signal_noise(level, x)
    return (x - signal * x0) / noise


def posterior_coefficients(schedule: NoiseSchedule, level: int | Tensor, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(c_0, c_x, beta~) of q(x_{l-1} | x_l, x_0) = N(c_0 x_0 + c_x x_l, beta~)  (Ho et al. 2020, eq. 7).

    c_0 = sqrt(ab_{l-1}) beta_l / (1 - ab_l),  c_x = sqrt(a_l) (1 - ab_{l-1}) / (1 - ab_l),
    beta~ = beta_l (1 - ab_{l-1}) / (1 - ab_l); at level 1 they are (1, 0, 0). Level > 0, shaped as in `at`.
    """
    ab, ab_before, beta = schedule.alpha_bar[1:], schedule.alpha_bar[:-1], schedule.betas
    c_0 = ab_before.sqrt() * beta / (1 - ab)
    c_x = (1 - beta).sqrt() * (1 - ab_before) / (1 - ab)
    variance = beta * (1 - ab_before) / (1 - ab)
    below = level - 1  # these tables begin at level 1
    return pick(c_0, below, like), pick(c_x, below, like), pick(variance, below, like)


def posterior(schedule: NoiseSchedule, x0: Tensor, x: Tensor, level: int | Tensor) -> tuple[Tensor, Tensor]:
    """Mean mu~ (B, ...) and variance beta~ (broadcasting over it) of q(x_{l-1} | x_l, x_0); level > 0."""
    c_0, c_x, variance = posterior_coefficients(schedule, level, x)
    return c_0 * x0 + c_x * x, variance


def x0_and_eps(
    schedule: NoiseSchedule, x: Tensor, level: int | Tensor, value: Tensor, from_: Parametrisation
) -> tuple[Tensor, Tensor]:
    """The pair (x0, eps) that a prediction made on x_l stands for, each by the formula that rounds least."""
    if from_ == "eps":
        return x0_from_eps(schedule, x, level, value), value
    if from_ == "v":  # Salimans & Ho 2022, appendix D
        signal, noise = schedule.signal_noise(level, x)
        return signal * x - noise * value, noise * x + signal * value
    if from_ == "mu":
        c_0, c_x, _ = posterior_coefficients(schedule, level, x)
        value = (value - c_x * x) / c_0
    return value, eps_from_x0(schedule, x, level, value)


def convert(
    schedule: NoiseSchedule,
    x: Tensor,
    level: int | Tensor,
    value: Tensor,
    from_: Parametrisation,
    to: Parametrisation,
) -> Tensor:
    """The same prediction in another parametrisation.

    Args:
        x: (B, ...) the noisy image x_l that the prediction was made on.
        level: l in 1..T.
        value: (B, ...) the prediction as `from_`.
        from_, to: "eps"; "x0"; "mu", the mean of x_{l-1}, c_0 x0 + c_x x_l, which in eps is
            1/sqrt(a_l) (x_l - beta_l / sqrt(1 - ab_l) eps); "v" = sqrt(ab_l) eps - sqrt(1 - ab_l) x0.
    """
    if from_ == to:
        return value
    x0, eps = x0_and_eps(schedule, x, level, value, from_)
    if to == "x0":
        return x0
    if to == "eps":
        return eps
    if to == "mu":
        return posterior(schedule, x0, x, level)[0]
    signal, noise = schedule.signal_noise(level, x)
    return signal * eps - noise * x0
