from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.image.fid import FrechetInceptionDistance

from cfdiff.metrics.realism import against_real, cosine_similarity, fid, kid, real_against_real, sfid


def normal(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def whitened(n: int, d: int) -> np.ndarray:
    """Features with mean exactly 0 and covariance exactly 1."""
    x = normal(n, d)
    u, _, vt = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    return np.sqrt(n - 1) * u @ vt


def torchmetrics_fid(a: np.ndarray, b: np.ndarray) -> float:
    network = torch.nn.Identity()
    network.num_features = a.shape[1]  # type: ignore[assignment]
    metric = FrechetInceptionDistance(feature=network).set_dtype(torch.float64)
    for x, real in ((a, True), (b, False)):
        metric.update(torch.from_numpy(x), real=real)  # type: ignore[operator]
    return float(metric.compute())  # type: ignore[operator]


def test_the_fid_of_two_gaussians_is_the_closed_form() -> None:
    # Means m apart and covariances s^2 and t^2 along the same axes: |m|^2 + sum (s - t)^2.
    x, m = whitened(60, 4), np.array([1.0, -2.0, 0.5, 0.0])
    s, t = np.array([1.0, 2.0, 0.1, 3.0]), np.array([2.0, 2.0, 1.1, 0.0])
    assert fid(x * s, x * t + m) == pytest.approx((m**2).sum() + ((s - t) ** 2).sum())


def test_the_fid_of_rotated_covariances_is_the_closed_form() -> None:
    # diag(9, 1) and itself turned by 90 degrees commute: the root of the product is 3 I, so Tr = 10 + 10 - 2 * 6.
    x = whitened(50, 2) * [3.0, 1.0]
    assert fid(x, x[:, ::-1]) == pytest.approx(8)


@pytest.mark.parametrize(("n", "m", "d"), [(400, 300, 6), (7, 40, 12), (5, 4, 30)])
def test_the_fid_is_torchmetrics(n: int, m: int, d: int) -> None:
    a, b = np.maximum(normal(n, d), 0), np.maximum(1.3 * normal(m, d, 1), 0) + 0.2
    assert fid(a, b) == pytest.approx(torchmetrics_fid(a, b), abs=1e-5)


def test_the_fid_of_a_set_with_itself_in_another_order_is_0() -> None:
    for shape in ((50, 8), (8, 50)):
        x = normal(*shape) + 100
        assert fid(x, x[::-1]) == pytest.approx(0, abs=1e-9)


@given(st.integers(2, 12), st.integers(2, 12), st.integers(1, 8), st.floats(-50, 50))
def test_the_fid_is_symmetric_never_negative_and_blind_to_a_common_shift(n: int, m: int, d: int, shift: float) -> None:
    a, b = normal(n, d), normal(m, d, 1) * 2
    value = fid(a, b)
    assert value >= 0 and fid(b, a) == pytest.approx(value)
    assert fid(a + shift, b + shift) == pytest.approx(value, abs=1e-7)


def test_few_images_make_the_fid_of_one_distribution_large() -> None:
    few, many = (fid(normal(n, 16), normal(n, 16, 1)) for n in (20, 2000))
    assert few > 10 * many


def test_kid_over_all_images_is_the_closed_form() -> None:
    # One dimension: k(x, y) = (x y + 1)^3, the unbiased sums written out.
    a, b = np.array([[0.0], [1.0], [2.0]]), np.array([[1.0], [3.0], [0.5]])

    def k(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T + 1) ** 3

    within = sum((k(x, x).sum() - np.trace(k(x, x))) / 6 for x in (a, b))
    mean, std = kid(a, b, subsets=3, subset_size=3)
    assert mean == pytest.approx(within - 2 * k(a, b).mean()) and std == pytest.approx(0, abs=1e-12)


def test_kid_is_about_0_for_one_distribution_and_grows_with_the_distance() -> None:
    a = normal(300, 8)
    same, near, far = (kid(a, normal(300, 8, 1) + shift)[0] for shift in (0.0, 0.3, 1.0))
    assert abs(same) < 0.02 < near < far


def test_kid_is_the_same_for_the_same_seed_and_leaves_torchs_generator_alone() -> None:
    a, b = normal(40, 3), normal(30, 3, 1)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    assert kid(a, b, seed=1) == kid(a, b, seed=1) != kid(a, b, seed=2)
    assert torch.equal(before, torch.random.get_rng_state())
    assert kid(a, b)[1] > 0


def test_a_paired_counterfactual_never_meets_its_own_source() -> None:
    rows = np.arange(20.0)[:, None]
    met: list[tuple[set[float], set[float]]] = []

    def metric(real: np.ndarray, cf: np.ndarray) -> float:
        met.append((set(real.ravel()), set(cf.ravel())))
        return float(len(met))

    result = sfid(rows, rows, repeats=2, paired=True, metric=metric)
    assert all(len(a) == len(b) == 10 and not a & b for a, b in met)
    assert met[0] == met[1][::-1] and met[0] != met[2]
    # The figure of a repeat is the mean of its two crossings: (1.5, 3.5).
    assert (result.mean, result.std, result.n) == (2.5, 1.0, 10)


def test_sfid_of_unequal_sets_takes_equal_halves_of_the_smaller() -> None:
    shapes: list[tuple[int, int]] = []

    def metric(real: np.ndarray, cf: np.ndarray) -> float:
        shapes.append((len(real), len(cf)))
        return 0.0

    assert sfid(normal(50, 2), normal(21, 2), repeats=3, metric=metric).n == 10
    assert shapes == [(10, 10)] * 6


def test_copies_of_the_sources_look_perfect_to_fid_and_like_real_images_to_sfid() -> None:
    # The bias that sFID was made for: a counterfactual that changes nothing has FID 0 against its own sources.
    real = normal(60, 10)
    assert fid(real, real) == pytest.approx(0, abs=1e-9)
    assert sfid(real, real, paired=True).mean == pytest.approx(real_against_real(real).mean, rel=0.15)


def test_real_against_real_draws_disjoint_sets_of_n() -> None:
    def metric(a: np.ndarray, b: np.ndarray) -> float:
        assert len(a) == len(b) and not set(a.ravel()) & set(b.ravel())
        return float(len(a))

    rows = np.arange(31.0)[:, None]
    assert real_against_real(rows, metric=metric) == (15, 0, 15)
    assert real_against_real(rows, n=4, metric=metric) == (4, 0, 4)


def test_counterfactuals_and_real_images_are_measured_against_the_same_real_images() -> None:
    real, cf = np.arange(30.0)[:, None], 100 + np.arange(12.0)[:, None]
    sides: list[np.ndarray] = []

    def metric(a: np.ndarray, b: np.ndarray) -> float:
        sides.append(a)
        return float(b.min() >= 100)

    by_cf = against_real(real, cf, repeats=3, metric=metric)
    by_real = real_against_real(real, n=by_cf.n, repeats=3, metric=metric)
    assert (by_cf.mean, by_real.mean, by_cf.n) == (1, 0, 12)
    assert all((a == b).all() for a, b in zip(sides[:3], sides[3:], strict=True))


def test_images_of_another_distribution_are_farther_than_real_ones() -> None:
    real, cf = normal(200, 6), normal(80, 6, 1) + 0.5
    near, far = real_against_real(real, n=80), against_real(real, cf)
    assert far.n == near.n == 80 and far.mean > near.mean + 1


def test_cosine_similarity_knows_equal_orthogonal_and_opposite_features() -> None:
    a = np.array([[1.0, 2.0], [1, 0], [3, 4], [0, 0], [1, 0]])
    b = np.array([[2.0, 4.0], [0, 5], [-3, -4], [1, 1], [1, 1]])
    assert cosine_similarity(a, b) == pytest.approx([1, 0, -1, 0, np.sqrt(0.5)])


def test_cosine_similarity_of_shuffled_features_falls() -> None:
    a = normal(50, 20)
    assert cosine_similarity(a, a) == pytest.approx(1)
    assert cosine_similarity(a, np.roll(a, 1, axis=0)).mean() < 0.3
