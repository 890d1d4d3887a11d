"""THE decode loop: from tau_S down to the counterfactual, with or without guidance, anchor, mask, clip."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cfdiff.engine.encode import Trajectory
from cfdiff.engine.guidance import Guidance, GuidanceStep
from cfdiff.engine.noise import NoiseSource
from cfdiff.engine.process import eps_from_x0, x0_from_eps
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
        calls: (B,) int64, network calls of each sample since the step before.
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
    calls: Tensor


@dataclass(frozen=True)
class Early:
    """Ends a sample's walk as soon as it would do as it stands.

    Where the checker of the closed loop gives the target at least `least` on x0_hat, the counterfactual that would come
    of no more guidance is asked for: x_0 + (x0_hat - x0_hat^e), with x0_hat^e the encoded path's estimate there.

    Attributes:
        least: in (0, 1].
        enough: (rows (m,) int64 of the batch, their counterfactuals (m, C, H, W)) -> (m,) bool, which will do.
        highest: the highest level at which it may end. Deep in the noise x0_hat is the mean of many images, and what is
            made of it keeps a ghost of what was to go, whoever it convinces.
    """

    least: float
    enough: Callable[[Tensor, Tensor], Tensor]
    highest: float = math.inf


@torch.no_grad()
def decode(
    schedule: NoiseSchedule,
    denoise: Callable[..., Tensor],
    trajectory: Trajectory,
    *,
    solver: Solver,
    guidance: Guidance | None = None,
    anchored: bool = True,
    mask: Tensor | None = None,
    clip: bool = False,
    noise: NoiseSource | None = None,
    early: Early | None = None,
    dense: bool | None = None,
    callback: Callable[[Step], None] | None = None,
) -> Tensor:
    """Walk tau down from x^e_S, steered by `guidance`; at most S - 1 network calls, as eps^e is known from encode where
    a sample is still on its encoded path, and those that the solver asks for besides, on either walk.

    An anchored step adds the residual of the unguided path, delta = x^e_b - step(x^e_a, eps^e_a). It is
    written as

        x_b = x^e_b + (step(x_a, eps_guided) - step(x^e_a, eps^e_a))

    the same sum, ordered so that an unguided sample stays on its encoded path, and ends at its input, bit
    for bit. Both steps are taken by the same kind of solver, with a memory each, the same noise and the
    same clipping, so this holds for every solver.

    Args:
        denoise: eps_theta(x, level), with `trajectory.told` (n,) as a third argument where that is something.
        trajectory: from an `encode_*`; of the samples to decode.
        solver: a `Solver`; its memory is reset.
        guidance: None is the unguided path.
        anchored: add the residual; False is plain decoding.
        mask: (B, 1, H, W) float in [0, 1], where the image may change; outside, where it is 0, the output
            equals the input bit for bit.
        clip: clip x0_hat to [-1, 1] and derive eps from it again (the guided one, once a step).
        noise: for a stochastic solver.
        early: ends samples before the last step; None walks all of them down. Where guidance has no checker it does
            nothing.
        dense: ask the network of all samples, not of those alone that need it, so that no step waits to learn which
            those are; None is so on everything but a CPU, unless samples end early.
        callback: gets each `Step` after it is taken.

    Returns:
        (B, C, H, W) float32, the counterfactual; not clipped.
    """
    solver.reset()
    unguided = copy.deepcopy(solver)  # a memory of its own: two walks, two histories
    bound = clipped if clip else as_is
    tau, S, told = trajectory.tau, trajectory.steps, trajectory.told
    x = trajectory.x[S]
    each = (-1, *[1] * (x.ndim - 1))
    dense = x.device.type != "cpu" and early is None if dense is None else dense
    walking, ended = torch.ones(len(x), dtype=torch.bool, device=x.device), x  # `ended` is read where it was written
    calls = torch.zeros(len(x), dtype=torch.int64, device=x.device)

    def network(x: Tensor, level: int, rows: Tensor | None = None) -> Tensor:
        """eps of all samples, or of some `rows` (n,), at x (n, ...)."""
        calls[slice(None) if rows is None else rows] += 1
        some = () if told is None else (told if rows is None else told[rows],)
        return denoise(x, level, *some).to(x.dtype)

    def predicted(x: Tensor, i: int) -> Tensor:
        """eps at x_i: on the encoded path it is known, bit for bit, whatever else is in the batch."""
        known, level = trajectory.eps[i], tau[i]
        if known is None:  # of this path only the top is known
            return network(x, level)
        if i == S:  # where all are on it
            return known
        left = (x != trajectory.x[i]).flatten(1).any(1)
        if dense:
            return torch.where(left.view(each), network(x, level), known)
        rows = (left & walking).nonzero()[:, 0]
        return known if not len(rows) else known.index_copy(0, rows, network(x[rows], level, rows))

    def ask(x: Tensor, level: int) -> Tensor:
        eps = network(x, level)
        return bound(schedule, x, level, steered(x, level, eps, x0_from_eps(schedule, x, level, eps)).eps)

    def ask_unguided(x: Tensor, level: int) -> Tensor:
        return bound(schedule, x, level, network(x, level))

    def steered(x: Tensor, level: int, eps: Tensor, x0_hat: Tensor) -> GuidanceStep:
        among = None if early is None else walking
        return unguided_step(eps) if guidance is None else guidance(x, level, eps, x0_hat, among)

    def outcome(i: int, x0_hat: Tensor, rows: Tensor) -> Tensor:
        """The counterfactuals of some samples at x_i if guidance ended there."""
        x0 = x0_hat[rows].clamp(-1, 1) if clip else x0_hat[rows]
        if anchored:
            x_e = trajectory.x[i][rows]
            eps_e = bound(schedule, x_e, tau[i], trajectory.eps_at(i)[rows])
            x0 = trajectory.x[0][rows] + (x0 - x0_from_eps(schedule, x_e, tau[i], eps_e))
        return x0 if mask is None else within(mask[rows], x0, trajectory.x[0][rows])

    for i in range(S, 0, -1):
        a, b = tau[i], tau[i - 1]
        z = noise.like(x) if noise is not None and solver.stochastic else None

        # The network's direction, then the guided one.
        eps = predicted(x, i)
        x0_hat = x0_from_eps(schedule, x, a, eps)
        guided = steered(x, a, eps, x0_hat)
        # The last step costs no more calls.
        if early is not None and guided.sure is not None and a <= early.highest and b > 0:
            rows = (walking & (guided.sure >= early.least)).nonzero()[:, 0]
            if len(rows):
                x0 = outcome(i, x0_hat, rows)
                done = early.enough(rows, x0)
                ended = ended.index_copy(0, rows[done], x0[done])
                walking = walking.index_fill(0, rows[done], False)

        # The step, kept on the encoded path but for what guidance changed.
        eps_guided = bound(schedule, x, a, guided.eps)
        x = solver.step(schedule, x, eps_guided, a, b, z, ask)
        x_e, x_e_b = trajectory.x[i], trajectory.x[i - 1]
        if anchored:
            eps_e = bound(schedule, x_e, a, trajectory.eps_at(i))
            x = x_e_b + (x - unguided.step(schedule, x_e, eps_e, a, b, z, ask_unguided))
        if mask is not None:
            x = within(mask, x, x_e_b)

        if callback is not None:
            callback(Step(S - i, a, b, x, x0_hat, eps, eps_guided, guided.ratio, guided.active, calls.clone()))
        calls.zero_()
    return x if early is None else torch.where(walking.view(each), x, ended)


def within(mask: Tensor, x: Tensor, outside: Tensor) -> Tensor:
    """x where the mask (B, 1, H, W) is 1, `outside` bit for bit where it is 0, both in between."""
    return torch.where(mask > 0, mask * x + (1 - mask) * outside, outside)


def unguided_step(eps: Tensor) -> GuidanceStep:
    return GuidanceStep(eps, eps.new_zeros(len(eps)), eps.new_zeros(len(eps), dtype=torch.bool), None)


def as_is(schedule: NoiseSchedule, x: Tensor, level: int, eps: Tensor) -> Tensor:
    return eps


def clipped(schedule: NoiseSchedule, x: Tensor, level: int, eps: Tensor) -> Tensor:
    """The eps that belongs to x0_hat clipped to [-1, 1]."""
    return eps_from_x0(schedule, x, level, x0_from_eps(schedule, x, level, eps).clamp(-1, 1))
