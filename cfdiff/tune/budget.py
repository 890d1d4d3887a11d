"""The time of a search, which holds with all that comes after it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from cfdiff.tune.trial import Outcome

SEARCHED = 0.5
"""Share of the time that is for trials other than the start."""
FEWEST = 12
"""Images that a trial sees, if there is time for so many at all: on fewer, one image more or less decides."""
COMPARED = 3
"""Where minutes are given, one in so many images as a trial sees is for the comparison on held-out images: another
trial finds more than a surer figure of the choice, and whoever gives minutes measures it on test images anyway."""


class OutOfTime(Exception):
    """A trial was stopped, for what is left of the time is needed for the comparison."""


class Budget:
    """What is left of the minutes given. It learns from every batch how long a call of the network takes."""

    def __init__(self, minutes: float | None, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._until = math.inf if minutes is None else now() + 60 * minutes
        self._seconds = self._calls = self._longest = 0.0
        self._kept: float | None = None

    @property
    def left(self) -> float:
        """Seconds to the end."""
        return self._until - self._now()

    @property
    def pace(self) -> float | None:
        """Seconds of an edit for each call of the network; None where none was timed."""
        return self._seconds / self._calls if self._calls else None

    def compared(self, images: int) -> int:
        """Held-out images a direction of the comparison, where a trial sees `images`."""
        return images if math.isinf(self._until) else math.ceil(images / COMPARED)

    def keep(self, calls: float) -> None:
        """From now on no batch of a trial begins that would leave less than `calls` calls of the network take."""
        self._kept = calls

    @property
    def out(self) -> bool:
        """Whether only what is kept is left."""
        if self._kept is None or math.isinf(self._until):
            return False
        return self.left <= self._kept * (self.pace or 0.0) + self._longest

    def timed(self, batches: Iterable[tuple[Outcome, np.ndarray]]) -> Iterator[tuple[Outcome, np.ndarray]]:
        """The same batches, edited while somebody looks at the clock.

        Raises:
            OutOfTime: what is left is kept.
        """
        source = iter(batches)
        while True:
            if self.out:
                raise OutOfTime
            began = self._now()
            batch = next(source, None)
            if batch is None:
                return
            took = self._now() - began
            self._seconds, self._longest = self._seconds + took, max(self._longest, took)
            self._calls += float(sum(batch[0].calls))
            yield batch

    def rounds(self, rounds: Sequence[int]) -> Iterator[int]:
        """The rounds of the starting settings: the first, those for which there is time, and as much of the
        next as there is time for.

        The start is to be gone through here, and with the choice once more on held-out images; the rest of the time is
        for other trials.
        """
        began = self._now()
        yield rounds[0]
        an_image = (self._now() - began) / rounds[0]
        # A third of them again for the start on held-out images, and for the choice.
        once = self.left / ((1 + 2 / COMPARED) * an_image) if an_image else math.inf
        most = max((1 - SEARCHED) * once, min(FEWEST, once))
        yield from sorted({int(min(images, most)) for images in rounds[1:] if min(images, most) > rounds[0]})
