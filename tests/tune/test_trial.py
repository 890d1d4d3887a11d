from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfdiff.tune.trial import Goal, Outcome, State, Trial, choose, give_up, leader, missed, pareto, run_trial

GOAL = Goal(flip=0.9, margin=0.75, max_calls=None)


def outcome(n: int, hits: int, change: float = 0.01, calls: int = 30) -> Outcome:
    """`hits` of n flip; the change of the images differs a little."""
    wobble = 1 + 0.05 * np.cos(np.arange(n))
    return Outcome(tuple((change * wobble).tolist()), (0.9,) * hits + (0.6,) * (n - hits), (calls,) * n)


def trial(number: int, n: int, hits: int, change: float, calls: int = 30, state: State = "complete") -> Trial:
    return Trial(number, {"ratio": 0.1 * (number + 1)}, state, {"negative": outcome(n, hits, change, calls)})


def test_the_worse_direction_counts_in_each_figure() -> None:
    both = Trial(0, {}, "complete", {"negative": outcome(20, 20, 0.02, 10), "positive": outcome(20, 15, 0.01, 50)})
    assert both.flip(0.75) == 0.75 and both.flip(0.5) == 1.0
    assert both.change == pytest.approx(np.mean(both.outcome["negative"].change)) and both.calls == 50


def test_the_smallest_change_that_reaches_the_goal_is_chosen_and_a_given_up_trial_never() -> None:
    trials = [
        trial(0, 20, 20, 0.03),
        trial(1, 20, 18, 0.02),
        trial(2, 20, 17, 0.01),
        trial(3, 4, 4, 0.001, 30, "dominated"),
    ]
    assert leader(trials, GOAL).number == 1
    assert leader(trials, Goal(0.95, 0.75, None)).number == 0


def test_where_no_trial_reaches_the_goal_the_nearest_is_chosen() -> None:
    trials = [trial(0, 20, 10, 0.001), trial(1, 20, 16, 0.03), trial(2, 20, 16, 0.02)]
    best = leader(trials, Goal(1.0, 0.75, None))
    assert best.number == 2 and missed(best, Goal(1.0, 0.75, None)) == pytest.approx(0.2)


def test_the_start_stands_unless_a_trial_is_better_by_more_than_chance() -> None:
    start = trial(0, 20, 20, 0.02)
    rng = np.random.default_rng(0)
    noisy = Outcome(tuple((0.0199 + 0.01 * rng.standard_normal(20)).tolist()), (0.9,) * 20, (30,) * 20)
    lucky = Trial(1, {"ratio": 0.2}, "complete", {"negative": noisy})
    assert leader([start, lucky], GOAL) is (lucky if lucky.change < start.change else start)
    assert choose([start, lucky], GOAL) is start
    assert choose([start, lucky, trial(2, 20, 20, 0.019)], GOAL).number == 2
    assert choose([trial(0, 20, 10, 0.001), lucky], GOAL) is lucky, "a start that misses the goal has no such right"


def test_a_limit_on_calls_is_part_of_the_goal() -> None:
    trials = [trial(0, 20, 20, 0.03, calls=30), trial(1, 20, 20, 0.01, calls=90)]
    assert leader(trials, GOAL).number == 1
    assert leader(trials, Goal(0.9, 0.75, 40)).number == 0


@pytest.mark.parametrize(
    ("tried", "verdict"),
    [
        (outcome(8, 8, 0.01), None),
        (outcome(8, 7, 0.01), None),
        (outcome(8, 2, 0.01), "infeasible"),
        (outcome(8, 8, 0.02), "dominated"),
        (outcome(8, 8, 0.012), "dominated"),
        (outcome(8, 8, 0.005), None),
    ],
)
def test_a_trial_is_given_up_only_when_it_is_clear_that_it_loses(tried: Outcome, verdict: str | None) -> None:
    assert give_up({"negative": tried}, GOAL, trial(0, 64, 64, 0.01)) == verdict


def test_a_trial_that_can_no_longer_reach_the_goal_is_given_up_at_once() -> None:
    strict = Goal(0.99, 0.75, None)  # no miss in 64 images, so one in the first eight is enough
    assert give_up({"negative": outcome(8, 7)}, strict, trial(0, 64, 64, 0.01)) == "infeasible"
    assert give_up({"negative": outcome(8, 7)}, strict, trial(0, 200, 200, 0.01)) is None


def test_too_many_calls_are_a_reason_to_give_up() -> None:
    best = trial(0, 64, 64, 0.01, calls=30)
    assert give_up({"negative": outcome(8, 8, 0.005, calls=90)}, Goal(0.9, 0.75, 40), best) == "infeasible"
    assert give_up({"negative": outcome(8, 8, 0.005, calls=90)}, Goal(0.9, 0.75, 100), best) is None


def test_while_nothing_reaches_the_goal_a_trial_competes_with_the_nearest_one() -> None:
    impossible, best = Goal(1.0, 0.75, None), trial(0, 64, 32, 0.01)
    assert give_up({"negative": outcome(8, 5, 0.5)}, impossible, best) is None
    assert give_up({"negative": outcome(16, 0, 0.001)}, impossible, best) == "infeasible"


def test_a_trial_sees_the_images_round_by_round_and_stops_where_it_is_given_up() -> None:
    asked: list[tuple[int, int]] = []

    def measure(values: object, start: int, stop: int) -> dict[str, Outcome]:
        asked.append((start, stop))
        return {"negative": outcome(stop - start, 0)}

    lost = run_trial(1, {}, measure, [8, 16, 64], GOAL, trial(0, 64, 64, 0.01))
    assert asked == [(0, 8)] and lost.state == "infeasible" and lost.images == 8
    asked.clear()
    first = run_trial(0, {}, measure, [8, 16, 64], GOAL, None)
    assert asked == [(0, 8), (8, 16), (16, 64)] and first.state == "complete" and first.images == 64


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(1, 20)), min_size=1, max_size=30))
def test_the_front_holds_what_nothing_beats_and_beats_all_else(points: list[tuple[int, int]]) -> None:
    flip, change = (np.array(column, float) for column in zip(*points, strict=True))
    front = pareto(flip, change)
    assert (np.diff(flip[front]) > 0).all() and (np.diff(change[front]) > 0).all()
    for f, c in points:
        assert any(flip[k] >= f and change[k] <= c for k in front)
