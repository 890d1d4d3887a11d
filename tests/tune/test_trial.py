from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfdiff.tune.choice import choose, front, leader
from cfdiff.tune.trial import Goal, Outcome, State, Trial, give_up, missed, price, run_trial

GOAL = Goal(flip=0.9, margin=0.75, max_calls=None)


def outcome(n: int, hits: int, change: float = 0.01, calls: int = 30) -> Outcome:
    """`hits` of n flip; the change of the images differs a little."""
    wobble = 1 + 0.05 * np.cos(np.arange(n))
    return Outcome(tuple((change * wobble).tolist()), (0.9,) * hits + (0.4,) * (n - hits), (calls,) * n)


def trial(number: int, n: int, hits: int, change: float, calls: int = 30, state: State = "complete") -> Trial:
    return Trial(number, {"ratio": 0.1 * (number + 1)}, state, {"negative": outcome(n, hits, change, calls)})


def test_the_worse_direction_counts_in_each_figure() -> None:
    both = Trial(0, {}, "complete", {"negative": outcome(20, 20, 0.02, 10), "positive": outcome(20, 15, 0.01, 50)})
    assert both.flip(0.75) == 0.75 and both.flip(0.3) == 1.0
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


def test_where_none_flips_by_the_margin_those_that_flip_at_all_count() -> None:
    def flipping(number: int, accepting: tuple[float, ...], change: float) -> Trial:
        return Trial(number, {}, "complete", {"positive": Outcome((change,) * 4, accepting, (30,) * 4)})

    timid = flipping(0, (0.4, 0.4, 0.4, 0.4), 0.01)
    bold = flipping(1, (0.6, 0.6, 0.6, 0.4), 0.02)
    sure = flipping(2, (0.8, 0.8, 0.8, 0.4), 0.03)
    assert leader([timid, bold], GOAL) is bold and choose([timid, bold], GOAL) is bold
    assert leader([timid, bold, sure], GOAL) is sure
    assert missed(timid, GOAL) == pytest.approx(0.9) and missed(bold, GOAL) == pytest.approx((0.9 + 0.15) / 2)
    all_at_all = flipping(3, (0.9, 0.9, 0.9, 0.6), 0.001)
    assert missed(all_at_all, GOAL) > 0, "by the margin the goal is not reached"
    some = {"positive": Outcome((0.01,) * 16, (0.4,) * 16, (30,) * 16)}
    of_many = Trial(1, {}, "complete", {"positive": Outcome((0.02,) * 16, (0.6,) * 16, (30,) * 16)})
    assert give_up(some, GOAL, of_many) == "infeasible", "what flips none cannot come near to what flips all"


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


def test_price_is_change_at_a_small_charge_for_calls() -> None:
    assert price(np.array([0.02]), np.array([1.0])) == pytest.approx(0.02)
    assert price(np.array([0.02 * 1.07]), np.array([15.0])) < price(np.array([0.02]), np.array([30.0]))
    assert price(np.array([0.02 * 1.08]), np.array([15.0])) > price(np.array([0.02]), np.array([30.0]))
    assert price(np.array([0.79]), np.array([300.0])) < price(np.array([1.0]), np.array([30.0]))


def test_of_the_same_change_the_cheaper_is_chosen_and_a_little_less_change_is_not_bought_at_any_price() -> None:
    start, cheap = trial(0, 20, 20, 0.02, calls=40), trial(1, 20, 20, 0.02, calls=20)
    dear = trial(2, 20, 20, 0.0198, calls=80)
    assert choose([start, cheap, dear], GOAL) is cheap and choose([start, dear], GOAL) is start


def test_the_direction_that_costs_most_counts() -> None:
    both = Trial(0, {}, "complete", {"negative": outcome(20, 20, 0.02, 10), "positive": outcome(20, 15, 0.019, 90)})
    assert both.dearest == "positive" and both.price == pytest.approx(both.outcome["positive"].price.mean())


def grouped(values: np.ndarray, hits: int, groups: int) -> Outcome:
    n = len(values)
    names = tuple(f"P{i * groups // n}" for i in range(n))
    return Outcome(tuple(values.tolist()), (0.9,) * hits + (0.6,) * (n - hits), (30,) * n, groups=names)


def test_images_of_few_patients_are_less_sure_than_as_many_of_their_own() -> None:
    # 20 images of 4 patients: in one of them the trial costs more than the start, in the others clearly less.
    less = np.repeat([0.003, -0.004, -0.005, -0.006], 5)
    start, same = 0.02 + np.zeros(20), 0.02 + less
    for groups, chosen in ((20, 1), (4, 0)):
        made = [Trial(k, {}, "complete", {"negative": grouped(v, 20, groups)}) for k, v in enumerate((start, same))]
        assert choose(made, GOAL).number == chosen, groups
    best = Trial(0, {}, "complete", {"negative": grouped(start, 20, 20)})
    dearer = 0.02 + np.repeat([0.0, 0.0, 0.01, 0.01], 5)
    assert give_up({"negative": grouped(dearer, 20, 20)}, GOAL, best) == "dominated"
    assert give_up({"negative": grouped(dearer, 20, 4)}, GOAL, best) is None


def test_a_share_of_flips_is_given_up_by_groups_where_there_are_groups() -> None:
    best = Trial(0, {}, "complete", {"negative": outcome(200, 200)})
    flat = np.full(40, 0.01)
    assert give_up({"negative": grouped(flat, 28, 40)}, GOAL, best) == "infeasible"
    assert give_up({"negative": grouped(flat, 28, 4)}, GOAL, best) is None, "one patient who does not flip"


FIGURES = st.tuples(st.integers(0, 8), st.integers(1, 6), st.integers(1, 4))


@given(st.lists(FIGURES, min_size=1, max_size=20))
def test_the_front_holds_what_nothing_beats_and_beats_all_else(points: list[tuple[int, int, int]]) -> None:
    made = [Trial(k, {}, "complete", {"x": Outcome((float(c),) * 8, (0.9,) * f + (0.1,) * (8 - f), (n,) * 8)})
            for k, (f, c, n) in enumerate(points)]  # fmt: skip
    found = front([*made, Trial(99, {}, "dominated", {"x": outcome(8, 8, 0.0, 1)})], 0.5)
    kept = [points[member.number] for member in found]
    assert len(set(kept)) == len(kept) and [c for _, c, _ in kept] == sorted(c for _, c, _ in kept)
    for f, c, n in points:
        assert any(f <= F and c >= C and n >= N for F, C, N in kept)
    for one in kept:
        assert not any(o != one and o[0] >= one[0] and o[1] <= one[1] and o[2] <= one[2] for o in points)
