"""One trial of a search: what came out for each image, what it is worth, and when to give it up."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy.stats import beta  # type: ignore[import-untyped]

from cfdiff.metrics.intervals import mean_error, share_interval

Value = float | int | str
Values = dict[str, Value]
"""The tuned settings and their values."""
State = Literal["complete", "infeasible", "dominated"]
DOUBT, SIGMAS = 0.005, 3.0
"""How sure a trial must be of its failure to be given up: one-sided level for shares, standard errors for means."""
CALLS_POWER = 0.1
"""How much network calls count beside change. See `price`."""


@dataclass(frozen=True)
class Goal:
    """What is wanted: a share of flips at a margin of who accepts edits, within so many network calls an image."""

    flip: float
    margin: float
    max_calls: float | None

    @property
    def nearly(self) -> float:
        """Where an image flips at all, though perhaps not by the margin."""
        return min(self.margin, 0.5)


def price(change: np.ndarray, calls: np.ndarray) -> np.ndarray:
    """What edits (n,) cost, the one scalar that a search makes small: change * calls^0.1.

    Change is what was asked for, since an explanation should hold no more than it must; calls are only time. So
    settings that take half of the calls may change 7 % more, and ten times the calls must save a fifth of the change.
    Without calls in it, a search would buy the last thousandth of change at any price.

    Args:
        change: mean |difference|, in [0, 1] units.
        calls: of the diffusion network, at least 1.
    """
    return change * calls**CALLS_POWER


@dataclass(frozen=True)
class Outcome:
    """A value an image, in the order of the images, of one direction.

    Attributes:
        change: mean |difference| of the saved image, in [0, 1] units.
        accepting: how sure who accepts is of the target class of the saved image, as `Acceptance.asked`: the verifier
            (the checker where there is none), alone and smoothed where the settings say so, unless the checker
            disagrees.
        calls: calls of the diffusion network.
        checker: the checker's probability where the verifier decides; else empty.
        groups: of whom (a patient, a slide) each image is; empty where the data does not say.
    """

    change: tuple[float, ...] = ()
    accepting: tuple[float, ...] = ()
    calls: tuple[int, ...] = ()
    checker: tuple[float, ...] = ()
    groups: tuple[str, ...] = ()

    def __add__(self, more: Outcome) -> Outcome:
        return Outcome(
            self.change + more.change,
            self.accepting + more.accepting,
            self.calls + more.calls,
            self.checker + more.checker,
            self.groups + more.groups,
        )

    def __len__(self) -> int:
        return len(self.change)

    def hits(self, margin: float) -> np.ndarray:
        """(n,) bool, which images flipped."""
        return np.array(self.accepting) >= margin

    @property
    def price(self) -> np.ndarray:
        """(n,) of each image; see `price`."""
        return price(np.array(self.change), np.array(self.calls, np.float64))


@dataclass(frozen=True)
class Trial:
    """Settings and what they did, by direction ("negative", "positive": the class that was started from)."""

    number: int
    values: Values
    state: State
    outcome: dict[str, Outcome] = field(default_factory=dict)

    def flip(self, margin: float) -> float:
        """Share of flips in the worse direction."""
        return min(float(o.hits(margin).mean()) for o in self.outcome.values())

    def shortfalls(self, goal: Goal) -> dict[str, float]:
        """By how much it misses each part of the goal; see `shortfalls`."""
        return shortfalls(self.flip(goal.margin), self.flip(goal.nearly), self.calls, goal)

    @property
    def change(self) -> float:
        """Mean |difference| in the worse direction, in [0, 1] units."""
        return max(float(np.mean(o.change)) for o in self.outcome.values())

    @property
    def calls(self) -> float:
        """Mean network calls an image in the worse direction."""
        return max(float(np.mean(o.calls)) for o in self.outcome.values())

    @property
    def price(self) -> float:
        """Mean price of an image in the worse direction."""
        return max(float(o.price.mean()) for o in self.outcome.values())

    @property
    def dearest(self) -> str:
        """The direction in which it costs most."""
        return max(self.outcome, key=lambda name: float(self.outcome[name].price.mean()))

    @property
    def images(self) -> int:
        """Images a direction that it was tried on (the larger number)."""
        return max(len(o) for o in self.outcome.values())


def shortfalls(flip: float, nearly: float, calls: float, goal: Goal) -> dict[str, float]:
    """By how much each part of the goal is missed; at most 0 where it is met (the constraints of optuna).

    Where too few flip by the margin (`flip`), those that flip at all (`nearly`) count as much as they do: on hard data
    hardly any image reaches the margin, and settings that flip most of the others are nearer than such as flip none.
    """
    missed = {"flip": goal.flip - flip}
    if missed["flip"] > 0:
        missed["flip"] = (missed["flip"] + max(0.0, goal.flip - nearly)) / 2
    if goal.max_calls is not None:
        missed["calls"] = calls / goal.max_calls - 1
    return missed


def missed(trial: Trial, goal: Goal) -> float:
    """0 where the goal is reached, else how far it is."""
    return sum(max(0.0, part) for part in trial.shortfalls(goal).values())


def run_trial(
    number: int,
    values: Values,
    measure: Callable[[Values, int, int], dict[str, Outcome]],
    rounds: Iterable[int],
    goal: Goal,
    best: Trial | None,
) -> Trial:
    """Try settings on more and more images, and give up where it is clear that they lose against `best`.

    Args:
        measure: (values, start, stop) -> what became of the images of that range, by direction.
        rounds: how many images have been seen after each; all are gone through where there is no `best`.
    """
    outcome: dict[str, Outcome] = {}
    start = 0
    for stop in rounds:
        reason = None if best is None or not outcome else give_up(outcome, goal, best)
        if reason is not None:
            return Trial(number, values, reason, outcome)
        for name, more in measure(values, start, stop).items():
            outcome[name] = outcome.get(name, Outcome()) + more
        start = stop
    return Trial(number, values, "complete", outcome)


def give_up(outcome: dict[str, Outcome], goal: Goal, best: Trial) -> Literal["infeasible", "dominated"] | None:
    """Why settings need no more images: they will hardly come as near to the goal as `best`, or cost more.

    Flips: the upper end of their share, or what is left if all further images flip. Calls and price: three standard
    errors, over groups where there are groups; price is compared image by image, in the direction in which `best`
    costs most, because there it cannot be less than what counts of the trial.
    """
    flip, nearly = (
        min(_highest_share(o, margin, len(best.outcome[name])) for name, o in outcome.items())
        for margin in (goal.margin, goal.nearly)
    )
    calls = max(_lowest_mean(np.array(o.calls, float), o.groups) for o in outcome.values())
    reached = missed(best, goal)
    if sum(max(0.0, part) for part in shortfalls(flip, nearly, calls, goal).values()) > reached:
        return "infeasible"
    here = outcome[best.dearest]
    more = here.price - best.outcome[best.dearest].price[: len(here)]
    return "dominated" if reached == 0 and _lowest_mean(more, here.groups) > 0 else None


def _highest_share(outcome: Outcome, margin: float, of: int) -> float:
    """The share of flips that `of` images may still reach: Clopper-Pearson, or over groups where that is higher."""
    hits = outcome.hits(margin)
    n, k = len(hits), int(hits.sum())
    bound = 1.0
    if k < n:
        bound = max(float(beta.ppf(1 - DOUBT, k + 1, n - k)), share_interval(hits, outcome.groups or None)[1])
    return min(bound, 1 - (n - k) / of)


def _lowest_mean(values: np.ndarray, groups: tuple[str, ...]) -> float:
    return float(values.mean()) - SIGMAS * mean_error(values, groups or None)
