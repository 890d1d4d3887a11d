from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from cfdiff.tune.budget import FEWEST, Budget, OutOfTime
from cfdiff.tune.trial import Outcome


class Clock:
    """A clock that goes only when it is told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def batches(clock: Clock, n: int, took: float = 10.0, calls: int = 20) -> Iterator[tuple[Outcome, np.ndarray]]:
    """n batches of one image, which take `took` seconds and `calls` calls each."""
    for _ in range(n):
        clock.seconds += took
        yield Outcome((0.01,), (0.9,), (calls,)), np.zeros(1)


def test_without_a_limit_there_is_always_time() -> None:
    clock = Clock()
    budget = Budget(None, clock)
    budget.keep(1e9)
    assert len(list(budget.timed(batches(clock, 50)))) == 50 and not budget.out
    assert list(budget.rounds([8, 16, 64])) == [8, 16, 64]


def test_trials_end_early_enough_for_what_comes_after_them() -> None:
    clock = Clock()
    budget = Budget(10, clock)  # 600 seconds
    assert budget.pace is None
    assert len(list(budget.timed(batches(clock, 2)))) == 2, "it learns that a call takes half a second"
    assert budget.pace == 0.5
    budget.keep(400)  # 200 seconds
    done = []
    with pytest.raises(OutOfTime):
        done.extend(budget.timed(batches(clock, 100)))
    assert clock.seconds <= 400 and clock.seconds >= 380, "a batch that may still begin ends in time"
    assert budget.out and budget.left >= 200


def test_nothing_is_stopped_before_something_is_kept() -> None:
    clock = Clock()
    budget = Budget(1e-9, clock)
    assert len(list(budget.timed(batches(clock, 3)))) == 3 and budget.left < 0


def test_the_start_sees_as_many_images_as_leave_half_of_the_time() -> None:
    for minutes, seen in ((1e-9, [8]), (4, [8, 12]), (10, [8, 16, 32, 33]), (60, [8, 16, 32, 64])):
        clock = Clock()
        budget, taken = Budget(minutes, clock), []
        for images in budget.rounds([8, 16, 32, 64]):
            clock.seconds += 5 * (images - sum(taken[-1:]))  # five seconds an image, all directions together
            taken.append(images)
        assert taken == seen
        assert taken[-1] <= FEWEST or (1 + 2 / 3) * 5 * taken[-1] <= 60 * minutes / 2
