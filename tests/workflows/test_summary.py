from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfdiff.workflows.summary import mean_interval, summarise, wilson
from cfdiff.workflows.translate import translate


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


def test_the_summary_is_that_of_the_saved_values_of_all_images(toy: Any, tmp_path: Path) -> None:
    out = tmp_path / "run.h5"
    figures = translate(toy.settings(out, limit=12))
    assert summarise(out, batch=5) == {k: v for k, v in figures.items() if k != "seconds_per_image"}
    with h5py.File(out) as file:
        change = (file["counterfactual"][:].astype(float) - file["source"][:]) / 255
        assert figures["mean_abs_difference"] == pytest.approx(np.abs(change).mean(), rel=1e-5)
        assert figures["flipped_judge"] == file["flipped"][:].mean()
        assert figures["flipped_checker"] == (file["prob/checker"][:, 1, 1] > 0.5).mean()
        assert figures["target_before_judge"] == (file["prob/judge"][:, 0, 1] > 0.5).mean()
        assert figures["network_calls"] == file["guidance/network_calls"][:].mean()
    assert figures["images"] == 12 and figures["result"] == "run.h5"
