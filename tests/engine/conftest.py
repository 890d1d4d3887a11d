"""Toys with an exact eps and an exact classifier: a Gaussian and a mixture of two, noised by the schedule.

If x_0 ~ N(m, s^2) then x_l ~ N(sqrt(ab) m, v), v = ab s^2 + 1 - ab, and eps = -sqrt(1 - ab) grad log p(x_l).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from cfdiff.engine import NoiseSchedule


@dataclass(frozen=True, eq=False)
class Gaussian:
    schedule: NoiseSchedule
    mean: Tensor  # (C, H, W)
    std: float

    def moments(self, level: int) -> tuple[float, float]:
        """(sqrt(ab), v)."""
        ab = float(self.schedule.alpha_bar[level])
        return math.sqrt(ab), ab * self.std**2 + 1 - ab

    def eps(self, x: Tensor, level: int) -> Tensor:
        signal, v = self.moments(level)
        return math.sqrt(1 - float(self.schedule.alpha_bar[level])) * (x - signal * self.mean.to(x)) / v

    def sample(self, n: int, seed: int = 0) -> Tensor:
        g = torch.Generator().manual_seed(seed)
        return self.mean + self.std * torch.randn((n, *self.mean.shape), generator=g)

    def flow(self, x: Tensor, a: int, b: int) -> Tensor:
        """Where the probability-flow ODE, which DDIM solves, carries x_a."""
        (signal_a, v_a), (signal_b, v_b) = self.moments(a), self.moments(b)
        return signal_b * self.mean + math.sqrt(v_b / v_a) * (x - signal_a * self.mean)


@dataclass(frozen=True, eq=False)
class TwoGaussians:
    negative: Gaussian
    positive: Gaussian
    p_positive: float = 0.5

    @property
    def schedule(self) -> NoiseSchedule:
        return self.negative.schedule

    def log_prob(self, x: Tensor, level: int) -> Tensor:
        """log p(class | x_l), (B, 2)."""
        logs = []
        for part, prior in ((self.negative, 1 - self.p_positive), (self.positive, self.p_positive)):
            signal, v = part.moments(level)
            square = (x - signal * part.mean.to(x)).square().flatten(1).sum(1)
            logs.append(math.log(prior) - square / (2 * v))
        return torch.log_softmax(torch.stack(logs, 1), 1)

    def clean_log_prob(self, x0: Tensor) -> Tensor:
        return self.log_prob(x0, 0)

    def eps(self, x: Tensor, level: int) -> Tensor:
        p = self.log_prob(x, level).exp()[:, :, None, None, None]
        return p[:, 0] * self.negative.eps(x, level) + p[:, 1] * self.positive.eps(x, level)

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """The first half negative, the second positive."""
        return torch.cat([self.negative.sample(n - n // 2, seed), self.positive.sample(n // 2, seed + 1)])


@pytest.fixture(scope="session")
def schedule() -> NoiseSchedule:
    return NoiseSchedule.cosine(200)


@pytest.fixture(scope="session")
def gaussian(schedule: NoiseSchedule) -> Gaussian:
    return Gaussian(schedule, torch.tensor([[[0.3, -0.5], [0.1, 0.7]]]), 0.25)


@pytest.fixture(scope="session")
def mixture(schedule: NoiseSchedule) -> TwoGaussians:
    mean = torch.tensor([[[0.4, -0.4], [0.2, 0.5]]])
    return TwoGaussians(Gaussian(schedule, -mean, 0.2), Gaussian(schedule, mean, 0.2))
