from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cfdiff.metrics.intervals import (
    Interval,
    Sample,
    bootstrap_rows,
    group_weights,
    jackknife_interval,
    mean_bound,
    mean_error,
    mean_interval,
    over,
    share_interval,
    widened,
    wilson,
)


def bootstrap(values: np.ndarray, groups: np.ndarray | list[str] | None = None, n_boot: int = 2000) -> Interval | None:
    """Of the mean, the general way."""
    return bootstrap_rows(len(values), groups, lambda rows: float(values[rows].mean()), n_boot)


def unwidened(interval: Interval | None, value: float, n: int, groups: np.ndarray | None = None) -> Interval:
    """The bare quantiles of a bootstrap."""
    assert interval is not None
    sample = Sample(np.zeros(n), groups)
    factor = sample.t / 1.959964 * np.sqrt(sample.count / (sample.count - 1))
    return value + (interval[0] - value) / factor, value + (interval[1] - value) / factor


def coverage(interval: Callable[..., Interval | None], g: int, icc: float, share: float | None, n: int = 300) -> float:
    """How often a nominal 95 % interval holds the truth: g groups of 20 images, of a share, or of a mean that is 0."""
    rng = np.random.default_rng([g, round(100 * icc), 0 if share is None else round(100 * share)])
    groups = np.repeat(np.arange(g), 20)
    covered = 0
    for _ in range(n):
        if share is None:
            true = 0.0
            effect = rng.normal(size=g)[groups]
            values = np.sqrt(icc) * effect + np.sqrt(1 - icc) * rng.normal(size=len(groups))
        else:
            true, beta = share, (1 - icc) / icc
            values = (rng.random(len(groups)) < rng.beta(share * beta, (1 - share) * beta, g)[groups]).astype(float)
        low, high = interval(values, groups) or (np.nan, np.nan)
        covered += low <= true <= high
    return covered / n


CELLS = [(g, icc, share) for g in (5, 10, 18) for icc in (0.1, 0.3) for share in (0.02, 0.5, 0.98)]


@pytest.mark.parametrize("g, icc, share", CELLS)
def test_the_interval_of_a_share_holds_the_truth_where_images_of_a_group_look_alike(
    g: int, icc: float, share: float
) -> None:
    # 93 % is asked of the long simulation (benchmarks/intervals.py); of 300 runs a lucky 2 % more or less.
    assert coverage(share_interval, g, icc, share) >= 0.91


@pytest.mark.parametrize("g", [5, 10, 18])
@pytest.mark.parametrize("icc", [0.1, 0.3])
def test_the_interval_of_a_mean_holds_the_truth_where_images_of_a_group_look_alike(g: int, icc: float) -> None:
    assert coverage(mean_interval, g, icc, None) >= 0.91


def test_an_interval_over_images_would_fail_that_by_far() -> None:
    assert coverage(lambda hits, groups: wilson(hits.sum(), len(hits)), 18, 0.3, 0.5) < 0.65
    assert coverage(lambda values, groups: mean_interval(values), 18, 0.3, None) < 0.65


def test_the_file_of_the_simulation_shows_the_goal_reached_from_five_groups_on_in_nearly_all_cells() -> None:
    file = Path(__file__).parents[2] / "benchmarks" / "results" / "intervals.json"
    told = json.loads(file.read_text())
    for kind in ("share", "mean"):
        rows = [row for row in told["rows"] if row["kind"] == kind and row["groups"] >= 5]
        for one_large, most, least in ((False, 0.0625, 0.91), (True, 0.2, 0.89)):
            here = [row for row in rows if (row["sizes"] == "one large") == one_large]
            own = np.array([row["candidates"]["cfdiff"]["coverage"] for row in here])
            assert (own < 0.93).mean() <= most and own.min() > least
        summary = told["summary"][kind]
        others = [of["cells_below_goal"] for name, of in summary.items() if name != "cfdiff"]
        assert min(others) > 3 * summary["cfdiff"]["cells_below_goal"], "nothing simpler does"


groupings = st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=1, max_size=60)


@given(groupings)
def test_a_share_over_groups_is_in_range_has_width_and_is_never_narrower_than_over_images(
    rows: list[tuple[bool, int]],
) -> None:
    hits, groups = np.array([hit for hit, _ in rows]), np.array([group for _, group in rows])
    low, high = share_interval(hits, groups)
    inner = share_interval(hits)
    assert 0 <= low <= inner[0] + 1e-12 and inner[1] - 1e-12 <= high <= 1 and low < high
    assert low - 1e-12 <= hits.mean() <= high + 1e-12


@given(groupings)
def test_misses_and_hits_are_treated_alike_and_names_and_order_do_not_matter(rows: list[tuple[bool, int]]) -> None:
    hits, groups = np.array([hit for hit, _ in rows]), np.array([group for _, group in rows])
    low, high = share_interval(hits, groups)
    assert share_interval(~hits, groups) == (pytest.approx(1 - high), pytest.approx(1 - low))
    shuffled = np.random.default_rng(0).permutation(len(hits))
    named = np.array([f"P{9 - group}" for group in groups])
    assert share_interval(hits[shuffled], named[shuffled]) == pytest.approx((low, high))


def test_a_share_of_all_images_is_as_sure_as_the_groups_are_many_and_not_the_images() -> None:
    def low(g: int, each: int) -> float:
        return share_interval(np.ones(g * each), np.repeat(np.arange(g), each))[0]

    assert low(5, 20) < low(18, 20) < low(50, 20) < 1
    assert low(18, 2000) - low(18, 200) < 0.01, "more images of the same patients tell hardly more"


def test_groups_of_one_image_each_are_as_good_as_images() -> None:
    hits = np.arange(400) % 3 == 0
    assert share_interval(hits, np.arange(400)) == pytest.approx(share_interval(hits), abs=1e-3)
    values = np.random.default_rng(1).normal(size=50)
    assert mean_interval(values, np.arange(50)) == pytest.approx(mean_interval(values))


def test_without_two_groups_intervals_are_those_of_the_textbook_over_images() -> None:
    hits = np.arange(30) < 12
    for groups in (None, np.zeros(30), ["P1"] * 30):
        assert over(groups) == "images" and share_interval(hits, groups) == wilson(12, 30)
    values = np.random.default_rng(0).normal(size=12)
    peer = stats.t.interval(0.95, 11, values.mean(), stats.sem(values))
    assert mean_interval(values) == pytest.approx(peer) == mean_interval(values, ["P1"] * 12)
    assert over(["a", "b"]) == "groups"


def test_groups_of_equal_size_are_as_good_as_their_means_where_they_differ_by_more_than_chance() -> None:
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(7), 9)
    values = rng.normal(size=7)[groups] + 0.1 * rng.normal(size=63)
    means = values.reshape(7, 9).mean(1)
    assert mean_interval(values, groups) == pytest.approx(stats.t.interval(0.95, 6, means.mean(), stats.sem(means)))


def test_one_large_group_among_small_ones_counts_for_little_more_than_one() -> None:
    lonely, even = np.array([0] * 100 + [1, 2, 3, 4, 5]), np.arange(105) % 6

    def wide(groups: np.ndarray) -> float:
        """The mean width of 200 intervals of values that are their group's alone."""
        rng = np.random.default_rng(0)
        return float(np.mean([width(mean_interval(rng.normal(size=6)[groups], groups)) for _ in range(200)]))

    assert wide(lonely) > 2 * wide(even)


def test_a_mean_stays_in_the_range_that_it_can_have() -> None:
    assert mean_interval(np.array([0.0, 0.1, 0.9]), within=(0, 1)) == (0, pytest.approx(1))


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilsons_interval_holds_the_proportion_and_stays_between_0_and_1(case: tuple[int, int]) -> None:
    hits, n = case
    low, high = wilson(hits, n)
    assert 0 <= low <= hits / n + 1e-12 and hits / n - 1e-12 <= high <= 1 and low < high


def test_wilsons_interval_is_that_of_the_textbook() -> None:
    # Newcombe 1998, table I: 81 of 263 and 0 of 20, without continuity correction.
    assert wilson(81, 263) == (pytest.approx(0.2553, abs=1e-4), pytest.approx(0.3662, abs=1e-4))
    assert wilson(0, 20) == (0.0, pytest.approx(0.1611, abs=1e-4))
    assert wilson(0, 0) == (0.0, 1.0)


def test_the_interval_of_a_mean_shrinks_with_the_root_of_n_and_needs_two_values() -> None:
    values = np.array([0.0, 1.0] * 50)
    low, high = mean_interval(values)  # type: ignore[misc]
    assert (low + high) / 2 == pytest.approx(0.5) and high - low == pytest.approx(2 * 1.9842 * 0.05025, rel=1e-3)
    assert mean_interval(values[:1]) is None


def width(interval: tuple[float, float] | None) -> float:
    assert interval is not None
    return interval[1] - interval[0]


def test_the_bootstrap_of_a_mean_is_the_normal_interval_where_that_is_right() -> None:
    values = np.random.default_rng(0).normal(3, 2, 400)
    assert bootstrap(values) == pytest.approx(mean_interval(values), abs=0.02)


def test_the_bootstrap_agrees_with_scipys() -> None:
    values = np.random.default_rng(1).exponential(1, 60)
    peer = stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=3).confidence_interval
    own = unwidened(bootstrap(values, n_boot=4000), float(values.mean()), 60)
    assert own == pytest.approx((peer.low, peer.high), abs=0.02)


def test_the_interval_of_the_mean_holds_it_about_19_times_in_20() -> None:
    g = np.random.default_rng(2)
    intervals = [bootstrap(g.normal(size=50), n_boot=400) for _ in range(200)]
    covered = sum(low < 0 < high for low, high in intervals)  # type: ignore[misc]
    assert 180 <= covered <= 198


def test_groups_that_correlate_widen_the_interval_by_what_the_theory_says() -> None:
    # 40 groups of 9 equal rows hold as much as 40 rows: the interval is 3 times that of 360 rows.
    groups = np.repeat(np.arange(40), 9)
    values = np.random.default_rng(3).normal(size=40)[groups]
    for interval in (bootstrap, mean_interval):
        assert width(interval(values, groups)) == pytest.approx(3 * width(interval(values)), rel=0.1)


def test_groups_may_be_names_and_their_order_does_not_matter() -> None:
    values, groups = np.arange(12.0), np.repeat(["b", "c", "a"], 4)
    shuffled = np.random.default_rng(4).permutation(12)
    assert bootstrap(values, groups) == pytest.approx(bootstrap(values[shuffled], list(groups[shuffled])))


def test_the_bootstrap_is_widened_by_what_few_groups_hide() -> None:
    # Of 4 equal groups the draws spread by sqrt(3 / 4) too little, and Student's quantile of 3 degrees is 3.182.
    values, groups = np.random.default_rng(5).random(40), np.arange(40) % 4
    drawn = [w @ values / w.sum() for w in group_weights(40, groups)]
    bare, mean = np.quantile(drawn, [0.025, 0.975]), values.mean()
    factor = 3.18245 / 1.959964 * np.sqrt(4 / 3)
    assert bootstrap(values, groups) == pytest.approx(mean + factor * (bare - mean), rel=1e-5)
    assert widened(mean, drawn, 40, groups, (0.49, 0.51)) == (0.49, 0.51)


def test_rows_of_several_arrays_are_drawn_together() -> None:
    x = np.random.default_rng(6).random(20)
    y = 2 * x + 1
    slope = bootstrap_rows(20, None, lambda rows: np.polyfit(x[rows], y[rows], 1)[0], n_boot=50)
    assert slope == (pytest.approx(2), pytest.approx(2))


def test_whole_groups_come_into_a_draw() -> None:
    groups = np.array(["a", "b", "a", "c", "b", "c", "c"])
    seen: list[np.ndarray] = []
    bootstrap_rows(7, groups, lambda rows: seen.append(rows) or 0.0, n_boot=20)  # type: ignore[func-returns-value]
    for rows in seen:
        count = np.bincount(rows, minlength=7)
        assert count[0] == count[2] and count[1] == count[4] and count[3] == count[5] == count[6]
        assert count[[0, 1, 3]].sum() == 3


def test_the_weights_are_the_counts_of_the_same_draws() -> None:
    groups = np.array([3, 3, 1, 2, 1])
    values = np.array([0.0, 4.0, 1.0, 7.0, 2.0])
    means = [w @ values / w.sum() for w in group_weights(5, groups)]
    assert widened(values.mean(), means, 5, groups) == pytest.approx(bootstrap(values, groups))


@pytest.mark.parametrize("groups", [None, ["a"]])
def test_one_row_has_no_interval(groups: list[str] | None) -> None:
    assert bootstrap(np.array([0.3]), groups) is None and mean_interval(np.array([0.3]), groups) is None


def test_nothing_has_no_interval_and_a_share_of_nothing_knows_nothing() -> None:
    assert bootstrap_rows(0, None, lambda rows: 0.0) is None and mean_interval(np.array([])) is None
    assert share_interval(np.array([])) == (0, 1)


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=30), st.integers(1, 5))
def test_the_interval_of_a_mean_holds_it_and_is_never_narrower_than_over_images(values: list[float], g: int) -> None:
    array, groups = np.array(values), np.arange(len(values)) % g
    low, high = mean_interval(array, groups)  # type: ignore[misc]
    inner = mean_interval(array)
    assert inner is not None and low - 1e-9 <= inner[0] <= array.mean() + 1e-9
    assert array.mean() - 1e-9 <= inner[1] <= high + 1e-9


def test_the_jackknife_of_a_mean_over_images_is_students_interval() -> None:
    values = np.random.default_rng(0).normal(size=15)
    without = np.array([np.delete(values, i).mean() for i in range(15)])
    assert jackknife_interval(values.mean(), without, np.ones(15, int)) == pytest.approx(mean_interval(values))


def test_the_jackknife_of_groups_goes_by_how_many_groups_they_are_worth() -> None:
    without = np.array([0.9, 1.0, 1.1])
    low, high = jackknife_interval(1.0, without, np.array([5, 5, 5])) or (0, 0)
    assert (high - low) / 2 == pytest.approx(4.302653 * np.sqrt(2 / 3 * 0.02), rel=1e-5)
    uneven = jackknife_interval(1.0, without, np.array([50, 5, 5])) or (0, 0)
    assert uneven[1] - uneven[0] > high - low
    assert jackknife_interval(1.0, without, np.array([5, 5, 5]), (0.9, 1.05)) == (0.9, 1.05)
    assert jackknife_interval(1.0, without[:1], np.array([5])) is None
    assert jackknife_interval(1.0, np.array([1.0, np.nan]), np.array([5, 5])) is None


def test_a_one_sided_bound_of_a_mean_is_an_end_of_the_interval_with_the_same_error() -> None:
    values, groups = np.random.default_rng(0).normal(size=24), [f"P{i // 6}" for i in range(24)]
    assert mean_error(values) == pytest.approx(values.std(ddof=1) / np.sqrt(24))
    for of in (None, groups):
        between = mean_interval(values, of)
        assert between is not None and mean_bound(values, of, 0.975) == pytest.approx(between[1])
        assert values.mean() < mean_bound(values, of, 0.95) < between[1]
    one = np.ones(1)
    assert mean_error(one) == mean_bound(one, None, 0.95) == np.inf and mean_interval(one) is None
