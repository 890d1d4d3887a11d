"""The variational bound L_vlb = L_T + sum_{l >= 2} L_{l-1} + L_0 on -log p(x_0), in bits/dim.

(Ho et al. 2020, eq. 5, 12 and 13.) The reverse process is N(mu_theta(x_l), s_l^2) with s^2 = beta or beta~.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cfdiff.engine.loss import BatchDenoise, l_simple
from cfdiff.engine.noise import NoiseSource
from cfdiff.engine.process import q_sample, x0_from_eps
from cfdiff.engine.schedule import NoiseSchedule, pick
from cfdiff.engine.steps import Variance


@dataclass(frozen=True, eq=False)
class Vlb:
    """The bound and its terms, all in bits/dim.

    Attributes:
        total: (B,) the bound, or its Monte Carlo estimate.
        prior: (B,) L_T.
        levels: (n,) the levels that were evaluated.
        terms: (B, n) L_{l-1} at each of them; L_0 at level 1.
    """

    total: Tensor
    prior: Tensor
    levels: list[int]
    terms: Tensor


@torch.no_grad()
def vlb(
    schedule: NoiseSchedule,
    denoise: BatchDenoise,
    x0: Tensor,
    noise: NoiseSource,
    levels: Sequence[int] | None = None,
    variance: Variance = "beta",
    bins: int = 256,
) -> Vlb:
    """The bound for each image, with one draw of x_l at each level.

    Args:
        denoise: eps_theta(x, levels (B,) int64).
        x0: (B, ...) float32 in [-1, 1], on the grid of `bins` values.
        noise: one draw a level.
        levels: None sums every level 1..T. Otherwise T times the mean over these: unbiased where they were
            drawn uniformly, with replacement, from 1..T.
        variance: s^2, "beta" or "beta_tilde".
        bins: 256 for 8-bit images, 65536 for 16-bit.
    """
    walked = list(range(1, schedule.T + 1)) if levels is None else list(levels)
    terms = [vlb_term(schedule, denoise, x0, level, noise.like(x0), variance, bins) for level in walked]
    prior, stacked = prior_term(schedule, x0), torch.stack(terms, dim=1)
    return Vlb(prior + schedule.T * stacked.mean(1), prior, walked, stacked)


def vlb_term(
    schedule: NoiseSchedule,
    denoise: BatchDenoise,
    x0: Tensor,
    level: int,
    noise: Tensor,
    variance: Variance = "beta",
    bins: int = 256,
) -> Tensor:
    """(B,) L_{level-1} = KL(q(x_{l-1} | x_l, x_0) || p_theta) at x_l = q_sample(x0, level, noise), or L_0.

    L_{l-1} = (log(s^2 / beta~) + beta~ / s^2 - 1) / 2 + beta^2 / (2 s^2 a (1 - ab)) ||eps - eps_theta||^2.
    """
    levels = torch.full((len(x0),), level, device=x0.device)
    if level == 1:
        x_1 = q_sample(schedule, x0, levels, noise)
        mean = x0_from_eps(schedule, x_1, levels, denoise(x_1, levels).to(x0.dtype))
        std = math.sqrt(float(model_variance(schedule, variance)[1]))
        return -discretised_log_likelihood(x0, mean, std, bins).flatten(1).mean(1) / _LN_2
    constant, weight = _kl_tables(schedule, variance)
    squared_error = l_simple(schedule, denoise, x0, levels, noise)
    return (pick(constant, level, x0) + pick(weight, level, x0) * squared_error) / _LN_2


def prior_term(schedule: NoiseSchedule, x0: Tensor) -> Tensor:
    """(B,) L_T = KL(q(x_T | x_0) || N(0, I)) = (ab_T x_0^2 - ab_T - log(1 - ab_T)) / 2."""
    ab = float(schedule.alpha_bar[-1])
    return (ab * (x0.square().flatten(1).mean(1) - 1) - math.log1p(-ab)) / 2 / _LN_2


def model_variance(schedule: NoiseSchedule, variance: Variance) -> Tensor:
    """(T + 1,) float64 s_l^2: beta_l or beta~_l; beta~_1 = 0 has no density, so beta~_2 stands in."""
    s2 = schedule.betas.clone() if variance == "beta" else _posterior_variance(schedule)
    if variance == "beta_tilde":
        s2[0] = s2[1] if schedule.T > 1 else schedule.betas[0]
    return torch.cat([s2.new_zeros(1), s2])


def discretised_log_likelihood(x0: Tensor, mean: Tensor, std: float, bins: int = 256) -> Tensor:
    """log of N(mean, std^2)'s mass in the bin of each value of x0, as x0 (B, ...)  (Ho et al. 2020, eq. 13).

    The bins are centred on `bins` values from -1 to 1; the outer two reach to infinity. A difference of two
    log-CDFs, taken in the lower tail, stays finite where the mass underflows.
    """
    half = 1 / (bins - 1)
    x0, mean = x0.double(), mean.double()
    low, high = (x0 - half - mean) / std, (x0 + half - mean) / std
    low = torch.where(x0 <= -1 + half, -math.inf, low)
    high = torch.where(x0 >= 1 - half, math.inf, high)
    upper = low > 0  # Phi(high) - Phi(low) = Phi(-low) - Phi(-high)
    low, high = torch.where(upper, -high, low), torch.where(upper, -low, high)
    log_low, log_high = torch.special.log_ndtr(low), torch.special.log_ndtr(high)
    return (log_high + torch.log(-torch.expm1(log_low - log_high))).float()


def _posterior_variance(schedule: NoiseSchedule) -> Tensor:
    """(T,) float64 beta~ of levels 1..T."""
    ab = schedule.alpha_bar
    return schedule.betas * (1 - ab[:-1]) / (1 - ab[1:])


def _kl_tables(schedule: NoiseSchedule, variance: Variance) -> tuple[Tensor, Tensor]:
    """The constant and the weight of ||eps - eps_theta||^2 in L_{l-1}, (T + 1,) float64, for levels >= 2."""
    beta, s2 = schedule.betas, model_variance(schedule, variance)[1:]
    r = _posterior_variance(schedule) / s2
    constant = (r - 1 - r.log()) / 2
    weight = beta**2 / (2 * s2 * (1 - beta) * (1 - schedule.alpha_bar[1:]))
    return torch.cat([beta.new_zeros(1), constant]), torch.cat([beta.new_zeros(1), weight])


_LN_2 = math.log(2)
