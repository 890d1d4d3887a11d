from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cfdiff.engine import (
    Ddim,
    Ddpm,
    DpmSolver2M,
    Heun,
    NoiseSchedule,
    UniPC,
    ddim_step,
    ddpm_step,
    dpm_solver_2m_step,
    make_tau,
    x0_from_eps,
)
from cfdiff.errors import UserError


def sample(toy, solver, x: Tensor, tau: list[int], noise=torch.randn_like) -> Tensor:
    """The plain sampler, in the shortest form."""
    solver.reset()
    for a, b in zip(reversed(tau), reversed(tau[:-1]), strict=False):
        x = solver.step(toy.schedule, x, toy.eps(x, a), a, b, noise(x), toy.eps)
    return x


def errors_by_steps(toy, solver, steps: list[int], depth: float = 0.9) -> list[float]:
    """Mean |x_0 - exact flow| for each number of steps, of the same start."""
    top = toy.schedule.level_of(depth)
    x = torch.randn((64, 1, 2, 2), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exact = toy.flow(x, top, 0)
    taus = [make_tau(toy.schedule, depth, S, "logsnr") for S in steps]
    return [float((sample(toy, solver, x, tau) - exact).abs().mean()) for tau in taus]


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_the_last_step_lands_on_x0_hat_exactly(name: str) -> None:
    schedule = NoiseSchedule.from_config({"name": name, "T": 1000})
    x, eps = torch.randn(2, 4, 1, 2, 2)
    for a in (1, 17, 999):
        assert torch.equal(ddim_step(schedule, x, eps, a, 0), x0_from_eps(schedule, x, a, eps))
        assert torch.equal(ddim_step(schedule, x, eps, a, 0, eta=1), x0_from_eps(schedule, x, a, eps))


def test_a_ddim_step_up_and_down_with_the_same_eps_returns(schedule: NoiseSchedule) -> None:
    x, eps = torch.randn(2, 4, 1, 2, 2)
    for a, b in ((0, 1), (0, 100), (37, 150)):
        up = ddim_step(schedule, x, eps, a, b)
        torch.testing.assert_close(ddim_step(schedule, up, eps, b, a), x, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("a", "b"), [(200, 150), (100, 99), (2, 1), (60, 0)])
def test_ddim_with_eta_1_is_ddpm_with_the_posterior_variance(schedule: NoiseSchedule, a: int, b: int) -> None:
    x, eps, z = torch.randn(3, 4, 1, 2, 2, dtype=torch.float64)
    ddim = ddim_step(schedule, x, eps, a, b, eta=1, noise=z)
    torch.testing.assert_close(ddim, ddpm_step(schedule, x, eps, a, b, "beta_tilde", z), atol=1e-9, rtol=1e-9)


def test_the_first_step_of_2m_and_its_last_are_ddim(schedule: NoiseSchedule) -> None:
    x, eps = torch.randn(2, 4, 1, 2, 2, dtype=torch.float64)
    solver = DpmSolver2M()
    first = solver.step(schedule, x, eps, 100, 50)
    torch.testing.assert_close(first, ddim_step(schedule, x, eps, 100, 50))
    torch.testing.assert_close(solver.step(schedule, x, eps, 50, 0), x0_from_eps(schedule, x, 50, eps))


def test_2m_with_an_unchanging_x0_hat_is_first_order(schedule: NoiseSchedule) -> None:
    x, x0_hat = torch.randn(2, 4, 1, 2, 2, dtype=torch.float64)
    same = dpm_solver_2m_step(schedule, x, x0_hat, 80, 60, before=(100, x0_hat))
    torch.testing.assert_close(same, dpm_solver_2m_step(schedule, x, x0_hat, 80, 60))


def test_ddim_converges_to_the_exact_flow_of_a_gaussian_at_first_order(gaussian) -> None:
    errors = errors_by_steps(gaussian, Ddim(), [10, 20, 40, 80])
    assert all(1.5 < e / finer < 3 for e, finer in zip(errors, errors[1:], strict=False))
    assert errors[-1] < 0.02


def test_2m_converges_to_the_exact_flow_of_a_gaussian_faster_than_ddim(gaussian) -> None:
    ddim = errors_by_steps(gaussian, Ddim(), [10, 20, 40])
    second = errors_by_steps(gaussian, DpmSolver2M(), [10, 20, 40])
    assert all(b < a / 2 for a, b in zip(ddim, second, strict=True))
    assert second[0] / second[2] > 8


@pytest.mark.parametrize("solver", [Heun(), UniPC()], ids=["heun", "unipc"])
def test_heun_and_unipc_are_of_second_order(gaussian, solver) -> None:
    """Twice the steps, a quarter of the error (the last step, to level 0, is of first order and adds a little)."""
    first = errors_by_steps(gaussian, Ddim(), [10, 20, 40])
    second = errors_by_steps(gaussian, solver, [10, 20, 40])
    assert all(b < a / 2 for a, b in zip(first, second, strict=True))
    assert second[0] / second[2] > 8


@pytest.mark.parametrize(
    "solver", [Ddim(), Ddim(0.5), Ddim(1), Ddpm("beta"), Ddpm("beta_tilde"), DpmSolver2M(), Heun(), UniPC()]
)
def test_every_solver_samples_the_gaussians_marginal(gaussian, solver) -> None:
    g = torch.Generator().manual_seed(1)
    x_T = torch.randn((3000, 1, 2, 2), generator=g)
    tau = make_tau(gaussian.schedule, 1, gaussian.schedule.T)
    x_0 = sample(gaussian, solver, x_T, tau, lambda x: torch.randn(x.shape, generator=g))
    assert (x_0.mean(0) - gaussian.mean).abs().max() < 0.02
    assert (x_0.std(0) / gaussian.std - 1).abs().max() < 0.06


def test_ddim_samples_both_modes_of_a_mixture(mixture) -> None:
    x_T = torch.randn((4000, 1, 2, 2), generator=torch.Generator().manual_seed(1))
    x_0 = sample(mixture, Ddim(), x_T, make_tau(mixture.schedule, 1, 100))
    positive = mixture.clean_log_prob(x_0).argmax(1) == 1
    assert abs(float(positive.float().mean()) - 0.5) < 0.03
    for part, chosen in ((mixture.positive, positive), (mixture.negative, ~positive)):
        assert (x_0[chosen].mean(0) - part.mean).abs().max() < 0.02
        assert (x_0[chosen].std(0) / part.std - 1).abs().max() < 0.08


def test_reset_forgets_the_step_before(schedule: NoiseSchedule) -> None:
    x, eps = torch.randn(2, 4, 1, 2, 2)
    solver = DpmSolver2M()
    fresh = solver.step(schedule, x, eps, 80, 60)
    remembering = solver.step(schedule, x, 2 * eps, 60, 40)
    solver.reset()
    assert torch.equal(solver.step(schedule, x, eps, 80, 60), fresh)
    solver.reset()
    assert not torch.equal(solver.step(schedule, x, 2 * eps, 60, 40), remembering)


@pytest.mark.parametrize("eta", [-0.1, 1.1])
def test_eta_out_of_range_is_a_users_mistake(eta: float) -> None:
    with pytest.raises(UserError, match="eta"):
        Ddim(eta)


def test_an_unknown_variance_is_a_users_mistake() -> None:
    with pytest.raises(UserError, match="learned"):
        Ddpm("learned")  # type: ignore[arg-type]


def test_a_stochastic_step_without_noise_is_a_users_mistake(schedule: NoiseSchedule) -> None:
    x = torch.zeros(1, 1, 2, 2)
    for solver in (Ddim(0.5), Ddpm()):
        with pytest.raises(UserError, match="noise"):
            solver.step(schedule, x, x, 10, 5)
