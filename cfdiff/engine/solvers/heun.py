"""Heun's method on the probability-flow ODE (Karras et al. 2022, algorithm 1)."""

from __future__ import annotations

from torch import Tensor

from cfdiff.engine.schedule import NoiseSchedule
from cfdiff.engine.solvers.base import Ask
from cfdiff.engine.steps import ddim_step


class Heun:
    """The trapezoidal rule: a DDIM step with the mean of the eps at both of its ends.

    In x / sqrt(ab) and sigma = sqrt((1 - ab) / ab) the ODE is dx = eps dsigma, and a DDIM step is Euler's. Two calls a
    step, but for the last one, which lands on level 0: no network knows it, and the step is Euler's.
    """

    stochastic = False

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
        x_b = ddim_step(schedule, x, eps, a, b)
        if b == 0:
            return x_b
        assert ask is not None, "Heun looks twice a step"
        return ddim_step(schedule, x, (eps + ask(x_b, b)) / 2, a, b)


def heun(eta: float = 0.0) -> Heun:
    """The entry of the registry: deterministic, whatever eta is."""
    return Heun()
