from __future__ import annotations

import pytest
import torch

from cfdiff.engine import (
    NoiseSchedule,
    convert,
    ddpm_step,
    eps_from_x0,
    posterior,
    q_sample,
    x0_from_eps,
)

KINDS = ["eps", "x0", "mu", "v"]
LEVELS = torch.tensor([1, 2, 30, 100, 170, 200])


@pytest.fixture(scope="module")
def drawn() -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    x0 = torch.rand((6, 1, 2, 2), generator=g, dtype=torch.float64) * 2 - 1
    return x0, torch.randn((6, 1, 2, 2), generator=g, dtype=torch.float64)


def test_level_0_is_the_clean_image_bit_for_bit(schedule: NoiseSchedule) -> None:
    x0, eps = torch.randn(2, 3, 1, 2, 2)
    assert torch.equal(q_sample(schedule, x0, 0, eps), x0)
    assert torch.equal(x0_from_eps(schedule, x0, 0, eps), x0)


def test_one_level_per_sample_gives_what_each_level_gives(schedule: NoiseSchedule, drawn) -> None:
    x0, eps = drawn
    together = q_sample(schedule, x0, LEVELS, eps)
    alone = [q_sample(schedule, x0[i : i + 1], int(level), eps[i : i + 1]) for i, level in enumerate(LEVELS)]
    assert torch.equal(together, torch.cat(alone))


def test_x0_and_eps_are_inverse(schedule: NoiseSchedule, drawn) -> None:
    x0, eps = drawn
    x = q_sample(schedule, x0, LEVELS, eps)
    torch.testing.assert_close(x0_from_eps(schedule, x, LEVELS, eps), x0, atol=1e-9, rtol=0)
    torch.testing.assert_close(eps_from_x0(schedule, x, LEVELS, x0), eps, atol=1e-9, rtol=0)


def test_the_posterior_is_bayes_rule(schedule: NoiseSchedule, drawn) -> None:
    """q(x_{l-1} | x_l, x_0) ~ q(x_l | x_{l-1}) q(x_{l-1} | x_0), a product of two Gaussians."""
    x0, x = drawn
    for level in (2, 50, 200):
        beta, ab = float(schedule.betas[level - 1]), float(schedule.alpha_bar[level - 1])
        precision = (1 - beta) / beta + 1 / (1 - ab)
        mean = ((1 - beta) ** 0.5 / beta * x + ab**0.5 / (1 - ab) * x0) / precision
        mu, variance = posterior(schedule, x0, x, level)
        torch.testing.assert_close(mu, mean, atol=1e-12, rtol=1e-12)
        assert float(variance) == pytest.approx(1 / precision, rel=1e-12)


def test_the_posterior_of_the_first_level_is_the_image_itself(schedule: NoiseSchedule, drawn) -> None:
    x0, x = drawn
    mu, variance = posterior(schedule, x0, x, 1)
    torch.testing.assert_close(mu, x0, atol=1e-12, rtol=0)
    assert float(variance) == 0


@pytest.mark.parametrize("from_", KINDS)
@pytest.mark.parametrize("to", KINDS)
def test_every_parametrisation_converts_into_every_other(schedule: NoiseSchedule, drawn, from_, to) -> None:
    x0, eps = drawn
    x = q_sample(schedule, x0, LEVELS, eps)
    signal, noise = schedule.signal_noise(LEVELS, x)
    truth = {
        "eps": eps,
        "x0": x0,
        "v": signal * eps - noise * x0,
        "mu": posterior(schedule, x0, x, LEVELS)[0],
    }
    torch.testing.assert_close(convert(schedule, x, LEVELS, truth[from_], from_, to), truth[to], atol=1e-8, rtol=0)


def test_mu_in_eps_is_equation_11_of_ddpm(schedule: NoiseSchedule, drawn) -> None:
    x, eps = drawn
    for level in (1, 2, 100, 200):
        beta, ab = float(schedule.betas[level - 1]), float(schedule.alpha_bar[level])
        mu = (x - beta / (1 - ab) ** 0.5 * eps) / (1 - beta) ** 0.5
        torch.testing.assert_close(convert(schedule, x, level, eps, "eps", "mu"), mu, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_all_parametrisations_take_the_same_step(schedule: NoiseSchedule, drawn, kind) -> None:
    x, eps = (t.float() for t in drawn)
    for level in (2, 60, 150):
        value = convert(schedule, x, level, eps, "eps", kind)
        eps_again = convert(schedule, x, level, value, kind, "eps")
        step = ddpm_step(schedule, x, eps_again, level, level - 1, noise=torch.zeros_like(x))
        mu = convert(schedule, x, level, eps, "eps", "mu")
        torch.testing.assert_close(step, mu, atol=1e-5, rtol=1e-5)
