from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cfdiff.bag.summary import summarise_bags
from cfdiff.metrics.intervals import wilson
from cfdiff.report.html.bags import edited_rows
from cfdiff.store.bags import open_bags


def test_an_edit_that_two_mixes_show_is_one_row(make_bags: Callable[..., Path]) -> None:
    with open_bags(make_bags(bags=3)) as bags:
        numbers, rows = bags.edits()
        assert numbers.tolist() == list(range(12)) and bags.read("row/edited").sum() == 18
        assert bags.read("row/edit")[rows].tolist() == numbers.tolist()
        found = edited_rows(bags)
        assert found is not None
        assert found.ids.tolist() == [f"cell/{8 * bag + k:03d}" for bag in range(3) for k in range(4)]
        assert found.flipped is not None and (~found.flipped).tolist() == [True] + [False] * 11


def test_the_share_of_edits_that_the_judge_sees_counts_each_once(make_bags: Callable[..., Path]) -> None:
    figures = summarise_bags(make_bags(bags=3))
    assert figures.flipped_judge == pytest.approx(11 / 12)
    low, high = wilson(11, 12)
    assert figures.flipped_judge_95[0] <= low < high <= figures.flipped_judge_95[1]


def test_the_interval_of_a_mean_takes_the_mixes_of_a_bag_together(make_bags: Callable[..., Path]) -> None:
    """One of two bags is 1/8 off at one of its two mixes: the bags' means are 0 and 1/16, Student's t of one degree."""
    achieved = summarise_bags(make_bags(bags=2)).achieved
    assert achieved is not None
    assert achieved.mean_off_planned_95 == pytest.approx((0, (1 + 12.7062) / 32), rel=1e-4)
