"""Classifier-free guidance as one more guide: the gradient of the classifier that a conditional denoiser implies.

By Bayes' rule grad log p(c | x_l) = grad log p(x_l | c) - grad log p(x_l), and a score is -eps / sqrt(1 - ab_l), so

    g = grad log p(c_target | x_l) - grad log p(c_source | x_l)
      = -(eps(x_l, l, c_target) - eps(x_l, l, c_source)) / sqrt(1 - ab_l)

(Ho & Salimans 2022, section 3.2 and eq. 6, with the class that the image has in the place of no class). `Guidance`
subtracts k sqrt(1 - ab_l) g from eps, and so adds k (eps(c_target) - eps(c_source)), clamped as any guide.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from cfdiff.engine.schedule import NoiseSchedule

ConditionalDenoise = Callable[[Tensor, int, Tensor], Tensor]
"""(x_l (B, ...), level l, classes (B,) int64) -> eps_theta (B, ...), float32."""


@dataclass(frozen=True)
class ClassifierFree:
    """A conditional denoiser of two classes that steers away from the class 1 - target and towards `target`.

    Attributes:
        schedule: the denoiser's.
        denoise: asked twice a gradient, without a graph.
        weight: multiplies g. With `Guidance.scale` s, weight w / s makes w the guidance weight of the field.
        eps_is_source: the walk is told the source class, so its eps is eps(c_source) and is not asked for again.
        max_level: as for any guide.
    """

    schedule: NoiseSchedule
    denoise: ConditionalDenoise
    weight: float = 1.0
    eps_is_source: bool = False
    max_level: int | None = None
    joint: bool = False

    def gradient(self, x: Tensor, level: int, eps: Tensor, x0_hat: Tensor, target: Tensor) -> Tensor:
        """weight g at x (B, C, H, W); target (B,) int64 is 0 or 1."""
        source = eps if self.eps_is_source else self.denoise(x, level, 1 - target)
        _, noise = self.schedule.signal_noise(level, x)
        return self.weight * (source - self.denoise(x, level, target)) / noise
