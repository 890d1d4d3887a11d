from __future__ import annotations

import numpy as np

from cfdiff.metrics.columns import Columns, Entry, entry_of
from cfdiff.metrics.intervals import bootstrap_rows, mean_interval, share_interval, wilson

GROUPS = np.repeat(["a", "b", "c", "d"], 5)
FLIPPED = np.arange(20) % 2 == 0


def test_a_mean_has_an_interval_over_groups_where_there_are_some_and_over_images_else() -> None:
    values = np.arange(20.0)
    grouped = Columns(20, GROUPS, FLIPPED).mean("x", values)
    assert grouped.all.interval == mean_interval(values, GROUPS) and grouped.all.by == "Student over groups"
    assert grouped.flipped is not None and grouped.flipped.value == values[FLIPPED].mean()
    assert grouped.flipped.interval == mean_interval(values[FLIPPED], GROUPS[FLIPPED])
    alone = Columns(20, None, FLIPPED).mean("x", values)
    assert alone.all.interval == mean_interval(values) and alone.all.by == "Student over images"
    assert alone.all.low is not None and grouped.all.low is not None and alone.all.low > grouped.all.low


def test_any_other_statistic_is_bootstrapped_over_the_groups() -> None:
    values = np.arange(20.0) ** 2
    figure = Columns(20, GROUPS, FLIPPED, 300, 7).statistic("median", lambda rows: float(np.median(values[rows])))
    assert figure.all.interval == bootstrap_rows(20, GROUPS, lambda rows: float(np.median(values[rows])), 300, 7)
    assert figure.all.by == "bootstrap over groups" and figure.all.value == np.median(values) and figure.all.n == 20


def test_values_that_are_not_there_are_left_out_and_not_counted() -> None:
    values = np.where(np.arange(20) < 5, np.nan, 2.0)
    figure = Columns(20, GROUPS, FLIPPED).mean("x", values)
    assert figure.all.value == 2 and figure.all.n == 15 and figure.flipped is not None and figure.flipped.n == 7


def test_a_share_of_all_has_an_interval_with_width_with_and_without_groups() -> None:
    for groups in (GROUPS, None):
        entry = Columns(20, groups, None).share("x", np.ones(20, bool)).all
        assert entry.value == 1 and entry.interval == share_interval(np.ones(20), groups)
        assert entry.low is not None and entry.low <= wilson(20, 20)[0]


def test_a_share_that_hangs_on_few_groups_is_as_wide_as_the_groups_make_it() -> None:
    hits = GROUPS == "a"
    low, high = wilson(5, 20)
    entry = Columns(20, GROUPS, None).share("x", hits).all
    assert entry.interval is not None and entry.interval[0] < low and entry.interval[1] > high
    assert entry.by == "Wilson over groups"


def test_nothing_flipped_leaves_an_empty_column_and_no_verdict_leaves_none() -> None:
    columns = Columns(20, GROUPS, np.zeros(20, bool))
    empty = Entry(value=None, low=None, high=None, n=0, by=None)
    assert columns.mean("x", np.ones(20)).flipped == columns.share("x", np.ones(20)).flipped == empty
    assert Columns(20, GROUPS, None).mean("x", np.ones(20)).flipped is None


def test_numbers_that_json_has_no_word_for_become_null() -> None:
    assert entry_of(float("nan"), (float("-inf"), 1.0), 3, "images").value is None
    assert entry_of(0.5, (float("-inf"), 1.0), 3, "images") == Entry(0.5, None, 1.0, 3, "images")


def test_a_figure_reads_as_a_line_and_is_json_with_the_keys_of_the_docs() -> None:
    columns = Columns(20, GROUPS, FLIPPED)
    share, mean = columns.share("hits", GROUPS == "a", "higher"), columns.mean("size", np.arange(20.0))
    assert str(share).startswith("hits: 0.25 [") and "(n = 20, Wilson over groups); of the flipped 0.3 [" in str(share)
    assert list(share.as_json()) == ["label", "better", "all", "flipped", "unit"] and share.as_json()["unit"] == "share"
    assert list(mean.as_json()) == ["label", "better", "all", "flipped"]
    assert list(mean.as_json()["all"]) == ["value", "low", "high", "n", "by"]
