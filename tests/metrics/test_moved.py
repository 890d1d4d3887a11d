from __future__ import annotations

import numpy as np
import pytest

from cfdiff.metrics.moved import Moved, moved
from cfdiff.metrics.realism import kid

SHIFT = 1.5


def normal(n: int, seed: int, d: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def test_no_change_is_no_way_and_real_images_are_the_whole_way() -> None:
    source, real = normal(200, 0), normal(400, 1) + SHIFT
    still = moved(source, real, source)
    assert still.value == 0 and still.n == 200
    for there in (normal(200, 2) + SHIFT, None):
        assert moved(source, real, there).value == pytest.approx(1, abs=0.03)


def test_the_way_grows_with_the_edit_and_is_negative_the_other_way() -> None:
    source, real = normal(100, 0), normal(200, 1) + SHIFT
    ways = [moved(source, real, source + share * SHIFT).value for share in (-0.5, 0.25, 0.5, 0.75)]
    assert ways == sorted(ways) and ways[0] is not None and ways[0] < 0  # type: ignore[type-var]


def test_noise_does_not_move_a_set_towards_the_target() -> None:
    """A change in random directions, as large as the whole way."""
    source, real = normal(200, 0), normal(400, 1) + SHIFT
    noisy = moved(source, real, source + SHIFT * np.sign(normal(200, 3)))
    assert noisy.value is not None and noisy.value < 0.2


def test_it_is_the_ratio_of_two_kids_at_the_same_n() -> None:
    source, real, edited = normal(20, 0), normal(40, 1) + SHIFT, normal(20, 2) + 1
    target = real[np.random.default_rng([0, 0]).permutation(40)[20:]]  # the draw of seed 0
    one, other = (kid(target, x, subsets=1, subset_size=20)[0] for x in (edited, source))
    assert moved(source, real, edited, repeats=1).value == pytest.approx(1 - one / other)


def test_both_figures_are_of_sets_of_one_size() -> None:
    source, real = normal(30, 0), normal(41, 1) + SHIFT
    assert moved(source, real, source).n == moved(source, real, None).n == 20
    assert moved(source[:9], real, source[:9]).n == moved(source[:9], real, None).n == 9


def test_leaving_a_group_out_is_what_the_figure_without_its_images_is() -> None:
    """The sums by group of the jackknife against the plain definition: its interval is centred and as wide."""
    source, real, edited = normal(24, 0), normal(48, 1) + 3, normal(24, 2) + 2
    names = list("abcdef")
    groups, real_groups = np.repeat(names, 4), np.tile(names, 8)
    found = moved(source, real, edited, groups=groups, real_groups=real_groups, repeats=1)
    order = np.random.default_rng([0, 0]).permutation(48)[24:]
    without = []
    for name in names:
        mine, target = groups != name, order[real_groups[order] != name]
        sides = source[mine], edited[mine], real[target]
        mean = [_mmd2(side, sides[2]) for side in sides[:2]]
        without.append(1 - mean[1] / mean[0])
    error = np.sqrt(5 / 6 * ((np.array(without) - np.mean(without)) ** 2).sum())
    assert found.interval is not None and found.over == "groups"
    half = (found.interval[1] - found.interval[0]) / 2
    assert half == pytest.approx(2.570582 * error, rel=1e-4), "Student's with five degrees of freedom"
    assert sum(found.interval) / 2 == pytest.approx(found.value)


def _mmd2(a: np.ndarray, b: np.ndarray) -> float:
    def k(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T / x.shape[1] + 1) ** 3

    def within(x: np.ndarray) -> float:
        return (k(x, x).sum() - np.trace(k(x, x))) / (len(x) * (len(x) - 1))

    return within(a) + within(b) - 2 * k(a, b).mean()


def test_images_of_groups_tell_less_than_as_many_of_their_own() -> None:
    rng = np.random.default_rng(4)
    groups = np.repeat(np.arange(8), 12).astype(str)
    offset = rng.normal(size=(8, 6))[groups.astype(int)]
    source, real = offset + normal(96, 0) / 2, offset + normal(96, 1) / 2 + SHIFT
    edited = source + 0.5 * SHIFT
    wide = moved(source, real, edited, groups=groups, real_groups=groups).interval
    narrow = moved(source, real, edited).interval
    assert wide is not None and narrow is not None and wide[1] - wide[0] > narrow[1] - narrow[0]


def test_its_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    truth, hits, runs = _figure(2000, 1, seed=99).value, 0, 60
    assert truth is not None
    for seed in range(runs):
        interval = _figure(12, 8, seed=seed).interval
        hits += interval is not None and interval[0] <= truth <= interval[1]
    assert hits >= 0.85 * runs


def _figure(groups: int, size: int, seed: int) -> Moved:
    """Sets of patients who look alike (ICC 0.3), edited six tenths of the way."""
    rng = np.random.default_rng([seed, groups])
    names = np.repeat(np.arange(groups), size)
    offset = np.sqrt(0.3) * rng.normal(size=(groups, 6))[names]
    source, real = (offset + np.sqrt(0.7) * rng.normal(size=(len(names), 6)) for _ in range(2))
    real += 0.8
    g = names.astype(str)
    return moved(source, real, source + 0.6 * 0.8, groups=g, real_groups=g, repeats=4)


def test_classes_that_the_features_cannot_tell_apart_have_no_interval() -> None:
    for seed in range(5):
        source, real = normal(40, 2 * seed), normal(80, 2 * seed + 1)
        assert moved(source, real, source + 0.1).interval is None


def test_too_few_images_are_no_sets() -> None:
    assert moved(normal(1, 0), normal(8, 1), normal(1, 2))[:3] == (None, None, 1)
