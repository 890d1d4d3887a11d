from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution, IntDistribution

from cfdiff.engine import NoiseSchedule, make_tau
from cfdiff.tune.propose import propose, space
from cfdiff.tune.settings import TuneSettings
from cfdiff.tune.trial import Goal, Outcome, Trial, Values

GOAL = Goal(0.9, 0.75, None)
RANGES = {"ratio": FloatDistribution(0.05, 1.0, log=True), "depth": FloatDistribution(0.15, 0.7)}


def played(n: int, change: Callable[[Values], float], flips: Callable[[Values], bool], seed: int = 0) -> list[Trial]:
    """A search whose outcome is a formula."""
    trials: list[Trial] = []
    for k in range(n):
        values = propose(trials, RANGES, GOAL, seed) if k else {"ratio": 1.0, "depth": 0.7}
        p = 0.9 if flips(values) else 0.5
        trials.append(Trial(k, values, "complete", {"negative": Outcome((change(values),) * 4, (p,) * 4, (30,) * 4)}))
    return trials


def test_a_search_finds_the_smallest_change_that_flips() -> None:
    trials = played(60, lambda v: v["ratio"] * v["depth"], lambda v: v["ratio"] * v["depth"] > 0.1)
    good = [t.change for t in trials if t.flip(0.75) == 1.0]
    assert 0.1 < min(good) < 0.13, "the edge of what flips; the start is 0.7"
    good_share = [sum(0.1 < t.change < 0.2 for t in part) / len(part) for part in (trials[1:11], trials[40:])]
    assert good_share[1] > good_share[0], "it dwells where it is good"


def test_the_same_trials_and_seed_propose_the_same_and_another_seed_does_not() -> None:
    trials = played(14, lambda v: v["ratio"], lambda v: v["depth"] > 0.3)
    assert propose(trials, RANGES, GOAL, 0) == propose(list(trials), RANGES, GOAL, 0)
    assert propose(trials, RANGES, GOAL, 0) != propose(trials, RANGES, GOAL, 1)
    assert propose(trials[:5], RANGES, GOAL, 0) != propose(trials[:6], RANGES, GOAL, 0)


def test_proposals_are_what_will_be_written_down() -> None:
    for trial in played(16, lambda v: v["ratio"], lambda v: True)[1:]:
        assert all(float(f"{value:.3g}") == value for value in trial.values.values())


@settings(max_examples=40)
@given(
    T=st.sampled_from([20, 100, 1000]),
    depth=st.floats(0.05, 1.0),
    steps=st.integers(1, 50),
    tune=st.sets(st.sampled_from(["ratio", "depth", "steps", "scale", "target", "accept", "retries"]), min_size=1),
    target=st.floats(0.6, 1.0),
)
def test_all_in_the_ranges_is_possible_and_they_hold_the_start(
    T: int, depth: float, steps: int, tune: set[Any], target: float
) -> None:
    schedule = NoiseSchedule.cosine(T)
    steps = min(steps, schedule.level_of(depth))
    s = TuneSettings(depth=depth, steps=steps, tune=tuple(sorted(tune)), target=target, margin=0.75)
    ranges = space(s, schedule)
    assert list(ranges) == sorted(tune)
    for name, allowed in ranges.items():
        assert isinstance(allowed, FloatDistribution | IntDistribution)
        assert allowed.low <= getattr(s, name) <= allowed.high
    lowest = getattr(ranges.get("depth"), "low", s.depth)
    most = getattr(ranges.get("steps"), "high", s.steps)
    assert len(make_tau(schedule, lowest, most)) == most + 1


@pytest.mark.parametrize("state", ["infeasible", "dominated"])
def test_trials_that_were_given_up_are_told_to_the_search(state: Any) -> None:
    done = played(12, lambda v: v["ratio"], lambda v: True)
    lost = Trial(12, {"ratio": 0.5, "depth": 0.5}, state, {"negative": Outcome((0.5,), (0.5,), (30,))})
    assert set(propose([*done, lost], RANGES, GOAL, 0)) == {"ratio", "depth"}
