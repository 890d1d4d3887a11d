from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfdiff.metrics.bags import dose_response_slope, ratio_errors


def test_the_errors_of_three_bags_are_those_by_hand() -> None:
    errors = ratio_errors(
        requested=np.array([0.3, 0.3, 0.5]),
        planned=np.array([0.25, 0.3, 0.5]),
        achieved=np.array([0.25, 0.4, 0.0]),
        size=np.array([4, 10, 2]),
    )
    assert errors.exact.tolist() == [True, False, False]
    assert errors.off_planned == pytest.approx([0, 0.1, 0.5])
    assert errors.off_requested == pytest.approx([0.05, 0.1, 0.5])


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_same_count_is_exact_however_it_was_rounded(case: tuple[int, int]) -> None:
    count, n = case
    stored = np.array([np.float32(count / n)])
    planned, size = np.array([count / n]), np.array([n])
    assert ratio_errors(planned, planned, stored, size).exact.all()
    assert not ratio_errors(planned, planned, np.array([(count + 1) / n]), size).exact.any()


@given(st.floats(-2, 2), st.floats(-1, 1))
def test_the_dose_response_of_a_line_is_that_line(slope: float, intercept: float) -> None:
    requested = np.array([0, 0.1, 0.1, 0.5, 1.0])
    assert dose_response_slope(requested, slope * requested + intercept) == pytest.approx((slope, intercept), abs=1e-9)


def test_the_dose_response_is_that_of_least_squares() -> None:
    # By hand: sum dx dy = 0.5 * 0.6 + 0.5 * 0.3, over sum dx^2 = 0.5; through the means (0.5, 0.6).
    assert dose_response_slope(np.array([0, 0.5, 1]), np.array([0, 0.9, 0.9])) == pytest.approx((0.9, 0.15))


def test_one_mix_has_no_slope() -> None:
    assert dose_response_slope(np.array([0.3, 0.3]), np.array([0.2, 0.4])) is None
