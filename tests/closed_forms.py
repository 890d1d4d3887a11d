"""A mixture of two Gaussians on the line, of which everything is known: densities, classifier, expectations.

x_0 is N(m_k, s^2) with probability 1/2 for each class k, so x_l is N(sqrt(ab) m_k, v), v = ab s^2 + 1 - ab. Nothing
here uses the program's formulas: expectations are sums over a grid or over Gauss-Hermite nodes, in float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import ndtr
from torch import Tensor

from cfdiff.engine import NoiseSchedule


@dataclass(frozen=True, eq=False)
class Line:
    """Classes 0 at -mean and 1 at +mean, both of deviation std."""

    schedule: NoiseSchedule
    mean: float = 0.4
    std: float = 0.15

    def moments(self, level: int) -> tuple[float, float, float]:
        """(sqrt(ab), 1 - ab, v)."""
        ab = float(self.schedule.alpha_bar[level])
        return math.sqrt(ab), 1 - ab, ab * self.std**2 + 1 - ab

    @property
    def means(self) -> tuple[float, float]:
        return -self.mean, self.mean

    def log_class_density(self, x: Tensor, level: int) -> Tensor:
        """log p(x_l | k), (..., 2)."""
        signal, _, v = self.moments(level)
        each = [-((x - signal * m) ** 2) / (2 * v) - 0.5 * math.log(2 * math.pi * v) for m in self.means]
        return torch.stack(each, -1)

    def log_density(self, x: Tensor, level: int) -> Tensor:
        """log p(x_l)."""
        return self.log_class_density(x, level).logsumexp(-1) - math.log(2)

    def log_prob(self, x: Tensor, level: int) -> Tensor:
        """log p(k | x_l), (B, 2) of x (B, 1, 1, 1): Bayes' rule."""
        return self.log_class_density(x.flatten(), level).log_softmax(-1)

    def cdf(self, x: np.ndarray, level: int) -> np.ndarray:
        """P(x_l <= x)."""
        signal, _, v = self.moments(level)
        return sum(ndtr((x - signal * m) / math.sqrt(v)) for m in self.means) / 2

    def eps(self, x: Tensor, level: int, condition: Tensor | None = None) -> Tensor:
        """E[eps | x_l], or of one class (B,) E[eps | x_l, k]: Gaussian regression in each class, weighed by Bayes."""
        signal, noise2, v = self.moments(level)
        of_class = torch.stack([math.sqrt(noise2) / v * (x - signal * m) for m in self.means], -1)
        p = self.log_class_density(x, level).softmax(-1)
        if condition is not None:
            p = torch.nn.functional.one_hot(condition, 2).to(x).view(len(x), *[1] * (x.ndim - 1), 2)
        return (p * of_class).sum(-1)

    def x0(self, x: Tensor, level: int) -> Tensor:
        """E[x_0 | x_l], the same way."""
        signal, _, v = self.moments(level)
        of_class = torch.stack([m + signal * self.std**2 / v * (x - signal * m) for m in self.means], -1)
        return (self.log_class_density(x, level).softmax(-1) * of_class).sum(-1)

    def nodes(self, n: int = 40) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(x_0, eps, class, weight) (M,): an expectation over both is the weighted sum, exact for polynomials."""
        z, w = np.polynomial.hermite_e.hermegauss(n)
        w = w / w.sum()
        k, i, j = np.meshgrid([0, 1], np.arange(n), np.arange(n), indexing="ij")
        x0 = np.array(self.means)[k] + self.std * z[i]
        parts = (x0, z[j], k, w[i] * w[j] / 2)
        x0, eps, k, weight = (torch.from_numpy(np.ascontiguousarray(part.ravel())) for part in parts)
        return x0, eps, k, weight


def image(x: Tensor) -> Tensor:
    """Numbers (B,) as images (B, 1, 1, 1)."""
    return x.view(-1, 1, 1, 1)


def quantiles(n: int) -> np.ndarray:
    """(n,) probabilities, evenly spread."""
    return (np.arange(n) + 0.5) / n


def score(log_density, x: Tensor) -> Tensor:
    """d log p / dx at each of x (B,)."""
    x = x.clone().requires_grad_()
    return torch.autograd.grad(log_density(x).sum(), x)[0]
