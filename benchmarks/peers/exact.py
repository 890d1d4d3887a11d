"""Exact inversions: EDICT, BDIA and O-BELM, each an affine coupling that is undone as it stands.

Each keeps a second state beside the image, which its way down needs. States are float64, as in their papers' code, so
that what is lost is lost to the method. Guidance changes eps on the way down alone.

    EDICT  Wallace et al. 2023, equations 13 to 15; two calls a step, mixing p = 0.93
    BDIA   Zhang et al. 2024, equation 15, gamma = 1
    BELM   Wang et al. 2024, O-BELM, equation 20: second order, here derived from the Taylor series at sigma / alpha
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from cfdiff.engine import NoiseSchedule, NoiseSource, ddim_step, make_tau
from peers.networks import Networks

DEPTH, LEVELS = 0.3, 15
MIXING = 0.93
GAMMA = 1.0
Eps = Callable[[Tensor, int], Tensor]
State = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Coupling:
    """`up` from the image to two states at the top; `down` from them to the image."""

    up: Callable[[NoiseSchedule, Eps, Tensor, list[int]], State]
    down: Callable[[NoiseSchedule, Eps, State, list[int]], Tensor]


def edict_up(schedule: NoiseSchedule, eps: Eps, x: Tensor, tau: list[int]) -> State:
    """(x, y) at the top; the image is both at the bottom."""
    p, y = MIXING, x
    for b, a in zip(tau, tau[1:], strict=False):
        kept, pushed = _affine(schedule, a, b)
        y = (y - (1 - p) * x) / p
        x = (x - (1 - p) * y) / p
        y = (y - pushed * eps(x, a)) / kept
        x = (x - pushed * eps(y, a)) / kept
    return x, y


def edict_down(schedule: NoiseSchedule, eps: Eps, state: State, tau: list[int]) -> Tensor:
    (x, y), p = state, MIXING
    for a, b in zip(tau[:0:-1], tau[-2::-1], strict=True):
        kept, pushed = _affine(schedule, a, b)
        x = kept * x + pushed * eps(y, a)
        y = kept * y + pushed * eps(x, a)
        x = p * x + (1 - p) * y
        y = p * y + (1 - p) * x
    return x


def bdia_up(schedule: NoiseSchedule, eps: Eps, x: Tensor, tau: list[int]) -> State:
    """(x_S, x_{S-1}); the first step is DDIM's."""
    below, here = x, ddim_step(schedule, x, eps(x, 1), 0, tau[1])
    for i in range(1, len(tau) - 1):
        e = eps(here, tau[i])
        down, up = (ddim_step(schedule, here, e, tau[i], tau[j]) for j in (i - 1, i + 1))
        below, here = here, (below - down) / GAMMA + up
    return here, below


def bdia_down(schedule: NoiseSchedule, eps: Eps, state: State, tau: list[int]) -> Tensor:
    above, here = state
    for i in range(len(tau) - 2, 0, -1):
        e = eps(here, tau[i])
        down, up = (ddim_step(schedule, here, e, tau[i], tau[j]) for j in (i - 1, i + 1))
        above, here = here, GAMMA * (above - up) + down
    return here


def belm_up(schedule: NoiseSchedule, eps: Eps, x: Tensor, tau: list[int]) -> State:
    """(x_S, x_{S-1}), over sqrt(ab); the first step is DDIM's."""
    below, here = x, _over(schedule, ddim_step(schedule, x, eps(x, 1), 0, tau[1]), tau[1])
    for i in range(1, len(tau) - 1):
        far, near, slope = _belm(schedule, tau, i)
        e = eps(_times(schedule, here, tau[i]), tau[i])
        below, here = here, (below - near * here + slope * e) / far
    return here, below


def belm_down(schedule: NoiseSchedule, eps: Eps, state: State, tau: list[int]) -> Tensor:
    above, here = state
    for i in range(len(tau) - 2, 0, -1):
        far, near, slope = _belm(schedule, tau, i)
        e = eps(_times(schedule, here, tau[i]), tau[i])
        above, here = here, far * above + near * here - slope * e
    return here


COUPLINGS = {
    "EDICT": Coupling(edict_up, edict_down),
    "BDIA": Coupling(bdia_up, bdia_down),
    "BELM": Coupling(belm_up, belm_down),
}


def edit(
    name: str, net: Networks, x: Tensor, target: Tensor, scales: Sequence[float], noise: NoiseSource
) -> list[Tensor]:
    """x (B, C, H, W) in [-1, 1] edited to target (B,) with each scale; scale 0 is the null edit."""
    tau, coupling = make_tau(net.schedule, DEPTH, LEVELS), COUPLINGS[name]
    top = coupling.up(net.schedule, net.eps, x.double(), tau)
    ask = [partial(net.guided, target=target, scale=scale) for scale in scales]
    return [coupling.down(net.schedule, guided, top, tau) for guided in ask]


def _affine(schedule: NoiseSchedule, a: int, b: int) -> tuple[float, float]:
    """(k, c) of a DDIM step x_b = k x_a + c eps."""
    ab_a, ab_b = float(schedule.alpha_bar[a]), float(schedule.alpha_bar[b])
    kept = math.sqrt(ab_b / ab_a)
    return kept, math.sqrt(1 - ab_b) - kept * math.sqrt(1 - ab_a)


def _belm(schedule: NoiseSchedule, tau: list[int], i: int) -> tuple[float, float, float]:
    """Weights of x_{i+1}, x_i and -eps_i in x_{i-1}, all over sqrt(ab), with h the steps of sigma / alpha."""
    low, here, high = (math.exp(-0.5 * float(schedule.log_snr(tau[j]))) for j in (i - 1, i, i + 1))
    h, h_above = here - low, high - here
    far = h**2 / h_above**2
    return far, 1 - far, h * (h + h_above) / h_above


def _over(schedule: NoiseSchedule, x: Tensor, level: int) -> Tensor:
    return x / math.sqrt(float(schedule.alpha_bar[level]))


def _times(schedule: NoiseSchedule, x: Tensor, level: int) -> Tensor:
    return x * math.sqrt(float(schedule.alpha_bar[level]))
