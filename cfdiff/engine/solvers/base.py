"""What a solver must be able to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from cfdiff.engine.schedule import NoiseSchedule

Ask = Callable[[Tensor, int], Tensor]
"""(x_l (B, ...), level in 1..T) -> the eps of the walk there, guided where the walk is guided: one more call."""


class Solver(Protocol):
    """What the decode loop steps with; a multistep solver remembers, and `reset` forgets.

    The loop walks two paths, the guided one and the unguided one, and copies the solver for the second: what it
    remembers must be its own (`copy.deepcopy` is taken after `reset`).
    """

    @property
    def stochastic(self) -> bool:
        """Whether `step` reads its noise."""
        ...

    def reset(self) -> None: ...

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
        """x_b (B, ...) from x_a and the noise eps in it.

        Args:
            a, b: levels, b < a; b may be 0, which no network knows.
            noise: where stochastic, a standard normal as x.
            ask: eps at another place, for a solver that looks more than once a step; b must not be 0 there.
        """
        ...
