"""DDIM (Song et al. 2021)."""

from __future__ import annotations

from torch import Tensor

from cfdiff.engine.schedule import NoiseSchedule
from cfdiff.engine.solvers.base import Ask
from cfdiff.engine.steps import ddim_step
from cfdiff.errors import UserError


class Ddim:
    """`ddim_step` as a solver; eta in [0, 1]."""

    def __init__(self, eta: float = 0.0) -> None:
        if not 0 <= eta <= 1:
            raise UserError(f"eta must lie between 0 (DDIM) and 1 (DDPM), not {eta}.")
        self.eta = eta

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

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
        return ddim_step(schedule, x, eps, a, b, self.eta, noise)
