from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from cfdiff.tune.propose import propose
from cfdiff.tune.trial import Goal, Outcome, Trial, Values

GOAL = Goal(0.9, 0.75, None)
RANGES = {"ratio": FloatDistribution(0.05, 1.0, log=True), "depth": FloatDistribution(0.15, 0.7)}


def num(values: Values, name: str) -> float:
    return float(values[name])


def played(n: int, change: Callable[[Values], float], flips: Callable[[Values], bool], seed: int = 0) -> list[Trial]:
    """A search whose outcome is a formula."""
    trials: list[Trial] = []
    for k in range(n):
        values = propose(trials, RANGES, GOAL, seed) if k else {"ratio": 1.0, "depth": 0.7}
        p = 0.9 if flips(values) else 0.5
        trials.append(Trial(k, values, "complete", {"negative": Outcome((change(values),) * 4, (p,) * 4, (30,) * 4)}))
    return trials


def test_a_search_finds_the_smallest_change_that_flips() -> None:
    trials = played(60, lambda v: num(v, "ratio") * num(v, "depth"), lambda v: num(v, "ratio") * num(v, "depth") > 0.1)
    good = [t.change for t in trials if t.flip(0.75) == 1.0]
    assert 0.1 < min(good) < 0.13, "the edge of what flips; the start is 0.7"
    good_share = [sum(0.1 < t.change < 0.2 for t in part) / len(part) for part in (trials[1:11], trials[40:])]
    assert good_share[1] > good_share[0], "it dwells where it is good"


def test_the_same_trials_and_seed_propose_the_same_and_another_seed_does_not() -> None:
    trials = played(14, lambda v: num(v, "ratio"), lambda v: num(v, "depth") > 0.3)
    assert propose(trials, RANGES, GOAL, 0) == propose(list(trials), RANGES, GOAL, 0)
    assert propose(trials, RANGES, GOAL, 0) != propose(trials, RANGES, GOAL, 1)
    assert propose(trials[:5], RANGES, GOAL, 0) != propose(trials[:6], RANGES, GOAL, 0)


def test_proposals_are_what_will_be_written_down() -> None:
    for trial in played(16, lambda v: num(v, "ratio"), lambda v: True)[1:]:
        assert all(float(f"{value:.3g}") == value for value in map(float, trial.values.values()))


def test_words_are_searched_beside_numbers() -> None:
    ranges = {"solver": CategoricalDistribution(("ddim", "dpm++", "unipc")), **RANGES}
    trials: list[Trial] = []
    for k in range(40):
        values: Values = {"solver": "ddim", "ratio": 1.0, "depth": 0.7}
        values = propose(trials, ranges, GOAL, 0) if k else values
        change = 0.1 if values["solver"] == "unipc" else 0.2
        trials.append(Trial(k, values, "complete", {"negative": Outcome((change,) * 4, (0.9,) * 4, (30,) * 4)}))
    named = [trial.values["solver"] for trial in trials]
    assert set(named) == {"ddim", "dpm++", "unipc"} and named[20:].count("unipc") > 10, "it dwells where it is good"


@pytest.mark.parametrize("state", ["infeasible", "dominated"])
def test_trials_that_were_given_up_are_told_to_the_search(state: Any) -> None:
    done = played(12, lambda v: num(v, "ratio"), lambda v: True)
    lost = Trial(12, {"ratio": 0.5, "depth": 0.5}, state, {"negative": Outcome((0.5,), (0.5,), (30,))})
    assert set(propose([*done, lost], RANGES, GOAL, 0)) == {"ratio", "depth"}
