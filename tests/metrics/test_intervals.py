from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cfdiff.metrics.intervals import (
    bootstrap,
    bootstrap_rows,
    group_weights,
    mean_interval,
    percentile_interval,
    wilson,
)


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
    assert (low + high) / 2 == pytest.approx(0.5) and high - low == pytest.approx(2 * 1.96 * 0.05025, rel=1e-3)
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
    assert bootstrap(values, n_boot=4000) == pytest.approx((peer.low, peer.high), abs=0.02)


def test_the_interval_of_the_mean_holds_it_about_19_times_in_20() -> None:
    g = np.random.default_rng(2)
    intervals = [bootstrap(g.normal(size=50), n_boot=400) for _ in range(200)]
    covered = sum(low < 0 < high for low, high in intervals)  # type: ignore[misc]
    assert 180 <= covered <= 198


def test_groups_that_correlate_widen_the_interval_by_what_the_theory_says() -> None:
    # 40 groups of 9 equal rows hold as much as 40 rows: the interval is 3 times that of 360 rows.
    groups = np.repeat(np.arange(40), 9)
    values = np.random.default_rng(3).normal(size=40)[groups]
    assert width(bootstrap(values, groups)) == pytest.approx(3 * width(bootstrap(values)), rel=0.1)


def test_groups_may_be_names_and_their_order_does_not_matter() -> None:
    values, groups = np.arange(12.0), np.repeat(["b", "c", "a"], 4)
    shuffled = np.random.default_rng(4).permutation(12)
    assert bootstrap(values, groups) == pytest.approx(bootstrap(values[shuffled], list(groups[shuffled])))


def test_the_quick_way_for_the_mean_draws_the_same_as_the_general_one() -> None:
    g = np.random.default_rng(5)
    values, groups = g.random(30), g.integers(0, 7, 30)
    for clusters in (groups, None):
        assert bootstrap(values, clusters) == pytest.approx(bootstrap(values, clusters, lambda v: v.mean()))


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
    assert percentile_interval(means) == pytest.approx(bootstrap(values, groups))


@pytest.mark.parametrize("groups", [None, ["a"]])
def test_one_row_has_no_interval(groups: list[str] | None) -> None:
    assert bootstrap(np.array([0.3]), groups) is None
    assert bootstrap(np.array([0.3]), groups, np.median) is None


def test_one_group_of_many_rows_has_no_interval_nor_has_nothing() -> None:
    assert bootstrap(np.arange(5.0), ["a"] * 5) is None
    assert bootstrap_rows(5, ["a"] * 5, lambda rows: 0.0) is None
    assert bootstrap(np.array([])) is None


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=30))
def test_the_interval_of_a_mean_lies_within_the_values(values: list[float]) -> None:
    low, high = bootstrap(np.array(values), n_boot=30)  # type: ignore[misc]
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
