from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.filters import threshold_otsu
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from cfdiff.metrics.intervals import bootstrap_rows
from cfdiff.metrics.localisation import (
    above,
    auprc,
    auprc_per_image,
    auroc,
    best_threshold,
    dice,
    difference_map,
    otsu_threshold,
    pointing_game,
    pooled_intervals,
    prevalence,
)

# Scores of eight grey levels: ties, as maps of 8-bit images have them.
levels = arrays(np.float64, (3, 4, 5), elements=st.integers(0, 7).map(lambda i: i / 8))
marks = arrays(bool, (3, 4, 5))


def squares(n: int = 6, side: int = 12) -> np.ndarray:
    """Masks (n, side, side) of a square of 1, 2, 3, ... pixels a side, at places that differ; the first is empty."""
    masks = np.zeros((n, side, side), bool)
    for i in range(1, n):
        masks[i, i : 2 * i, 1 : i + 1] = True
    return masks


def noisy(masks: np.ndarray, seed: int = 0, contrast: float = 0.4) -> np.ndarray:
    return np.random.default_rng(seed).random(masks.shape) + contrast * masks


def test_relative_maps_end_at_1_and_a_map_of_zeros_stays_one() -> None:
    difference = np.zeros((3, 4, 4, 1))
    difference[0, 1, 1], difference[1, 2, 2], difference[1, 0, 0] = 0.5, -0.02, 0.01
    maps = difference_map(difference, relative=True)
    assert maps.max(axis=(1, 2)).tolist() == [1, 1, 0] and maps[1, 0, 0] == 0.5
    assert np.allclose(difference_map(difference, 1.0, True)[:2].max(axis=(1, 2)), 1)


def test_the_map_is_the_mean_over_channels_of_the_size_of_the_change() -> None:
    difference = np.array([[0.5, -0.25, 0.0], [0, 0, -0.3]], np.float16).reshape(1, 1, 2, 3)
    assert difference_map(difference)[0, 0] == pytest.approx([0.25, 0.1], abs=1e-4)


def test_smoothing_spreads_a_pixel_as_a_gaussian_and_keeps_its_sum() -> None:
    difference = np.zeros((1, 31, 31, 1))
    difference[0, 15, 15] = -1
    smooth = difference_map(difference, sigma=2)[0]
    assert smooth.sum() == pytest.approx(1)
    assert smooth[15, 17] / smooth[15, 15] == pytest.approx(np.exp(-0.5))


def test_a_perfect_map_has_1_and_its_opposite_the_least_there_is() -> None:
    masks = squares()
    scores = masks.astype(float)
    assert auprc(scores, masks) == 1 and auroc(scores, masks) == 1
    assert auroc(-scores, masks) == 0 and auprc(-scores, masks) == pytest.approx(prevalence(masks))
    assert prevalence(masks) == pytest.approx((1 + 4 + 9 + 16 + 25) / (6 * 144))


def test_a_random_map_has_the_prevalence_and_a_half() -> None:
    masks = np.random.default_rng(1).random((20, 40, 40)) < 0.1
    scores = noisy(masks, contrast=0)
    assert auprc(scores, masks) == pytest.approx(prevalence(masks), abs=0.01)
    assert auroc(scores, masks) == pytest.approx(0.5, abs=0.02)


def test_a_constant_map_has_exactly_the_prevalence_and_a_half() -> None:
    masks = squares()
    scores = np.zeros(masks.shape)
    assert auprc(scores, masks) == pytest.approx(prevalence(masks)) and auroc(scores, masks) == 0.5


def test_the_area_of_four_pixels_is_that_by_hand() -> None:
    # From the top: lesion (precision 1), other, lesion (2/3), other; recall grows by 1/2 each time.
    scores = np.array([0.9, 0.7, 0.5, 0.1]).reshape(1, 2, 2)
    masks = np.array([True, False, True, False]).reshape(1, 2, 2)
    assert auprc(scores, masks) == pytest.approx((1 + 2 / 3) / 2)
    assert auroc(scores, masks) == pytest.approx(3 / 4)


def test_empty_masks_take_part_in_the_pooled_areas_and_not_in_those_of_an_image() -> None:
    masks = np.zeros((2, 2, 2), bool)
    masks[0, 0, 0] = True
    scores = np.zeros((2, 2, 2))
    scores[0, 0, 0], scores[1, 0, 0] = 0.5, 0.9
    assert auprc(scores, masks) == pytest.approx(0.5)
    each = auprc_per_image(scores, masks)
    assert each[0] == 1 and np.isnan(each[1])


def test_without_any_lesion_there_is_no_area_and_no_warning() -> None:
    nothing = np.zeros((2, 3, 3), bool)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for metric in (auprc, auroc, best_threshold):
            assert np.isnan(metric(np.zeros((2, 3, 3)), nothing))
        assert np.isnan(auroc(np.zeros((2, 3, 3)), ~nothing))
    assert pooled_intervals(np.zeros((2, 3, 3)), nothing) == (None, None)


@given(levels, marks)
def test_the_areas_are_scikit_learns_and_blind_to_a_monotone_change_of_the_map(s: np.ndarray, m: np.ndarray) -> None:
    if m.any() and not m.all():
        assert auprc(s, m) == pytest.approx(average_precision_score(m.ravel(), s.ravel()))
        assert auroc(s, m) == pytest.approx(roc_auc_score(m.ravel(), s.ravel()))
        assert auprc(np.exp(3 * s), m) == pytest.approx(auprc(s, m))
        assert auroc(-s, m) == pytest.approx(1 - auroc(s, m))


@pytest.mark.parametrize("grouped", [False, True])
def test_the_quick_intervals_are_those_of_sorting_every_draw(grouped: bool) -> None:
    masks = squares(10, 20)
    scores = noisy(masks).round(2)  # few distinct values: the counts are exact
    groups = np.arange(10) // 2 if grouped else None
    precision, roc = pooled_intervals(scores, masks, groups, n_boot=100)
    slow = [
        bootstrap_rows(10, groups, lambda rows, m=metric: m(scores[rows], masks[rows]), n_boot=100)  # type: ignore[misc]
        for metric in (auprc, auroc)
    ]
    assert precision == pytest.approx(slow[0]) and roc == pytest.approx(slow[1])


def test_the_quick_intervals_are_near_in_fine_maps_too() -> None:
    masks = squares(12, 24)
    scores = noisy(masks)
    precision, roc = pooled_intervals(scores, masks, n_boot=100, bins=100)
    for interval, metric in ((precision, auprc), (roc, auroc)):
        slow = bootstrap_rows(12, None, lambda rows, m=metric: m(scores[rows], masks[rows]), n_boot=100)  # type: ignore[misc]
        assert interval == pytest.approx(slow, abs=0.01)


def test_one_group_with_lesions_has_no_interval() -> None:
    masks = squares(6)
    assert pooled_intervals(noisy(masks), masks, ["a"] + ["b"] * 5) == (None, None)


def test_dice_of_half_an_overlap_is_a_half_and_that_of_empty_masks_is_the_stated_rule() -> None:
    left, right, middle = (np.zeros((1, 2, 4), bool) for _ in range(3))
    left[..., :2], middle[..., 1:3], right[..., 2:] = True, True, True
    none = np.zeros_like(left)
    assert dice(left, left) == 1 and dice(left, middle) == 0.5 and dice(left, right) == 0
    assert dice(none, none) == 1 and dice(left, none) == 0 and dice(none, left) == 0


@given(marks, marks)
def test_dice_is_the_f1_of_pixels(pred: np.ndarray, masks: np.ndarray) -> None:
    peer = [f1_score(m.ravel(), p.ravel(), zero_division=1) for p, m in zip(pred, masks, strict=True)]
    assert dice(pred, masks) == pytest.approx(peer) and dice(masks, pred) == pytest.approx(peer)


def test_otsu_parts_two_levels_and_marks_nothing_in_a_constant_map() -> None:
    masks = squares()
    scores = np.where(masks, 0.8, 0.1)
    thresholds = otsu_threshold(scores)
    assert thresholds[1:] == pytest.approx([threshold_otsu(image) for image in scores[1:]])
    assert dice(above(scores, thresholds), masks) == pytest.approx(1)


def test_above_takes_one_threshold_for_all_or_one_an_image_and_is_strict() -> None:
    scores = np.array([0.2, 0.4, 0.6, 0.8]).reshape(2, 1, 2)
    assert above(scores, 0.4).ravel().tolist() == [False, False, True, True]
    assert above(scores, np.array([0.1, 0.6])).ravel().tolist() == [True, True, False, True]


def test_the_best_threshold_is_found_where_one_is_perfect() -> None:
    masks = squares()
    scores = np.where(masks, 0.8, 0.1)
    assert (dice(above(scores, best_threshold(scores, masks)), masks) == 1).all()


def test_the_best_threshold_leaves_out_empty_masks() -> None:
    masks = squares(3)
    scores = np.where(masks, 0.3, 0.1)
    scores[0] = 0.9  # an empty mask, marked everywhere: with it a threshold above 0.9 were best
    assert 0.1 <= best_threshold(scores, masks) < 0.3


def test_no_threshold_is_better_than_the_best_by_more_than_the_grid_is_coarse() -> None:
    masks = squares(8, 24)
    scores = noisy(masks, contrast=0.6)
    filled = masks.any(axis=(1, 2))

    def mean_dice(threshold: float) -> float:
        return float(dice(above(scores, threshold), masks)[filled].mean())

    found = mean_dice(best_threshold(scores, masks))
    everywhere = max(mean_dice(t) for t in np.unique(scores))
    assert everywhere - 0.01 <= found <= everywhere


def test_the_pointing_game_counts_the_peak() -> None:
    masks = squares(4)
    scores = np.full(masks.shape, 0.1)
    scores[0, 0, 0] = 1  # no lesion there to be hit
    scores[1, 1, 1] = 1  # in the mask of one pixel
    scores[2, 1, 2] = 1  # one pixel above the mask
    scores[3], masks[3, 0, 0] = 0, True  # no peak, and the first pixel is in the mask
    hits = pointing_game(scores, masks)
    assert np.isnan(hits[0]) and hits[1:].tolist() == [1, 0, 0]
    assert pointing_game(scores, masks, tolerance=1)[1:].tolist() == [1, 1, 0]


def test_the_tolerance_is_a_distance_and_not_a_square() -> None:
    masks = np.zeros((1, 9, 9), bool)
    masks[0, 0, 0] = True
    scores = np.zeros((1, 9, 9))
    scores[0, 3, 4] = 1  # 5 pixels away
    assert pointing_game(scores, masks, tolerance=4.9) == 0 and pointing_game(scores, masks, tolerance=5) == 1


def test_the_first_of_equal_peaks_counts() -> None:
    scores = np.array([[[0.5, 0.2, 0.5]]])
    assert pointing_game(scores, np.array([[[False, False, True]]])) == 0
    assert pointing_game(scores, np.array([[[True, False, False]]])) == 1
