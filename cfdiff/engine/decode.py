"""THE decode loop: from tau_S down to the counterfactual, with or without guidance, anchor, mask, clip."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cfdiff.engine.encode import Trajectory
from cfdiff.engine.guidance import Guidance, GuidanceStep
from cfdiff.engine.noise import NoiseSource
from cfdiff.engine.process import Denoise, eps_from_x0, x0_from_eps
from cfdiff.engine.schedule import NoiseSchedule
from cfdiff.engine.solvers import Solver


@dataclass(frozen=True, eq=False)
class Step:
    """One step of decode, for progress bars, traces and previews.

    Attributes:
        index: 0 for the first step, from tau_S, to S - 1 for the one that lands on level 0.
        level_from, level_to: a and b.
        x: (B, C, H, W) x_b, after anchor and mask.
        x0_hat: as x, the unguided estimate at x_a: what the guides and the checker saw.
        eps: as x, the network's eps at x_a.
        eps_guided: as x, the eps that the step was taken with, after guidance and clipping.
        ratio: (B,) guidance strength used, as a fraction of ||eps||.
        active: (B,) bool, which samples were guided.
    """

    index: int
    level_from: int
    level_to: int
    x: Tensor
    x0_hat: Tensor
    eps: Tensor
    eps_guided: Tensor
    ratio: Tensor
    active: Tensor


@torch.no_grad()
def decode(
    schedule: NoiseSchedule,
    denoise: Denoise,
    trajectory: Trajectory,
    *,
    solver: Solver,
    guidance: Guidance | None = None,
    anchored: bool = True,
    mask: Tensor | None = None,
    clip: bool = False,
    noise: NoiseSource | None = None,
    callback: Callable[[Step], None] | None = None,
) -> Tensor:
    """Walk tau down from x^e_S, steered by `guidance`; S - 1 network calls, as eps^e_S is known from encode, and those
    that the solver asks for besides, on either walk.

    An anchored step adds the residual of the unguided path, delta = x^e_b - step(x^e_a, eps^e_a). It is
    written as

        x_b = x^e_b + (step(x_a, eps_guided) - step(x^e_a, eps^e_a))

    the same sum, ordered so that an unguided sample stays on its encoded path, and ends at its input, bit
    for bit. Both steps are taken by the same kind of solver, with a memory each, the same noise and the
    same clipping, so this holds for every solver.

    Args:
        denoise: eps_theta(x, level).
        trajectory: from an `encode_*`; of the samples to decode.
        solver: a `Solver`; its memory is reset.
        guidance: None is the unguided path.
        anchored: add the residual; False is plain decoding.
        mask: (B, 1, H, W) float in [0, 1], where the image may change; outside, where it is 0, the output
            equals the input bit for bit.
        clip: clip x0_hat to [-1, 1] and derive eps from it again (the guided one, once a step).
        noise: for a stochastic solver.
        callback: gets each `Step` after it is taken.

    Returns:
        (B, C, H, W) float32, the counterfactual; not clipped.
    """
    solver.reset()
    unguided = copy.deepcopy(solver)  # a memory of its own: two walks, two histories
    bound = clipped if clip else as_is
    tau, S = trajectory.tau, trajectory.steps
    x = trajectory.x[S]

    def steered(x: Tensor, level: int, eps: Tensor) -> tuple[Tensor, GuidanceStep, Tensor]:
        """x0_hat, what guidance made of eps, and that as the solver takes it."""
        x0_hat = x0_from_eps(schedule, x, level, eps)
        guided = unguided_step(eps) if guidance is None else guidance(x, level, eps, x0_hat)
        return x0_hat, guided, bound(schedule, x, level, guided.eps)

    def ask(x: Tensor, level: int) -> Tensor:
        return steered(x, level, denoise(x, level).to(x.dtype))[2]

    def ask_unguided(x: Tensor, level: int) -> Tensor:
        return bound(schedule, x, level, denoise(x, level).to(x.dtype))

    for i in range(S, 0, -1):
        a, b = tau[i], tau[i - 1]
        z = noise.like(x) if noise is not None and solver.stochastic else None

        # The network's direction, then the guided one; at tau_S encode has already asked the network.
        eps = trajectory.eps_at(S) if i == S else denoise(x, a).to(x.dtype)
        x0_hat, guided, eps_guided = steered(x, a, eps)

        # The step, kept on the encoded path but for what guidance changed.
        x = solver.step(schedule, x, eps_guided, a, b, z, ask)
        x_e, x_e_b = trajectory.x[i], trajectory.x[i - 1]
        if anchored:
            eps_e = bound(schedule, x_e, a, trajectory.eps_at(i))
            x = x_e_b + (x - unguided.step(schedule, x_e, eps_e, a, b, z, ask_unguided))
        if mask is not None:
            x = torch.where(mask > 0, mask * x + (1 - mask) * x_e_b, x_e_b)

        if callback is not None:
            callback(Step(S - i, a, b, x, x0_hat, eps, eps_guided, guided.ratio, guided.active))
    return x


def unguided_step(eps: Tensor) -> GuidanceStep:
    return GuidanceStep(eps, eps.new_zeros(len(eps)), eps.new_zeros(len(eps), dtype=torch.bool))


def as_is(schedule: NoiseSchedule, x: Tensor, level: int, eps: Tensor) -> Tensor:
    return eps


def clipped(schedule: NoiseSchedule, x: Tensor, level: int, eps: Tensor) -> Tensor:
    """The eps that belongs to x0_hat clipped to [-1, 1]."""
    return eps_from_x0(schedule, x, level, x0_from_eps(schedule, x, level, eps).clamp(-1, 1))
