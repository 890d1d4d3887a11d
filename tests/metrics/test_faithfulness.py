from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import auc

from cfdiff.metrics.faithfulness import cout, deletion, importance, insertion, substitute

images = arrays(np.float32, (2, 3, 4, 2), elements=st.integers(0, 8).map(lambda i: np.float32(i / 8)))


def two(p: np.ndarray) -> np.ndarray:
    """(B,) probability of class 1 -> (B, 2)."""
    return np.stack([1 - p, p], axis=1)


def brightness(x: np.ndarray) -> np.ndarray:
    """A classifier that is linear in the image: p(1) is its mean."""
    return two(x.mean(axis=(1, 2, 3)))


def constant(x: np.ndarray) -> np.ndarray:
    return two(np.full(len(x), 0.8))


def black_and_white(pixels: int, side: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """A black image, and the same with its first pixels white."""
    source = np.zeros((1, side, side, 1), np.float32)
    cf = source.copy()
    cf.reshape(-1)[:pixels] = 1
    return source, cf


def test_a_linear_classifier_draws_a_straight_line_and_scores_0() -> None:
    result = cout(*black_and_white(16), brightness, target=1, steps=16)
    assert result.fractions == pytest.approx(np.arange(17) / 16)
    assert result.target[0] == pytest.approx(result.fractions)
    assert result.original[0] == pytest.approx(1 - result.fractions)
    assert result.scores == pytest.approx([0])


def test_a_classifier_that_goes_by_the_changed_quarter_scores_three_quarters() -> None:
    # p(1) rises to 1 over the first quarter: AUPC(target) = 1/8 + 3/4, AUPC(original) = 1/8.
    result = cout(*black_and_white(4), lambda x: two(4 * x.mean(axis=(1, 2, 3))), target=1, steps=16)
    assert result.scores == pytest.approx([0.75])


def test_curvature_of_the_classifier_is_in_the_area() -> None:
    # p(1) = f^2: the trapezoids of n steps have the area 1/3 + 1/(6 n^2), so COUT = 2 (1/3 + 1/(6 n^2)) - 1.
    for steps in (2, 4, 16):
        result = cout(*black_and_white(16), lambda x: two(x.mean(axis=(1, 2, 3)) ** 2), target=1, steps=steps)
        assert result.scores == pytest.approx([2 * (1 / 3 + 1 / (6 * steps**2)) - 1])


@pytest.mark.parametrize(("p", "target", "score"), [(0.8, 1, 0.6), (0.8, 0, -0.6), (1.0, 1, 1), (1.0, 0, -1)])
def test_a_constant_classifier_scores_the_difference_of_its_two_probabilities(
    p: float, target: int, score: float
) -> None:
    result = cout(*black_and_white(3), lambda x: two(np.full(len(x), p)), target, steps=5)
    assert result.scores == pytest.approx([score])


def test_an_image_that_did_not_change_keeps_its_probabilities() -> None:
    x = np.full((1, 3, 3, 1), 0.25, np.float32)
    result = cout(x, x, brightness, target=1, steps=4)
    assert result.target == pytest.approx(0.25) and result.scores == pytest.approx([-0.5])


def test_the_most_changed_pixels_come_first_and_ties_by_index() -> None:
    source = np.zeros((1, 1, 4, 1), np.float32)
    cf = np.array([0.25, 0.75, 0.25, -0.5], np.float32).reshape(source.shape)
    seen: list[np.ndarray] = []

    def watch(x: np.ndarray) -> np.ndarray:
        seen.append(x.copy())
        return constant(x)

    cout(source, cf, watch, target=1, steps=4, original=0)
    arrived = [int(np.flatnonzero((b - a).ravel())[0]) for a, b in pairwise(seen)]
    assert arrived == [1, 3, 0, 2]
    assert (seen[0] == source).all() and (seen[-1] == cf).all() and seen[0].dtype == np.float32


def test_equal_changes_arrive_row_by_row_in_large_images_too() -> None:
    source, _ = black_and_white(0, side=40)
    change = np.random.default_rng(0).integers(1, 4, 1600)
    expected = sorted(range(1600), key=lambda i: (-change[i], i))
    seen: list[np.ndarray] = []

    def watch(x: np.ndarray) -> np.ndarray:
        seen.append(np.flatnonzero(x))
        return constant(x)

    cout(source, (change / 4).reshape(source.shape), watch, target=1, steps=10, original=0)
    assert all(arrived.tolist() == sorted(expected[: len(arrived)]) for arrived in seen)
    assert [len(arrived) for arrived in seen] == list(range(0, 1601, 160))


def test_equal_changes_of_stored_values_are_ties_in_spite_of_rounding() -> None:
    grey = np.arange(252, dtype=np.float32)
    source = (grey / np.float64(255)).astype(np.float32).reshape(1, 1, -1, 1)
    cf = ((grey + 3) / np.float64(255)).astype(np.float32).reshape(source.shape)
    assert len(np.unique(importance(source, cf))) == 1


def test_steps_that_do_not_divide_the_pixels_give_the_fractions_that_were_reached() -> None:
    result = cout(*black_and_white(9, side=3), brightness, target=1, steps=4)
    assert result.fractions == pytest.approx(np.array([0, 2, 5, 7, 9]) / 9)
    assert result.target[0] == pytest.approx(result.fractions) and result.scores == pytest.approx([0], abs=1e-7)


def test_more_steps_than_pixels_change_nothing() -> None:
    source, cf = black_and_white(4, side=2)
    few, many = (
        cout(source, cf, lambda x: two(x.mean(axis=(1, 2, 3)) ** 2), target=1, steps=steps) for steps in (4, 50)
    )
    assert many.scores == pytest.approx(few.scores) and many.target.shape == (1, 51)


def test_each_image_has_its_own_target() -> None:
    source, cf = black_and_white(16)
    both = cout(np.concatenate([source, cf]), np.concatenate([cf, source]), brightness, np.array([1, 0]), steps=8)
    assert both.target[0] == pytest.approx(both.target[1])


def test_with_more_classes_the_original_one_is_the_likeliest_that_is_not_the_target() -> None:
    def predict(x: np.ndarray) -> np.ndarray:
        return np.tile([0.1, 0.5, 0.4], (len(x), 1))

    source, cf = black_and_white(2)
    assert cout(source, cf, predict, target=1, steps=2).scores == pytest.approx([0.1])
    assert cout(source, cf, predict, target=0, steps=2).scores == pytest.approx([-0.4])
    assert cout(source, cf, predict, target=0, steps=2, original=2).scores == pytest.approx([-0.3])


def test_the_areas_are_scikit_learns() -> None:
    source, cf = np.random.default_rng(0).random((2, 1, 7, 7, 1))
    result = cout(source, cf, brightness, target=1, steps=10)
    peer = auc(result.fractions, result.target[0]) - auc(result.fractions, result.original[0])
    assert result.scores == pytest.approx([peer])


@given(images, images, st.integers(1, 12))
def test_cout_is_in_range_and_a_relabelling_changes_its_sign(source: np.ndarray, cf: np.ndarray, steps: int) -> None:
    result = cout(source, cf, brightness, 1, steps, original=0)
    assert (np.abs(result.scores) <= 1).all()
    assert cout(source, cf, brightness, 0, steps, original=1).scores == pytest.approx(-result.scores)
    assert result.target[:, 0] == pytest.approx(brightness(source)[:, 1])
    assert result.target[:, -1] == pytest.approx(brightness(cf)[:, 1])


def spot() -> tuple[np.ndarray, np.ndarray]:
    """A black image with a white quarter in the corner, and a map that marks the quarter."""
    source = np.zeros((1, 8, 8, 1), np.float32)
    source[:, :4, :4] = 1
    return source, source[..., 0]


def quarter(x: np.ndarray) -> np.ndarray:
    """p(1) is the mean of the corner quarter."""
    return two(x[:, :4, :4].mean(axis=(1, 2, 3)))


def test_deletion_to_the_mean_falls_as_computed_by_hand() -> None:
    # The mean is 1/4: p falls from 1 to 1/4 over the first quarter of the pixels, and stays.
    result = deletion(*spot(), quarter, label=1, steps=16, baseline="mean")
    assert result.curve[0, [0, 4, 16]] == pytest.approx([1, 0.25, 0.25])
    assert result.scores == pytest.approx([(1 + 0.25) / 2 / 4 + 0.25 * 3 / 4])


def test_insertion_from_the_mean_rises_as_computed_by_hand() -> None:
    result = insertion(*spot(), quarter, label=1, steps=16, baseline="mean")
    assert result.curve[0, [0, 4, 16]] == pytest.approx([0.25, 1, 1])
    assert result.scores == pytest.approx([(1 + 0.25) / 2 / 4 + 3 / 4])


@pytest.mark.parametrize("baseline", ["blur", "mean"])
def test_a_map_of_what_matters_beats_its_opposite(baseline: str) -> None:
    source, right = spot()
    wrong = 1 - right
    gone, kept = (deletion(source, m, quarter, 1, baseline=baseline).scores for m in (right, wrong))
    back, late = (insertion(source, m, quarter, 1, baseline=baseline).scores for m in (right, wrong))
    assert gone < kept and back > late


@pytest.mark.parametrize("baseline", ["blur", "mean"])
def test_a_flat_image_has_nothing_to_delete(baseline: str) -> None:
    flat = np.full((2, 6, 6, 3), 0.3, np.float32)
    scores = np.random.default_rng(0).random((2, 6, 6))
    assert deletion(flat, scores, brightness, 1, baseline=baseline).curve == pytest.approx(0.3)
    assert insertion(flat, scores, brightness, 1, baseline=baseline).scores == pytest.approx(0.3)


def test_deletion_ends_where_insertion_begins() -> None:
    source = np.random.default_rng(1).random((2, 9, 9, 3)).astype(np.float32)
    scores = np.random.default_rng(2).random((2, 9, 9))
    gone, back = deletion(source, scores, brightness, 0), insertion(source, scores, brightness, 0)
    assert gone.curve[:, -1] == pytest.approx(back.curve[:, 0])
    assert gone.curve[:, 0] == pytest.approx(back.curve[:, -1])


def test_the_blur_keeps_channels_apart_and_flattens_the_image() -> None:
    source = np.random.default_rng(3).random((1, 32, 32, 2))
    source[..., 1] = 0.25
    blurred = substitute(source)
    assert blurred[..., 1] == pytest.approx(0.25) and blurred[..., 0].std() < 0.2 * source[..., 0].std()
