from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfdiff.figures.rows import Rows, read_rows, select
from cfdiff.store import open_result


def rows(after: list[float]) -> Rows:
    n = len(after)
    prob = {"judge": np.stack([np.zeros(n), np.array(after)], axis=1)}
    return Rows(np.arange(n).astype(str), None, prob, np.zeros(n), np.array(after) > 0.5, None)


def test_change_is_the_mean_absolute_difference_of_the_saved_images(make_run: Callable[..., Path]) -> None:
    with open_result(make_run(12)) as result:
        found = read_rows(result)
        expected = np.abs(result.counterfactual[:].astype(float) - result.source[:].astype(float)).mean((1, 2, 3)) / 255
    assert np.allclose(found.change, expected, atol=1e-6) and (found.change > 0).all()


def test_the_judge_decides_and_the_checker_where_there_is_none(make_run: Callable[..., Path]) -> None:
    for judges, decider in ((("judge", "checker"), "judge"), (("checker",), "checker"), ((), None)):
        with open_result(make_run(10, out=f"{decider}.h5", judges=judges)) as result:
            found = read_rows(result)
        assert found.decider == decider
        assert len(found.worst(3)) == (3 if decider else 0)


def test_best_and_worst_are_by_gain_and_failures_are_those_not_flipped() -> None:
    one = rows([0.9, 0.2, 0.7, 0.95, 0.4])
    assert one.best(2).tolist() == [3, 0] and one.worst(2).tolist() == [1, 4]
    assert one.failed().tolist() == [1, 4]


@given(after=st.lists(st.floats(0, 1), min_size=1, max_size=200), limit=st.integers(3, 220))
def test_a_selection_is_as_large_as_it_may_be_in_file_order_and_holds_the_random_draw(
    after: list[float], limit: int
) -> None:
    one = rows(after)
    chosen = select(one, limit)
    assert len(chosen.shown) == min(limit, len(after))
    assert (np.diff(chosen.shown) > 0).all()
    assert np.isin(chosen.random, chosen.shown).all()
    if limit >= 3 * chosen.extremes + len(one.failed()):
        assert np.isin(one.failed(), chosen.shown).all()


def test_the_random_images_do_not_prefer_failures() -> None:
    """A tenth of 20,000 fails: of 24 drawn from all, a half would have to fail if failures came first."""
    chosen = select(rows([0.1 if i % 10 == 0 else 0.9 for i in range(20_000)]), 1000)
    assert (chosen.random % 10 == 0).sum() < 10


@pytest.mark.parametrize("limit", [3, 30, 200])
def test_more_failures_than_the_limit_leave_room_for_the_best_and_the_worst_of_the_run(limit: int) -> None:
    """All but 39 of 1,000 fail, and the worst come last in the file."""
    one = rows(np.linspace(0.52, 0.0, 1000).tolist())
    chosen = select(one, limit)
    assert len(one.failed()) > limit == len(chosen.shown)
    assert chosen.extremes == len(chosen.random) == min(24, limit // 3, max(1, len(one) // 2))
    for named in (one.best(chosen.extremes), one.worst(chosen.extremes), chosen.random):
        assert np.isin(named, chosen.shown).all()
