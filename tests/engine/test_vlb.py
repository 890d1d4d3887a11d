from __future__ import annotations

import math

import pytest
import torch

from cfdiff.engine import NoiseSchedule, NoiseSource, discretised_log_likelihood, prior_term, vlb, vlb_term

LN_2 = math.log(2)


def ids(n: int) -> list[str]:
    return [str(i) for i in range(n)]


def batch_denoiser(toy):
    """Our toy takes one level; a training network takes one per sample, here all the same."""
    return lambda x, levels: toy.eps(x, int(levels[0]))


def kl(mean_q, var_q: float, mean_p, var_p: float):
    """KL(N(mean_q, var_q) || N(mean_p, var_p)), elementwise."""
    return 0.5 * (math.log(var_p / var_q) + var_q / var_p - 1 + (mean_q - mean_p) ** 2 / var_p)


@pytest.mark.parametrize("bins", [256, 65536])
@pytest.mark.parametrize("std", [1e-3, 0.02, 3.0])
def test_the_discretised_gaussian_sums_to_one_over_the_bins(bins: int, std: float) -> None:
    x0 = torch.linspace(-1, 1, bins, dtype=torch.float64)
    for mean in (-1.2, 0.0, 0.37):
        log_p = discretised_log_likelihood(x0, torch.full_like(x0, mean), std, bins).double()
        assert float(log_p.logsumexp(0)) == pytest.approx(0, abs=1e-5)


def test_the_discretised_gaussian_is_finite_far_out_in_the_tail() -> None:
    x0, mean = torch.tensor([-1.0, 1.0, 0.5]), torch.tensor([5.0, -5.0, -3.0])
    log_p = discretised_log_likelihood(x0, mean, 0.01)
    assert torch.isfinite(log_p).all() and (log_p < -1000).all()


def test_a_level_above_1_is_the_kl_of_two_gaussians(gaussian) -> None:
    """L_{l-1} against the posterior and the reverse step, written out from their means and variances."""
    schedule = gaussian.schedule
    x0, noise = gaussian.sample(5).double(), torch.randn(5, 1, 2, 2, dtype=torch.float64)
    for level in (2, 50, 200):
        beta, ab = float(schedule.betas[level - 1]), float(schedule.alpha_bar[level])
        ab_before = float(schedule.alpha_bar[level - 1])
        beta_tilde = beta * (1 - ab_before) / (1 - ab)
        x = math.sqrt(ab) * x0 + math.sqrt(1 - ab) * noise
        root_a = math.sqrt(1 - beta)
        mu_q = (x - beta / math.sqrt(1 - ab) * noise) / root_a
        mu_p = (x - beta / math.sqrt(1 - ab) * gaussian.eps(x, level)) / root_a
        for variance, s2 in (("beta", beta), ("beta_tilde", beta_tilde)):
            exact = kl(mu_q, beta_tilde, mu_p, s2).mean((1, 2, 3)) / LN_2
            term = vlb_term(schedule, batch_denoiser(gaussian), x0, level, noise, variance)
            torch.testing.assert_close(term, exact, atol=1e-9, rtol=1e-7)


def test_the_prior_term_is_the_kl_to_the_standard_normal(gaussian) -> None:
    schedule = NoiseSchedule.from_betas([0.1, 0.2, 0.3])
    x0, ab = gaussian.sample(4), float(schedule.alpha_bar[-1])
    exact = kl(math.sqrt(ab) * x0, 1 - ab, 0, 1).mean((1, 2, 3)) / LN_2
    torch.testing.assert_close(prior_term(schedule, x0), exact)


def test_every_term_averages_to_its_closed_form_for_gaussian_data(gaussian) -> None:
    """With the exact network E||eps - eps_theta||^2 = ab s^2 / v, so each E[L_{l-1}] is a number."""
    n, schedule = 4000, gaussian.schedule
    x0 = gaussian.sample(n)
    for level in (2, 60, 180):
        beta, ab = float(schedule.betas[level - 1]), float(schedule.alpha_bar[level])
        r = (1 - float(schedule.alpha_bar[level - 1])) / (1 - ab)
        signal, v = gaussian.moments(level)
        error = signal**2 * gaussian.std**2 / v
        exact = 0.5 * (r - 1 - math.log(r)) + beta / (2 * (1 - beta) * (1 - ab)) * error
        noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(level))
        term = vlb_term(schedule, batch_denoiser(gaussian), x0, level, noise).mean()
        assert float(term) * LN_2 == pytest.approx(exact, rel=0.03)


def closed_form_bound(toy) -> float:
    """E[L_T + sum L_{l-1} + L_0] in bits/dim for Gaussian data and its exact network, s^2 = beta."""
    ab, beta = toy.schedule.alpha_bar, toy.schedule.betas
    v = ab * toy.std**2 + 1 - ab
    r = (1 - ab[1:-1]) / (1 - ab[2:])  # beta~ / beta of levels 2..T
    error = (ab * toy.std**2 / v)[2:]
    kls = (r - 1 - r.log()) / 2 + beta[1:] / (2 * (1 - beta[1:]) * (1 - ab[2:])) * error
    square = float(toy.mean.square().mean()) + toy.std**2
    prior = (ab[-1] * (square - 1) - torch.log1p(-ab[-1])) / 2
    posterior = toy.std**2 * (1 - ab[1]) / v[1]  # Var(x_0 | x_1)
    decoder = (math.log(2 * math.pi) + beta[0].log() + posterior / beta[0]) / 2 - math.log(2 / 255)
    return float(prior + kls.sum() + decoder) / LN_2


def test_the_bound_of_a_gaussian_is_its_closed_form_and_nears_its_entropy_from_above(gaussian) -> None:
    """The entropy of the bins is the differential entropy less log2 of their width."""
    toys = [type(gaussian)(NoiseSchedule.cosine(T), gaussian.mean, 0.08) for T in (200, 1000, 4000)]
    entropy = 0.5 * math.log2(2 * math.pi * math.e * 0.08**2) - math.log2(2 / 255)
    gaps = [closed_form_bound(toy) - entropy for toy in toys]
    assert gaps[0] > gaps[1] > gaps[2] > 0 and gaps[2] < 0.01

    x0 = (toys[0].sample(1000) * 127.5 + 127.5).round() / 127.5 - 1
    bound = vlb(toys[0].schedule, batch_denoiser(toys[0]), x0, NoiseSource(0, ids(1000))).total
    error_of_mean = float(bound.std()) / math.sqrt(1000)
    assert error_of_mean < 0.03
    assert float(bound.mean()) == pytest.approx(closed_form_bound(toys[0]), abs=3 * error_of_mean)


def test_the_total_is_the_sum_of_its_terms(gaussian) -> None:
    schedule = gaussian.schedule
    bound = vlb(schedule, batch_denoiser(gaussian), gaussian.sample(3), NoiseSource(0, ids(3)))
    assert bound.levels == list(range(1, schedule.T + 1))
    assert bound.terms.shape == (3, schedule.T)
    torch.testing.assert_close(bound.total, bound.prior + bound.terms.sum(1), atol=1e-4, rtol=1e-5)


def test_given_levels_estimate_the_sum_without_bias(gaussian) -> None:
    """Every level once, in four parts: the mean of the estimates is the sum."""
    schedule, x0 = gaussian.schedule, gaussian.sample(200)
    exact = vlb(schedule, batch_denoiser(gaussian), x0, NoiseSource(0, ids(200))).total.mean()
    parts = [list(range(1 + i, schedule.T + 1, 4)) for i in range(4)]
    estimates = [vlb(schedule, batch_denoiser(gaussian), x0, NoiseSource(1, ids(200)), part) for part in parts]
    estimate = sum(e.total.mean() for e in estimates) / 4
    assert float(estimate) == pytest.approx(float(exact), rel=0.02)


def test_the_bound_does_not_depend_on_the_batch(gaussian) -> None:
    x0, levels = gaussian.sample(6), [1, 2, 70, 200]
    together = vlb(gaussian.schedule, batch_denoiser(gaussian), x0, NoiseSource(0, ids(6)), levels).total
    alone = [
        vlb(gaussian.schedule, batch_denoiser(gaussian), x0[i : i + 1], NoiseSource(0, [str(i)]), levels).total
        for i in range(6)
    ]
    torch.testing.assert_close(together, torch.cat(alone))


@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
def test_both_variances_give_a_finite_bound_down_to_one_level(variance) -> None:
    for T in (1, 2, 10):
        schedule = NoiseSchedule.linear(T)
        x0 = torch.rand(2, 1, 2, 2) * 2 - 1
        bound = vlb(schedule, lambda x, levels: 0 * x, x0, NoiseSource(0, ids(2)), variance=variance)
        assert torch.isfinite(bound.total).all()
