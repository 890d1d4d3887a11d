from __future__ import annotations

import torch

from cfdiff.engine import NoiseSchedule, l_simple, q_sample


def test_the_loss_is_the_mean_square_over_the_pixels_of_each_sample(schedule: NoiseSchedule) -> None:
    x0, noise = torch.randn(2, 3, 1, 2, 2)
    levels = torch.tensor([1, 50, 200])
    seen = []

    def denoise(x, levels):
        seen.append((x, levels))
        return torch.zeros_like(x)

    loss = l_simple(schedule, denoise, x0, levels, noise)
    torch.testing.assert_close(loss, noise.square().mean((1, 2, 3)))
    assert torch.equal(seen[0][0], q_sample(schedule, x0, levels, noise))
    assert torch.equal(seen[0][1], levels)


def test_the_exact_noise_has_no_loss(schedule: NoiseSchedule) -> None:
    x0, noise = torch.randn(2, 3, 1, 2, 2)
    assert l_simple(schedule, lambda x, levels: noise, x0, torch.tensor([1, 2, 3]), noise).tolist() == [
        0,
        0,
        0,
    ]


def test_weights_multiply_the_loss_of_their_level(schedule: NoiseSchedule) -> None:
    x0, noise = torch.randn(2, 3, 1, 2, 2)
    levels = torch.tensor([1, 50, 200])
    weights = torch.arange(201).double()
    plain = l_simple(schedule, lambda x, levels: 0 * x, x0, levels, noise)
    weighted = l_simple(schedule, lambda x, levels: 0 * x, x0, levels, noise, weights)
    torch.testing.assert_close(weighted, plain * levels)


def test_the_loss_has_a_gradient_for_the_network(schedule: NoiseSchedule) -> None:
    x0, noise = torch.randn(2, 3, 1, 2, 2)
    w = torch.tensor(0.5, requires_grad=True)
    l_simple(schedule, lambda x, levels: w * x, x0, torch.tensor([1, 50, 200]), noise).mean().backward()
    assert w.grad is not None and w.grad != 0


def test_the_best_constant_factor_of_gaussian_data_is_the_exact_eps(gaussian) -> None:
    """L_simple is minimal at E[eps | x], and there it is the posterior variance of eps, ab s^2 / v."""
    x0, noise = gaussian.sample(20_000), torch.randn(20_000, 1, 2, 2)
    signal, v = gaussian.moments(100)
    levels = torch.full((20_000,), 100)
    loss = l_simple(gaussian.schedule, lambda x, _: gaussian.eps(x, 100), x0, levels, noise).mean()
    assert abs(float(loss) / (signal**2 * gaussian.std**2 / v) - 1) < 0.02
