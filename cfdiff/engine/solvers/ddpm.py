"""DDPM (Ho et al. 2020)."""

from __future__ import annotations

from torch import Tensor

from cfdiff.engine.schedule import NoiseSchedule
from cfdiff.engine.solvers.base import Ask
from cfdiff.engine.steps import Variance, ddpm_step
from cfdiff.errors import UserError


class Ddpm:
    """`ddpm_step` as a solver; variance "beta" or "beta_tilde"."""

    stochastic = True

    def __init__(self, variance: Variance = "beta_tilde") -> None:
        if variance not in ("beta", "beta_tilde"):
            raise UserError(f"Unknown variance {variance!r}; use beta or beta_tilde.")
        self.variance: Variance = variance

    def reset(self) -> None:
        pass

    def step(
        self,
        schedule: NoiseSchedule,
        x: Tensor,
        eps: Tensor,
        a: int,
        b: int,
        noise: Tensor | None = None,
        ask: Ask | None = None,
    ) -> Tensor:
        return ddpm_step(schedule, x, eps, a, b, self.variance, noise)


def ddpm(eta: float = 0.0) -> Ddpm:
    """The entry of the registry: DDPM has its own noise, whatever eta is."""
    return Ddpm()
