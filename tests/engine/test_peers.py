"""The same steps as diffusers' schedulers take, on the same alpha_bar.

diffusers keeps alpha_bar in float32; ours replaces it, so that float64 samples agree to float64 rounding.
"""

from __future__ import annotations

import pytest
import torch

from cfdiff.engine import Ddim, Ddpm, DpmSolver2M, NoiseSchedule, UniPC, ddim_step, make_tau

diffusers = pytest.importorskip("diffusers")

SCHEDULES = {
    "linear": NoiseSchedule.linear(1000),
    "cosine": NoiseSchedule.cosine(1000),
    "betas": NoiseSchedule.from_betas(torch.linspace(0.0085**0.5, 0.012**0.5, 1000).double() ** 2),
}


def peer(kind: str, schedule: NoiseSchedule, **options):
    scheduler = getattr(diffusers, kind)(
        num_train_timesteps=schedule.T, trained_betas=schedule.betas.numpy(), **options
    )
    scheduler.alphas_cumprod = schedule.alpha_bar[1:].clone()
    scheduler.betas, scheduler.alphas = schedule.betas.clone(), 1 - schedule.betas
    return scheduler


def start() -> torch.Tensor:
    return torch.randn((2, 1, 2, 2), generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def network(x: torch.Tensor, level: int) -> torch.Tensor:
    return torch.tanh(x + level / 500) * 0.9


@pytest.mark.parametrize("name", sorted(SCHEDULES))
@pytest.mark.parametrize("steps", [5, 20, 100])
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_ddim_steps_are_those_of_diffusers(name: str, steps: int, eta: float) -> None:
    schedule = SCHEDULES[name]
    options = {"clip_sample": False, "set_alpha_to_one": True, "timestep_spacing": "trailing"}
    scheduler = peer("DDIMScheduler", schedule, **options)
    scheduler.set_timesteps(steps)
    tau = make_tau(schedule, 1, steps)
    assert [t + 1 for t in scheduler.timesteps.tolist()] == tau[:0:-1]

    ours = theirs = start()
    g = torch.Generator().manual_seed(1)
    for a, b in zip(tau[:0:-1], tau[-2::-1], strict=True):
        z = torch.randn(ours.shape, generator=g, dtype=torch.float64)
        theirs = scheduler.step(network(theirs, a), a - 1, theirs, eta=eta, variance_noise=z).prev_sample
        ours = Ddim(eta).step(schedule, ours, network(ours, a), a, b, z)
    torch.testing.assert_close(ours, theirs, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("name", sorted(SCHEDULES))
@pytest.mark.parametrize("steps", [7, 50, 333])
@pytest.mark.parametrize(("variance", "theirs_is"), [("beta", "fixed_large"), ("beta_tilde", "fixed_small")])
def test_ddpm_steps_are_those_of_diffusers(name: str, steps: int, variance, theirs_is: str) -> None:
    schedule = SCHEDULES[name]
    scheduler = peer("DDPMScheduler", schedule, clip_sample=False, variance_type=theirs_is)
    tau = make_tau(schedule, 1, steps, "quadratic")
    tau[1] = 1  # diffusers leaves out the last noise at timestep 0, which is level 1, alone
    scheduler.set_timesteps(timesteps=[level - 1 for level in tau[:0:-1]])

    ours = theirs = start()
    g, their_g = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    for a, b in zip(tau[:0:-1], tau[-2::-1], strict=True):
        theirs = scheduler.step(network(theirs, a), a - 1, theirs, generator=their_g).prev_sample
        z = torch.randn(ours.shape, generator=g, dtype=torch.float64)
        ours = Ddpm(variance).step(schedule, ours, network(ours, a), a, b, z)
    torch.testing.assert_close(ours, theirs, atol=1e-7, rtol=1e-7)


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
@pytest.mark.parametrize("name", sorted(SCHEDULES))
@pytest.mark.parametrize("steps", [5, 20, 100])
def test_dpm_solver_2m_steps_are_those_of_diffusers(name: str, steps: int) -> None:
    """diffusers keeps its sigmas in float32, so this agrees to float32 only."""
    schedule = SCHEDULES[name]
    options = {"algorithm_type": "dpmsolver++", "solver_order": 2, "final_sigmas_type": "zero"}
    scheduler = peer("DPMSolverMultistepScheduler", schedule, **options)
    tau = make_tau(schedule, 0.9, steps, "logsnr")
    scheduler.set_timesteps(timesteps=[level - 1 for level in tau[:0:-1]])

    ours = theirs = start()
    solver = DpmSolver2M()
    for a, b in zip(tau[:0:-1], tau[-2::-1], strict=True):
        theirs = scheduler.step(network(theirs, a), a - 1, theirs).prev_sample
        ours = solver.step(schedule, ours, network(ours, a), a, b)
    torch.testing.assert_close(ours, theirs.double(), atol=2e-5, rtol=2e-5)


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
@pytest.mark.parametrize("name", ["linear", "betas"])
@pytest.mark.parametrize("steps", [5, 20, 100])
def test_unipc_steps_are_those_of_diffusers(name: str, steps: int) -> None:
    """Predictor and corrector; diffusers keeps its sigmas in float32. Its cosine schedule begins at a sigma of 2e4."""
    schedule = SCHEDULES[name]
    options = {"solver_order": 2, "solver_type": "bh2", "final_sigmas_type": "zero", "timestep_spacing": "trailing"}
    scheduler = peer("UniPCMultistepScheduler", schedule, **options)
    scheduler.set_timesteps(steps)
    tau = make_tau(schedule, 1, steps)
    assert [t + 1 for t in scheduler.timesteps.tolist()] == tau[:0:-1]

    ours = theirs = start()
    solver = UniPC()
    for a, b in zip(tau[:0:-1], tau[-2::-1], strict=True):
        theirs = scheduler.step(network(theirs, a), a - 1, theirs).prev_sample
        ours = solver.step(schedule, ours, network(ours, a), a, b)
    torch.testing.assert_close(ours, theirs.double(), atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("name", sorted(SCHEDULES))
@pytest.mark.parametrize("steps", [5, 20, 100])
def test_steps_up_are_those_of_diffusers_inverse_scheduler(name: str, steps: int) -> None:
    schedule = SCHEDULES[name]
    options = {"clip_sample": False, "set_alpha_to_one": True, "timestep_spacing": "trailing"}
    scheduler = peer("DDIMInverseScheduler", schedule, **options)
    scheduler.set_timesteps(steps)
    tau = make_tau(schedule, 1, steps)

    ours = theirs = start()
    for t, a, b in zip(scheduler.timesteps, tau, tau[1:], strict=False):
        theirs = scheduler.step(network(theirs, b), t, theirs).prev_sample
        ours = ddim_step(schedule, ours, network(ours, b), a, b)
    torch.testing.assert_close(ours, theirs, atol=1e-8, rtol=1e-8)
