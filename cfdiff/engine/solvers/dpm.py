"""DPM-Solver++(2M) (Lu et al. 2022)."""

from __future__ import annotations

from torch import Tensor

from cfdiff.engine.process import x0_from_eps
from cfdiff.engine.schedule import NoiseSchedule
from cfdiff.engine.solvers.base import Ask
from cfdiff.engine.steps import dpm_solver_2m_step


class DpmSolver2M:
    """`dpm_solver_2m_step` as a solver: second order for the calls of DDIM."""

    stochastic = False

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._before: tuple[int, Tensor] | None = None

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
        x0_hat = x0_from_eps(schedule, x, a, eps)
        x_b = dpm_solver_2m_step(schedule, x, x0_hat, a, b, self._before)
        self._before = (a, x0_hat)
        return x_b


def dpm_solver_2m(eta: float = 0.0) -> DpmSolver2M:
    """The entry of the registry: deterministic, whatever eta is."""
    return DpmSolver2M()
