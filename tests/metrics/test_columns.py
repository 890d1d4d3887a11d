from __future__ import annotations

import numpy as np
import pytest

from cfdiff.metrics.columns import Columns, entry_of
from cfdiff.metrics.intervals import bootstrap, wilson

GROUPS = np.repeat(["a", "b", "c", "d"], 5)
FLIPPED = np.arange(20) % 2 == 0


def test_a_mean_is_bootstrapped_over_groups_where_there_are_some_and_over_images_else() -> None:
    values = np.arange(20.0)
    grouped = Columns(20, GROUPS, FLIPPED, 300, 7).mean("x", values)
    assert (grouped["all"]["low"], grouped["all"]["high"]) == bootstrap(values, GROUPS, n_boot=300, seed=7)
    assert grouped["all"]["by"] == "groups" and grouped["flipped"]["value"] == values[FLIPPED].mean()
    alone = Columns(20, None, FLIPPED, 300, 7).mean("x", values)
    assert (alone["all"]["low"], alone["all"]["high"]) == bootstrap(values, n_boot=300, seed=7)
    assert alone["all"]["by"] == "images" and alone["all"]["low"] > grouped["all"]["low"]


def test_values_that_are_not_there_are_left_out_and_not_counted() -> None:
    values = np.where(np.arange(20) < 5, np.nan, 2.0)
    figure = Columns(20, GROUPS, FLIPPED).mean("x", values)
    assert figure["all"]["value"] == 2 and figure["all"]["n"] == 15 and figure["flipped"]["n"] == 7


def test_a_share_of_all_has_an_interval_with_width_with_and_without_groups() -> None:
    for groups in (GROUPS, None):
        entry = Columns(20, groups, None).share("x", np.ones(20, bool))["all"]
        assert entry["value"] == 1 and (entry["low"], entry["high"]) == wilson(20, 20)


def test_a_share_that_hangs_on_few_groups_is_as_wide_as_the_groups_make_it() -> None:
    hits = GROUPS == "a"
    low, high = wilson(5, 20)
    entry = Columns(20, GROUPS, None).share("x", hits)["all"]
    assert entry["low"] < low and entry["high"] > high and entry["by"] == "groups, Wilson"


def test_nothing_flipped_leaves_an_empty_column_and_no_verdict_leaves_none() -> None:
    columns = Columns(20, GROUPS, np.zeros(20, bool))
    empty = {"value": None, "low": None, "high": None, "n": 0, "by": None}
    assert columns.mean("x", np.ones(20))["flipped"] == columns.share("x", np.ones(20))["flipped"] == empty
    assert Columns(20, GROUPS, None).mean("x", np.ones(20))["flipped"] is None


def test_numbers_that_json_has_no_word_for_become_null() -> None:
    assert entry_of(float("nan"), (float("-inf"), 1.0), 3, "images")["value"] is None
    assert entry_of(0.5, (float("-inf"), 1.0), 3, "images") == {
        "value": 0.5,
        "low": None,
        "high": pytest.approx(1.0),
        "n": 3,
        "by": "images",
    }
