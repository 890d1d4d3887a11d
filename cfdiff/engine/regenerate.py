"""Draw a place anew: from noise down to level 0 inside a mask, with the source held outside at every level.

    x_b = m step(x_a, eps_guided) + (1 - m) q_sample(x_0, b),    at b = 0 outside x_0 itself

(RePaint, Lugmayr et al. 2022: outside fresh noise of its own level; each step is taken `resample` times, going back up
between, so that inside and outside come to fit one another. Their algorithm 1, with tau for every level.)
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cfdiff.engine.decode import Step, as_is, clipped, unguided_step, within
from cfdiff.engine.guidance import Guidance, GuidanceStep
from cfdiff.engine.noise import NoiseSource
from cfdiff.engine.process import Denoise, q_sample, x0_from_eps
from cfdiff.engine.schedule import NoiseSchedule
from cfdiff.engine.solvers import Solver


@torch.no_grad()
def regenerate(
    schedule: NoiseSchedule,
    denoise: Denoise,
    x0: Tensor,
    tau: list[int],
    mask: Tensor,
    *,
    solver: Solver,
    noise: NoiseSource,
    guidance: Guidance | None = None,
    resample: int = 2,
    clip: bool = True,
    callback: Callable[[Step], None] | None = None,
) -> Tensor:
    """x0 (B, C, H, W) with what is inside `mask` drawn anew; resample * S network calls, but for the last step's one.

    Args:
        denoise: eps_theta(x, level).
        tau: levels [0 = tau_0 < ... < tau_S]; the higher tau_S, the less is kept of what was inside.
        mask: (B, 1, H, W) float in [0, 1]; where it is 0 the output equals x0 bit for bit.
        solver: its memory is forgotten wherever a step is taken again.
        noise: of the start, of the outside, of the way back up, and of a stochastic solver.
        guidance: steers every step; it sees x0_hat as the step does.
        resample: times that each step is taken, but the last to level 0; at least 1.
        clip: clip x0_hat to [-1, 1] before guidance and derive eps from it again, and once more after guidance.
        callback: gets each `Step`.

    Returns:
        (B, C, H, W) float32, not clipped.
    """
    solver.reset()
    bound = clipped if clip else as_is
    S = len(tau) - 1
    calls = torch.zeros(len(x0), dtype=torch.int64, device=x0.device)

    def steered(x: Tensor, level: int) -> tuple[Tensor, Tensor, GuidanceStep, Tensor]:
        """eps and x0_hat as guidance sees them, what it made of them, and that eps as the solver takes it."""
        calls.add_(1)
        eps = bound(schedule, x, level, denoise(x, level).to(x.dtype))
        x0_hat = x0_from_eps(schedule, x, level, eps)
        guided = unguided_step(eps) if guidance is None else guidance(x, level, eps, x0_hat)
        return eps, x0_hat, guided, bound(schedule, x, level, guided.eps)

    def ask(x: Tensor, level: int) -> Tensor:
        return steered(x, level)[3]

    x = q_sample(schedule, x0, tau[S], noise.like(x0))
    for i in range(S, 0, -1):
        a, b = tau[i], tau[i - 1]
        times = resample if b > 0 else 1
        for again in range(times):
            eps, x0_hat, guided, eps_guided = steered(x, a)
            z = noise.like(x) if solver.stochastic else None
            x = solver.step(schedule, x, eps_guided, a, b, z, ask)
            outside = q_sample(schedule, x0, b, noise.like(x)) if b > 0 else x0
            x = within(mask, x, outside)
            if callback is not None:
                callback(Step(S - i, a, b, x, x0_hat, eps, eps_guided, guided.ratio, guided.active, calls.clone()))
            calls.zero_()
            if again < times - 1:
                x = renoise(schedule, x, b, a, noise.like(x))
                solver.reset()
    return x


def renoise(schedule: NoiseSchedule, x: Tensor, b: int, a: int, noise: Tensor) -> Tensor:
    """x_a from x_b, a > b: q(x_a | x_b) = N(sqrt(ab_a / ab_b) x_b, 1 - ab_a / ab_b)  (Ho et al. 2020, eq. 2)."""
    kept = float(schedule.alpha_bar[a] / schedule.alpha_bar[b])
    return kept**0.5 * x + (1 - kept) ** 0.5 * noise
