from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cfdiff.engine import count_gradient, count_log_pmf, count_posterior, free_count, wanted_count
from cfdiff.errors import UserError

BAGS = st.lists(st.floats(-30, 30), min_size=1, max_size=12)  # 2^12 labellings can be summed


def brute_force(logits: Tensor) -> tuple[Tensor, Tensor]:
    """P(K = k) for k = 0..n, and P(y_i = 1, K = k) as (n + 1, n), by summing over all 2^n labellings."""
    n = len(logits)
    y = torch.tensor(list(itertools.product([0.0, 1.0], repeat=n)), dtype=torch.float64)
    log_p = torch.nn.functional.logsigmoid(logits) * y + torch.nn.functional.logsigmoid(-logits) * (1 - y)
    p = log_p.sum(1).exp()
    by_count = (y.sum(1)[None] == torch.arange(n + 1)[:, None]).double()
    return by_count @ p, by_count @ (p[:, None] * y)


@given(BAGS)
def test_the_count_is_that_of_all_labellings(logits: list[float]) -> None:
    x = torch.tensor(logits, dtype=torch.float64)
    pmf, joint = brute_force(x)
    torch.testing.assert_close(count_log_pmf(x).exp(), pmf, atol=1e-14, rtol=1e-10)
    for k in range(len(x) + 1):
        torch.testing.assert_close(count_posterior(x, k), joint[k] / pmf[k], atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(("n", "k"), [(1, 0), (1, 1), (9, 2), (30, 11), (30, 25), (101, 50)])
def test_the_gradient_is_the_finite_difference_to_1e_8(n: int, k: int) -> None:
    x = torch.randn(n, generator=torch.Generator().manual_seed(n), dtype=torch.float64) * 2
    h = 1e-4
    steps = h * torch.eye(n, dtype=torch.float64)

    def log_p(x: Tensor) -> float:
        return float(count_log_pmf(x)[k])

    numeric = [  # fourth order, so that neither h nor rounding shows at 1e-8
        (8 * (log_p(x + e) - log_p(x - e)) - (log_p(x + 2 * e) - log_p(x - 2 * e))) / (12 * h) for e in steps
    ]
    assert (count_gradient(x, k) - torch.tensor(numeric, dtype=torch.float64)).abs().max() < 1e-8


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=60), st.data())
def test_the_posterior_sums_to_the_count_and_keeps_the_order_of_the_logits(logits, data) -> None:
    x = torch.tensor(logits, dtype=torch.float64)
    k = data.draw(st.integers(0, len(x)))
    q = count_posterior(x, k)
    assert float(q.sum()) == pytest.approx(k, abs=1e-8)
    assert ((q >= 0) & (q <= 1)).all()
    assert (q[x.argsort()].diff() >= -1e-9).all()


def test_equal_logits_share_the_count_equally() -> None:
    torch.testing.assert_close(count_posterior(torch.full((40,), 0.7), 13), torch.full((40,), 13 / 40).double())


def test_the_log_pmf_of_equal_logits_is_the_binomial() -> None:
    n, p = 500, 0.3
    pmf = count_log_pmf(torch.full((n,), math.log(p / (1 - p)), dtype=torch.float64))
    for k in (0, 1, 150, 499, 500):
        exact = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        exact += k * math.log(p) + (n - k) * math.log(1 - p)
        assert float(pmf[k]) == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize("extreme", [40.0, 800.0, 1e6])
def test_certain_instances_stay_finite_and_the_surest_give_way_last(extreme: float) -> None:
    x = torch.tensor([-extreme, -extreme, extreme, extreme, 1.0, -2.0])
    for k in range(7):
        q = count_posterior(x, k)
        assert torch.isfinite(q).all()
        assert float(q.sum()) == pytest.approx(k, abs=1e-8)
    assert count_posterior(x, 4).round().tolist() == [0, 0, 1, 1, 1, 1]


def test_ten_thousand_instances_are_counted_to_float_precision() -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(10_000, generator=g, dtype=torch.float64) * 6
    k = 300
    q = count_posterior(x, k)
    assert float(q.sum()) == pytest.approx(k, abs=1e-6)
    assert torch.isfinite(count_gradient(x, k)).all()


def test_an_impossible_count_is_a_users_mistake() -> None:
    for k in (-1, 4):
        with pytest.raises(UserError, match="3 instances"):
            count_posterior(torch.zeros(3), k)


@pytest.mark.parametrize(
    ("n", "mix", "k"),
    [
        (10, 0, 0),
        (10, 1, 10),
        (10, 0.25, 3),
        (5, 0.3, 2),
        (7, 0.5, 4),
        (3, 0.1, 0),
        (0, 0.5, 0),
        (50, 0.29, 15),
        (9, 1e-05, 0),
    ],
)
def test_the_wanted_count_rounds_half_up(n: int, mix: float, k: int) -> None:
    assert wanted_count(n, mix) == k


@given(BAGS, st.lists(st.booleans(), max_size=6), st.data())
def test_frozen_instances_leave_n_and_subtract_from_k(logits, frozen, data) -> None:
    """Frozen labels are certain instances: the same posterior for the rest."""
    free = torch.tensor(logits, dtype=torch.float64).clamp(-5, 5)
    k = data.draw(st.integers(sum(frozen), sum(frozen) + len(free)))
    k_free = free_count(k, len(free), frozen)
    assert k_free == k - sum(frozen)
    certain = torch.tensor([200.0 if f else -200.0 for f in frozen], dtype=torch.float64)
    whole = count_posterior(torch.cat([free, certain]), k)
    torch.testing.assert_close(whole[: len(free)], count_posterior(free, k_free), atol=1e-9, rtol=0)


def test_a_count_out_of_reach_of_the_free_instances_becomes_the_nearest() -> None:
    assert free_count(2, 5, [True] * 4) == 0
    assert free_count(9, 5, [False] * 4) == 5
    assert free_count(4, 5, torch.tensor([True, False])) == 3
