"""Guidance: eps_guided = eps - k sqrt(1 - ab_l) g, with g = grad_x log p(y* | x_l, l), sample by sample.

    k = min(scale, ratio ||eps|| / (sqrt(1 - ab_l) ||g||))

(Dhariwal & Nichol 2021, section 4.2, with the strength clamped to a fraction of the network's own norm.)
Guides are a list and their gradients add. A gradient is that of the SUM over the batch, never of the mean,
so a sample's is the same in any batch; it is taken in float32, outside autocast: networks may open their
own autocast inside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from cfdiff.engine.process import Denoise, x0_from_eps
from cfdiff.engine.schedule import NoiseSchedule
from cfdiff.engine.symmetry import Symmetry, view_at

NoisyLogProb = Callable[[Tensor, int], Tensor]
"""(x_l (B, C, H, W), level) -> log p(class | x_l), (B, K): the noise-aware classifier."""

CleanLogProb = Callable[[Tensor], Tensor]
"""x_0 (B, C, H, W) -> log p(class | x_0), (B, K): any classifier of clean images in [-1, 1]."""


class Guide(Protocol):
    """What steers. A bag's joint mode is one more: `joint`, and a gradient that reads the whole batch."""

    @property
    def max_level(self) -> int | None:
        """The noisiest level at which the guide is trusted, and so used; None is every level."""
        ...

    @property
    def joint(self) -> bool:
        """Whether a sample's gradient depends on the others; then the guide always gets the whole batch."""
        ...

    def gradient(self, x: Tensor, level: int, eps: Tensor, x0_hat: Tensor, target: Tensor) -> Tensor:
        """grad_x sum_b log p(target_b | x_b), (B, C, H, W) float32.

        Args:
            x: (B, C, H, W) x_l.
            level: l in 1..T, the one that the diffusion network got.
            eps, x0_hat: as x, the network's unguided prediction on x, both ways.
            target: (B,) int64, the class asked for.
        """
        ...


@dataclass(frozen=True)
class NoisyGuide:
    """A noise-aware classifier on x_l: g = grad_x log p(y* | x_l, l).

    With `views` it is shown another mirror image at each level: what only convinces it one way round fades.
    """

    log_prob: NoisyLogProb
    max_level: int | None = None
    joint: bool = False
    views: Symmetry = "none"

    def gradient(self, x: Tensor, level: int, eps: Tensor, x0_hat: Tensor, target: Tensor) -> Tensor:
        return grad_log_prob(lambda x: self.log_prob(view_at(x, self.views, level), level), x, target)


@dataclass(frozen=True)
class TweedieGuide:
    """A clean classifier on Tweedie's x0_hat.

    By default the U-Net's part of the chain rule is left out: g = grad_{x0_hat} log p(y* | x0_hat) /
    sqrt(ab_l), no pass back through the network. `exact` takes grad_x log p(y* | x0_hat(x)) through
    `denoise` (DPS: Chung et al. 2023), one more call forth and back; `denoise` must then be differentiable.
    `views`: as of `NoisyGuide`.
    """

    schedule: NoiseSchedule
    log_prob_clean: CleanLogProb
    exact: bool = False
    denoise: Denoise | None = None
    max_level: int | None = None
    joint: bool = False
    views: Symmetry = "none"

    def gradient(self, x: Tensor, level: int, eps: Tensor, x0_hat: Tensor, target: Tensor) -> Tensor:
        def seen(x0: Tensor) -> Tensor:
            return self.log_prob_clean(view_at(x0, self.views, level))

        if self.exact:
            return grad_log_prob(lambda x: seen(self._x0_hat(x, level)), x, target)
        signal, _ = self.schedule.signal_noise(level, x)
        return grad_log_prob(seen, x0_hat, target) / signal

    def _x0_hat(self, x: Tensor, level: int) -> Tensor:
        assert self.denoise is not None, "the exact gradient passes through the denoiser: TweedieGuide(denoise=...)"
        return x0_from_eps(self.schedule, x, level, self.denoise(x, level).to(x.dtype))


@dataclass(frozen=True)
class GuidanceStep:
    """What guidance did at one step.

    Attributes:
        eps: (B, C, H, W) eps_guided; where not active, the network's eps bit for bit.
        ratio: (B,) the strength used, k sqrt(1 - ab_l) ||g|| / ||eps||.
        active: (B,) bool, False where guidance is off at this level or the checker is already sure.
        sure: (B,) what the closed loop's checker gives the target on x0_hat; None where it was not asked.
    """

    eps: Tensor
    ratio: Tensor
    active: Tensor
    sure: Tensor | None


@dataclass(frozen=True, eq=False)
class Guidance:
    """Guides, their strength, the class asked for, and the closed loop that stops when the edit suffices.

    Attributes:
        schedule: the diffusion model's.
        guides: their gradients add.
        scale: k's upper bound, a float or (B,); 0 is no guidance.
        ratio: the clamp, a float or (B,): the guidance term is at most this fraction of ||eps||; None is no
            clamp.
        target: (B,) int64 class asked for.
        checker: a clean classifier; where its p(target | x0_hat) >= confidence, that sample's k is 0 for
            the step. None is the open loop.
        confidence: in (0, 1].
        min_level: guidance is off below it.
        enough: x0_hat (B, C, H, W) -> (B,) bool, the samples that need no guidance at this step, in place of the
            checker: a bag is done as a whole.
        dense: ask the guides of all samples, not of the active ones alone, so that no step waits to learn which those
            are; None is so on everything but a CPU.
    """

    schedule: NoiseSchedule
    guides: Sequence[Guide]
    scale: float | Tensor
    ratio: float | Tensor | None
    target: Tensor
    checker: CleanLogProb | None = None
    confidence: float = 0.95
    min_level: int = 1
    enough: Callable[[Tensor], Tensor] | None = None
    dense: bool | None = None

    @torch.no_grad()
    def __call__(self, x: Tensor, level: int, eps: Tensor, x0_hat: Tensor, among: Tensor | None = None) -> GuidanceStep:
        """eps_guided at x_l from the network's eps and x0_hat there, all (B, C, H, W); samples that are not `among`
        (B,) bool, None for all, are not guided."""
        guides, target = self._guides_at(level), self.target.to(x.device)
        dense = x.device.type != "cpu" if self.dense is None else self.dense
        active, sure = torch.zeros(len(x), dtype=torch.bool, device=x.device), None
        if guides:
            active, sure = self._active(x0_hat, None if dense else among)
            active = active if among is None else active & among
        if not guides or (not dense and not active.any()):
            return GuidanceStep(eps, eps.new_zeros(len(x)), active, sure)

        g = torch.zeros_like(x)
        for guide in guides:
            if dense or guide.joint:
                g += guide.gradient(x, level, eps, x0_hat, target).to(x.dtype)
            else:
                rows = active
                g[rows] += guide.gradient(x[rows], level, eps[rows], x0_hat[rows], target[rows]).to(x.dtype)

        _, noise = self.schedule.signal_noise(level, x)
        g_norm, eps_norm = noise * _norm(g), _norm(eps)
        k = _per_sample(self.scale, x)
        if self.ratio is not None:
            clamp = _per_sample(self.ratio, x) * eps_norm / g_norm.clamp_min(_TINY)
            k = torch.minimum(k, clamp)
        k = torch.where(active & (g_norm > 0), k, 0)  # also where scale is inf: inf * 0 is no strength
        each = (-1, *[1] * (x.ndim - 1))
        eps_guided = torch.where(active.view(each), eps - (k * noise).view(each) * g, eps)
        return GuidanceStep(eps_guided, k * g_norm / eps_norm.clamp_min(_TINY), active, sure)

    def _guides_at(self, level: int) -> list[Guide]:
        if level < self.min_level:
            return []
        return [guide for guide in self.guides if guide.max_level is None or level <= guide.max_level]

    def _active(self, x0_hat: Tensor, among: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(B,) bool: strength asked for, and the checker, asked of the samples `among`, not yet sure of the target; and
        how sure it is, (B,), 0 where it was not asked."""
        active = _per_sample(self.scale, x0_hat) > 0
        if self.enough is not None:
            return active & ~self.enough(x0_hat), None
        if self.checker is None:
            return active, None
        target = self.target.to(x0_hat.device)[:, None]
        with torch.autocast(x0_hat.device.type, enabled=False):
            if among is None or among.all():
                p = self.checker(x0_hat).exp().gather(1, target)[:, 0]
            else:
                p = x0_hat.new_zeros(len(x0_hat))
                if among.any():
                    p[among] = self.checker(x0_hat[among]).exp().gather(1, target[among])[:, 0].to(p.dtype)
        return active & (p < self.confidence), p


def grad_log_prob(log_prob: Callable[[Tensor], Tensor], x: Tensor, target: Tensor) -> Tensor:
    """grad_x sum_b log_prob(x)_b,target_b, as x (B, ...); no autocast but what `log_prob` opens itself."""
    with torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
        x = x.detach().requires_grad_()
        chosen = log_prob(x).gather(1, target.to(x.device)[:, None])
        return torch.autograd.grad(chosen.sum(), x)[0]


_TINY = torch.finfo(torch.float32).tiny


def _per_sample(value: float | Tensor, like: Tensor) -> Tensor:
    """(B,) of a number, or of one for each sample."""
    return value.to(like) if isinstance(value, Tensor) else like.new_full((len(like),), value)


def _norm(x: Tensor) -> Tensor:
    """(B,) the L2 norm of each sample."""
    return x.flatten(1).norm(dim=1)
