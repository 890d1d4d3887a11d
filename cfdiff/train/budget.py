"""The time of a training: what `--max-minutes` leaves for steps, and for validations, samples and saving."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

RESERVE = 0.1
"""Share of the whole time that is kept for the last validation, at most."""
BETWEEN = 0.2
"""Share of the time left that a validation before the last may take, at most."""
LEAST = 0.1
"""A validation before the last that could not take this share of its images is left out."""


class Budget:
    """Counts seconds from when it is made; `minutes` None is without end.

    Attributes:
        earlier: seconds that earlier parts of this training took.
        pace: seconds of one image through the network in a validation, as last measured; 0 before.
        saving: seconds of one saving, as last measured.
        step: mean seconds of a step.
    """

    def __init__(self, minutes: float | None) -> None:
        self.limit = math.inf if minutes is None else 60 * minutes
        self.started, self.earlier = time.monotonic(), 0.0
        self.pace, self.saving, self.step, self._steps = 0.0, 0.0, 0.0, 0

    @property
    def limited(self) -> bool:
        """Whether there is an end."""
        return math.isfinite(self.limit)

    @property
    def elapsed(self) -> float:
        """Seconds of this training so far."""
        return self.earlier + time.monotonic() - self.started

    @contextmanager
    def one_step(self) -> Iterator[None]:
        """Measure a step."""
        clock = time.monotonic()
        yield
        self._steps += 1
        self.step += (time.monotonic() - clock - self.step) / self._steps

    @contextmanager
    def validating(self, passes: int) -> Iterator[None]:
        """Measure a validation in which `passes` images go through the network."""
        clock = time.monotonic()
        yield
        self.pace = (time.monotonic() - clock) / passes

    @contextmanager
    def saved(self) -> Iterator[None]:
        """Measure a saving."""
        clock = time.monotonic()
        yield
        self.saving = time.monotonic() - clock

    def share(self, passes: int) -> float:
        """How much of the time for steps is over, in [0, 1]; `passes` are those of a whole validation."""
        if not self.limited:
            return 0.0
        return min(1.0, self.elapsed / max(1e-9, self._end(passes)))

    def over(self, passes: int) -> bool:
        """Whether another step would not fit."""
        return self.elapsed + self.step > self._end(passes)

    def for_last(self, passes: int) -> float:
        """The share of a whole validation that fits into what is left; a little of it in any case."""
        left = max(self.limit - self.elapsed - self.saving, RESERVE * self.limit / 2)
        return self._fit(left, passes)

    def for_another(self, passes: int) -> float:
        """The share that a validation before the last may take; 0 where it is left out."""
        share = self._fit(BETWEEN * max(0.0, self._end(passes) - self.elapsed), passes)
        return share if share >= LEAST else 0.0

    def _end(self, passes: int) -> float:
        """When the steps must be done."""
        return self.limit if not self.limited else self.limit - self._reserve(passes)

    def _reserve(self, passes: int) -> float:
        return min(self.pace * passes, RESERVE * self.limit) + self.saving

    def _fit(self, seconds: float, passes: int) -> float:
        whole = self.pace * passes
        return 1.0 if whole <= seconds else seconds / whole
