"""Which of the trials to take: the one, and the front of those that nothing beats."""

from __future__ import annotations

from collections.abc import Sequence

from cfdiff.metrics.intervals import mean_bound
from cfdiff.tune.trial import Goal, Trial, missed

CHANCE = 0.95
"""How sure it must be that a trial beats the starting settings to be chosen (one-sided)."""


def complete(trials: Sequence[Trial]) -> list[Trial]:
    """Those on all images."""
    return [trial for trial in trials if trial.state == "complete"]


def leader(trials: Sequence[Trial], goal: Goal) -> Trial:
    """The trial to choose, of those on all images: the smallest price that reaches the goal, else the nearest to it.

    The first of equals stands, and the starting settings are the first.
    """
    return min(complete(trials), key=lambda trial: (missed(trial, goal), trial.price))


def choose(trials: Sequence[Trial], goal: Goal) -> Trial:
    """The leader; but where the starting settings reach the goal too, of those that surely cost less than they do.

    The best of many trials looks better than it is. So a trial must beat the start image by image, in the direction in
    which the start costs most, by more than chance: a paired comparison, over groups where there are groups. Else the
    start stands.
    """
    start = trials[0]
    if missed(start, goal) > 0:
        return leader(trials, goal)
    where = start.dearest

    def surely_less(trial: Trial) -> bool:
        less = trial.outcome[where].price - start.outcome[where].price
        return mean_bound(less, start.outcome[where].groups or None, CHANCE) < 0

    return leader([start, *(trial for trial in complete(trials[1:]) if surely_less(trial))], goal)


def front(trials: Sequence[Trial], margin: float) -> list[Trial]:
    """The Pareto front, by rising change: trials on all images that none beats in flips, change and calls at once.

    Each figure is that of the worse direction. Of those with the same figures the first stands.
    """
    figures = {trial.number: (-trial.flip(margin), trial.change, trial.calls) for trial in complete(trials)}

    def beaten(number: int) -> bool:
        mine = figures[number]
        return any(
            all(a <= b for a, b in zip(theirs, mine, strict=True)) and (theirs != mine or other < number)
            for other, theirs in figures.items()
            if other != number
        )

    return sorted((t for t in complete(trials) if not beaten(t.number)), key=lambda trial: trial.change)
