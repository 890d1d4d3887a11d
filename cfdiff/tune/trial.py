"""One trial of a search: what came out for each image, whether it is good enough, and when to give it up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy.stats import beta  # type: ignore[import-untyped]

Values = dict[str, float | int]
"""The tuned settings and their values."""
State = Literal["complete", "infeasible", "dominated"]
DOUBT, SIGMAS = 0.005, 3.0
"""How sure a trial must be of its failure to be given up: one-sided level for shares, standard errors for means."""
CHANCE = 1.645
"""Standard errors by which a trial must beat the starting settings to be chosen (one-sided 95 %)."""


@dataclass(frozen=True)
class Goal:
    """What is wanted: a share of flips at a margin of the checker, within so many network calls an image."""

    flip: float
    margin: float
    max_calls: float | None


@dataclass(frozen=True)
class Outcome:
    """A value an image, in the order of the images, of one direction.

    Attributes:
        change: mean |difference| of the saved image, in [0, 1] units.
        checker: the checker's probability of the target class, of the saved image.
        calls: calls of the diffusion network.
    """

    change: tuple[float, ...] = ()
    checker: tuple[float, ...] = ()
    calls: tuple[int, ...] = ()

    def __add__(self, more: Outcome) -> Outcome:
        return Outcome(self.change + more.change, self.checker + more.checker, self.calls + more.calls)

    def __len__(self) -> int:
        return len(self.change)

    def hits(self, margin: float) -> int:
        """Images that flipped."""
        return int((np.array(self.checker) >= margin).sum())


@dataclass(frozen=True)
class Trial:
    """Settings and what they did, by direction ("negative", "positive": the class that was started from)."""

    number: int
    values: Values
    state: State
    outcome: dict[str, Outcome] = field(default_factory=dict)

    def flip(self, margin: float) -> float:
        """Share of flips in the worse direction."""
        return min(o.hits(margin) / len(o) for o in self.outcome.values())

    @property
    def change(self) -> float:
        """Mean |difference| in the worse direction, in [0, 1] units."""
        return max(float(np.mean(o.change)) for o in self.outcome.values())

    @property
    def worst(self) -> str:
        """The direction in which it changes most."""
        return max(self.outcome, key=lambda name: float(np.mean(self.outcome[name].change)))

    @property
    def calls(self) -> float:
        """Mean network calls an image in the worse direction."""
        return max(float(np.mean(o.calls)) for o in self.outcome.values())

    @property
    def images(self) -> int:
        """Images a direction that it was tried on (the larger number)."""
        return max(len(o) for o in self.outcome.values())


def shortfalls(flip: float, calls: float, goal: Goal) -> dict[str, float]:
    """By how much each part of the goal is missed; at most 0 where it is met (the constraints of optuna)."""
    missed = {"flip": goal.flip - flip}
    if goal.max_calls is not None:
        missed["calls"] = calls / goal.max_calls - 1
    return missed


def missed(trial: Trial, goal: Goal) -> float:
    """0 where the goal is reached, else how far it is."""
    return sum(max(0.0, part) for part in shortfalls(trial.flip(goal.margin), trial.calls, goal).values())


def leader(trials: Sequence[Trial], goal: Goal) -> Trial:
    """The trial to choose, of those on all images: the smallest change that reaches the goal, else the nearest to it.

    The first of equals stands, and the starting settings are the first.
    """
    complete = [trial for trial in trials if trial.state == "complete"]
    return min(complete, key=lambda trial: (missed(trial, goal), trial.change))


def choose(trials: Sequence[Trial], goal: Goal) -> Trial:
    """The leader; but where the starting settings reach the goal too, of those that surely change less than they do.

    The best of many trials looks better than it is. So a trial must beat the start image by image, in the direction in
    which the start changes most, by more than chance: one-sided 95 % of a paired comparison. Else the start stands.
    """
    start = trials[0]
    if missed(start, goal) > 0:
        return leader(trials, goal)
    worst = start.worst

    def surely_less(trial: Trial) -> bool:
        less = np.array(trial.outcome[worst].change) - np.array(start.outcome[worst].change)
        return _highest_mean(less, CHANCE) < 0

    return leader([start, *(t for t in trials[1:] if t.state == "complete" and surely_less(t))], goal)


def pareto(flip: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Indices of the points (N,) than which none has as many flips with less change, by rising change."""
    order = np.lexsort((-flip, change))
    best = np.maximum.accumulate(np.concatenate([[-np.inf], flip[order][:-1]]))
    return order[flip[order] > best]


def run_trial(
    number: int,
    values: Values,
    measure: Callable[[Values, int, int], dict[str, Outcome]],
    rungs: Sequence[int],
    goal: Goal,
    best: Trial | None,
) -> Trial:
    """Try settings on more and more images, and give up where it is clear that they lose against `best`.

    Args:
        measure: (values, start, stop) -> what became of the images of that range, by direction.
        rungs: how many images have been seen after each round; all must pass where there is no `best`.
    """
    outcome: dict[str, Outcome] = {}
    for start, stop in zip((0, *rungs[:-1]), rungs, strict=True):
        for name, more in measure(values, start, stop).items():
            outcome[name] = outcome.get(name, Outcome()) + more
        reason = None if best is None or stop == rungs[-1] else give_up(outcome, goal, best)
        if reason is not None:
            return Trial(number, values, reason, outcome)
    return Trial(number, values, "complete", outcome)


def give_up(outcome: dict[str, Outcome], goal: Goal, best: Trial) -> Literal["infeasible", "dominated"] | None:
    """Why settings need no more images: they will hardly come as near to the goal as `best`, or change more.

    Flips: the upper Clopper-Pearson bound of their share, or what is left if all further images flip. Calls and
    change: three standard errors; change is compared image by image, in the direction in which `best` changes most,
    because there it cannot be less than what counts of the trial.
    """
    flip = min(_highest_share(o.hits(goal.margin), len(o), len(best.outcome[name])) for name, o in outcome.items())
    calls = max(_lowest_mean(np.array(o.calls, float)) for o in outcome.values())
    reached = missed(best, goal)
    if sum(max(0.0, part) for part in shortfalls(flip, calls, goal).values()) > reached:
        return "infeasible"
    worst = best.worst
    more = np.array(outcome[worst].change) - np.array(best.outcome[worst].change[: len(outcome[worst])])
    return "dominated" if reached == 0 and _lowest_mean(more) > 0 else None


def _highest_share(hits: int, n: int, of: int) -> float:
    """The share of flips that `of` images may still reach when `hits` of `n` flipped."""
    bound = 1.0 if hits == n else float(beta.ppf(1 - DOUBT, hits + 1, n - hits))
    return min(bound, 1 - (n - hits) / of)


def _lowest_mean(values: np.ndarray) -> float:
    return -_highest_mean(-values, SIGMAS)


def _highest_mean(values: np.ndarray, sigmas: float) -> float:
    if len(values) < 2:
        return np.inf
    return float(values.mean() + sigmas * values.std(ddof=1) / np.sqrt(len(values)))
