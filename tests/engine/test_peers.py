"""The same steps as diffusers' schedulers take, on the same alpha_bar.

diffusers keeps alpha_bar in float32; ours replaces it, so that float64 samples agree to float64 rounding.
"""

from __future__ import annotations

import pytest
import torch

from cfdiff.engine import (
    Ddim,
    Ddpm,
    DpmSolver2M,
    NoiseSchedule,
    NoiseSource,
    UniPC,
    ddim_step,
    decode,
    from_noise,
    make_tau,
    noise_level,
    seed_of,
)
from cfdiff.registry import SOLVERS

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


def exact_sigmas(scheduler, schedule: NoiseSchedule, tau: list[int]) -> None:
    """diffusers keeps them in float32: in float64 its steps agree with ours as closely as the arithmetic does."""
    ab = schedule.alpha_bar[tau[:0:-1]]
    scheduler.sigmas = torch.cat([((1 - ab) / ab).sqrt(), ab.new_zeros(1)])


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
    schedule = SCHEDULES[name]
    options = {"algorithm_type": "dpmsolver++", "solver_order": 2, "final_sigmas_type": "zero"}
    scheduler = peer("DPMSolverMultistepScheduler", schedule, **options)
    tau = make_tau(schedule, 0.9, steps, "logsnr")
    scheduler.set_timesteps(timesteps=[level - 1 for level in tau[:0:-1]])
    exact_sigmas(scheduler, schedule, tau)

    ours = theirs = start()
    solver = DpmSolver2M()
    for a, b in zip(tau[:0:-1], tau[-2::-1], strict=True):
        theirs = scheduler.step(network(theirs, a), a - 1, theirs).prev_sample
        ours = solver.step(schedule, ours, network(ours, a), a, b)
    torch.testing.assert_close(ours, theirs.double(), atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
@pytest.mark.parametrize("name", ["linear", "betas"])
@pytest.mark.parametrize("steps", [5, 20, 100])
def test_unipc_steps_are_those_of_diffusers(name: str, steps: int) -> None:
    """Predictor and corrector. The cosine schedule of diffusers begins at a sigma of 2e4."""
    schedule = SCHEDULES[name]
    options = {"solver_order": 2, "solver_type": "bh2", "final_sigmas_type": "zero", "timestep_spacing": "trailing"}
    scheduler = peer("UniPCMultistepScheduler", schedule, **options)
    scheduler.set_timesteps(steps)
    tau = make_tau(schedule, 1, steps)
    assert [t + 1 for t in scheduler.timesteps.tolist()] == tau[:0:-1]
    exact_sigmas(scheduler, schedule, tau)

    ours = theirs = start()
    solver = UniPC()
    for a, b in zip(tau[:0:-1], tau[-2::-1], strict=True):
        theirs = scheduler.step(network(theirs, a), a - 1, theirs).prev_sample
        ours = solver.step(schedule, ours, network(ours, a), a, b)
    torch.testing.assert_close(ours, theirs.double(), atol=1e-5, rtol=1e-5)


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


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
@pytest.mark.parametrize(
    ("name", "kind", "options"),
    [
        ("ddim", "DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": True}),
        ("ddpm", "DDPMScheduler", {"clip_sample": False, "variance_type": "fixed_small"}),
        ("dpm++", "DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "final_sigmas_type": "zero"}),
        ("unipc", "UniPCMultistepScheduler", {"solver_order": 2, "solver_type": "bh2", "final_sigmas_type": "zero"}),
    ],
)
def test_a_walk_from_noise_is_that_of_diffusers(name: str, kind: str, options: dict) -> None:
    """Whole, by the decode loop that generates: the same noise, the same image."""
    schedule, steps = SCHEDULES["linear"], 25
    scheduler = peer(kind, schedule, timestep_spacing="trailing", **options)
    scheduler.set_timesteps(steps)
    tau = make_tau(schedule, noise_level(schedule) / schedule.T, steps)
    assert [t + 1 for t in scheduler.timesteps.tolist()] == tau[:0:-1], "a linear schedule is walked from its top"
    if hasattr(scheduler, "sigmas"):
        exact_sigmas(scheduler, schedule, tau)
    source = NoiseSource(0, ["a", "b"])
    x = theirs = source.like(start())
    path = from_noise(schedule, network, x, tau)
    ours = decode(schedule, network, path, solver=SOLVERS[name](0.0), anchored=False, noise=source)
    generators = [torch.Generator().manual_seed(seed_of(0, id)) for id in ("a", "b")]
    for g in generators:
        torch.randn(x.shape[1:], generator=g)  # where the walk began
    for a in tau[:0:-1]:
        draws = torch.stack([torch.randn(x.shape[1:], generator=g) for g in generators]).double()
        with pytest.MonkeyPatch.context() as patched:
            if name == "ddpm":  # it draws its own noise, of the type of the sample
                patched.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, z=draws, **__: z)
            theirs = scheduler.step(network(theirs, a), a - 1, theirs).prev_sample
    torch.testing.assert_close(ours, theirs.double(), atol=1e-5, rtol=1e-5)
