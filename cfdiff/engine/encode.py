"""Encode: a real image up the levels of tau to noise, keeping everything that an anchored decode needs.

x0 is never clipped on the way up: a clipped step could not be undone. The network knows no level 0 (its
timestep is max(l, 1) - 1), so the step that leaves the clean image asks it at level 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cfdiff.engine.noise import NoiseSource
from cfdiff.engine.process import Denoise, q_sample
from cfdiff.engine.schedule import NoiseSchedule
from cfdiff.engine.steps import ddim_step


@dataclass(frozen=True, eq=False)
class Trajectory:
    """The encoded path of a batch, x^e_i and eps^e_i = eps_theta(x^e_i, tau_i) at every level of tau.

    Attributes:
        tau: [0 = tau_0 < ... < tau_S].
        x: S + 1 tensors (B, C, H, W) float32; x[0] is the input itself, x[S] is where decode starts.
        eps: S + 1 entries, tensors like x; eps[0] is None, there is no noise in the input.
        calls: network calls an image that the encoding took.
        schedule: the schedule it was walked on.
        told: (B,) int64, the class of each sample that a conditional denoiser was told on the way up, and must be told
            on the way down; None is nothing.
    """

    tau: list[int]
    x: list[Tensor]
    eps: list[Tensor | None]
    calls: int
    schedule: NoiseSchedule
    told: Tensor | None = None

    @property
    def steps(self) -> int:
        """S."""
        return len(self.tau) - 1

    def eps_at(self, i: int) -> Tensor:
        """eps^e_i, (B, C, H, W), for i in 1..S."""
        eps = self.eps[i]
        assert eps is not None, "eps^e_i begins at i = 1"
        return eps

    def delta(self, i: int) -> Tensor:
        """The residual x^e_{i-1} - step(x^e_i, eps^e_i, tau_i -> tau_{i-1}) of DDIM, for i in 1..S."""
        back = ddim_step(self.schedule, self.x[i], self.eps_at(i), self.tau[i], self.tau[i - 1])
        return self.x[i - 1] - back

    def select(self, indices: Sequence[int] | Tensor) -> Trajectory:
        """The same path for some of the samples, in the order of `indices` (ints, or a boolean mask (B,)).

        For all of them, in their order, it is this path itself: it may be gigabytes.
        """
        if not isinstance(indices, Tensor) and list(indices) == list(range(len(self.x[0]))):
            return self
        rows = torch.as_tensor(indices, device=self.x[0].device)
        return self._map(lambda x: x[rows])

    def every(self, k: int) -> Trajectory:
        """The same path at every k-th level, from the input to the top: decode takes fewer steps than encode took, and
        knows the network's answer at each of them all the same. S must be a multiple of k."""
        assert self.steps % k == 0, "the top must stay"
        return replace(self, tau=self.tau[::k], x=self.x[::k], eps=self.eps[::k])

    def to(self, device: torch.device | str) -> Trajectory:
        """The same path on another device."""
        return self._map(lambda x: x.to(device))

    def _map(self, f: Callable[[Tensor], Tensor]) -> Trajectory:
        eps = [None if e is None else f(e) for e in self.eps]
        told = None if self.told is None else f(self.told)
        return replace(self, x=[f(x) for x in self.x], eps=eps, told=told)


@torch.no_grad()
def from_noise(schedule: NoiseSchedule, denoise: Denoise, x: Tensor, tau: list[int]) -> Trajectory:
    """A path of which only the top is known: x (B, C, H, W) at tau_S, for a decode that is not anchored; one call.

    With x from N(0, I) and tau_S from `spacing.noise_level` the decode draws images (Ho et al. 2020, algorithm 2).
    """
    S = len(tau) - 1
    return Trajectory(tau, [x] * (S + 1), [*[None] * S, denoise(x, tau[S]).to(x.dtype)], 1, schedule)


@torch.no_grad()
def encode_ddim(schedule: NoiseSchedule, denoise: Denoise, x0: Tensor, tau: list[int]) -> Trajectory:
    """DDIM inversion: step up with the eps of the level below (Song et al. 2021, section 4.3); S + 1 calls.

    Args:
        denoise: eps_theta(x, level).
        x0: (B, C, H, W) float32 in [-1, 1].
        tau: from `make_tau`.
    """
    return encode_fixed_point(schedule, denoise, x0, tau, iterations=0)


@torch.no_grad()
def encode_fixed_point(
    schedule: NoiseSchedule, denoise: Denoise, x0: Tensor, tau: list[int], iterations: int = 3
) -> Trajectory:
    """Solve x_i = step(x_{i-1}, eps_theta(x_i, tau_i), tau_{i-1} -> tau_i) for x_i, which decode then undoes.

    It starts from the DDIM guess and takes S (iterations + 1) + 1 calls (Pan et al. 2023, AIDI; Li et al.
    2024, FPI). With no iteration it is `encode_ddim`.
    """
    x, eps = [x0], [denoise(x0, max(tau[0], 1)).to(x0.dtype)]
    for below, level in zip(tau, tau[1:], strict=False):
        eps_i = eps[-1]
        for _ in range(iterations + 1):
            x_i = ddim_step(schedule, x[-1], eps_i, below, level)
            eps_i = denoise(x_i, level).to(x0.dtype)
        x.append(x_i)
        eps.append(eps_i)
    return Trajectory(tau, x, [None, *eps[1:]], 1 + (len(tau) - 1) * (iterations + 1), schedule)


@torch.no_grad()
def encode_noise(
    schedule: NoiseSchedule, denoise: Denoise, x0: Tensor, tau: list[int], noise_source: NoiseSource
) -> Trajectory:
    """q(x_l | x_0) at every level with ONE eps an image, as SDEdit and DiME noise their input; S calls.

    eps^e_i is still the network's eps_theta(x^e_i, tau_i): it is what the unguided path would do from there.
    """
    noise = noise_source.like(x0)
    x = [x0, *(q_sample(schedule, x0, level, noise) for level in tau[1:])]
    eps = [denoise(x_i, level).to(x0.dtype) for x_i, level in zip(x[1:], tau[1:], strict=True)]
    return Trajectory(tau, x, [None, *eps], len(tau) - 1, schedule)
