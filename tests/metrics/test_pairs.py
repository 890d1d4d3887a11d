"""Counterfactuals against true twins, by hand-made images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from cfdiff.data.values import unit
from cfdiff.metrics.pairs import against_twin, error_inside, error_removed, restored_inside

stored = arrays(np.uint8, (2, 4, 5, 1))


def grey(value: int, *changes: tuple[int, int, int]) -> np.ndarray:
    """One image (1, 4, 5, 1) of a value, but for (row, column, value)."""
    image = np.full((1, 4, 5, 1), value, np.uint8)
    for row, column, other in changes:
        image[0, row, column, 0] = other
    return unit(image)


@given(stored, stored)
def test_the_twin_itself_is_perfect_and_the_source_itself_removes_nothing(source: np.ndarray, twin: np.ndarray) -> None:
    x, t = unit(source), unit(twin)
    true = np.abs(source.astype(int) - twin) > 16
    best = against_twin(x, t, t)
    assert (best.error_after == 0).all() and (best.dice == 1).all()
    assert (best.restored[true.any(axis=(1, 2, 3))] == 1).all()
    assert (best.sound_changed[~true.all(axis=(1, 2, 3))] == 0).all()
    same = against_twin(x, x, t)
    assert np.array_equal(same.error_after, same.error_before)
    assert (same.restored[true.any(axis=(1, 2, 3))] == 0).all()
    assert error_removed(same.error_before, same.error_after) == 0 or not same.error_before.any()


def test_every_figure_of_an_image_with_two_of_four_pixels_restored() -> None:
    source = grey(100, (0, 0, 200), (0, 1, 200), (0, 2, 200), (0, 3, 200))
    twin = grey(100)
    # One pixel exactly, one within 16 grey levels, one halfway, one not at all; and two sound pixels, one beyond 16.
    cf = grey(100, (0, 1, 116), (0, 2, 150), (0, 3, 200), (3, 3, 117), (3, 4, 116))
    found = against_twin(source, cf, twin)
    assert found.error_before == pytest.approx(400 / 255 / 20)
    assert found.error_after == pytest.approx((16 + 50 + 100 + 17 + 16) / 255 / 20)
    assert found.restored == pytest.approx(2 / 4)
    assert found.sound_changed == pytest.approx(1 / 16)
    assert found.dice == pytest.approx(2 * 3 / (4 + 4))
    assert error_removed(found.error_before, found.error_after) == pytest.approx(1 - 199 / 400)


def test_a_difference_of_exactly_16_grey_levels_is_none_at_any_value() -> None:
    for value in range(240):
        assert np.isnan(against_twin(grey(value), grey(value), grey(value + 16)).restored)
        assert against_twin(grey(value), grey(value), grey(min(255, value + 17))).restored[0] == 0 or value == 239


def test_images_without_a_difference_have_no_restored_share_and_no_error_removed() -> None:
    found = against_twin(grey(9), grey(9), grey(9))
    assert np.isnan(found.restored) and found.sound_changed == 0 and found.dice == 1
    assert np.isnan(error_removed(found.error_before, found.error_after))
    assert np.isnan(against_twin(grey(0), grey(0), grey(255)).sound_changed)


def test_error_removed_pools_sums_and_is_negative_where_edits_lead_away() -> None:
    assert error_removed(np.array([0.1, 0.3]), np.array([0.1, 0.1])) == pytest.approx(0.5)
    assert error_removed(np.array([0.1]), np.array([0.3])) == pytest.approx(-2)


def test_inside_the_masks_is_what_is_marked_and_outside_is_what_a_perfect_edit_leaves() -> None:
    source, twin = grey(100, (0, 0, 200), (1, 1, 150)), grey(100)
    masks = np.zeros((1, 4, 5), bool)
    masks[0, 0, 0] = True
    cf = grey(100, (0, 0, 100), (1, 1, 150))
    assert restored_inside(source, cf, twin, masks) == 1 and against_twin(source, cf, twin).restored == 0.5
    assert error_inside(source, twin, masks) == pytest.approx(100 / 255 / 20)
    assert error_inside(cf, twin, masks) == 0
    left = error_inside(source, twin, ~masks)
    assert left == pytest.approx(50 / 255 / 20)
    assert against_twin(source, cf, twin).error_after == pytest.approx(left)
    assert np.isnan(restored_inside(source, cf, twin, np.zeros_like(masks)))
