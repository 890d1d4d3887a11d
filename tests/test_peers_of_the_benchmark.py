"""What benchmarks/peers/ claims of other methods holds: exact inversions are exact, and all methods edit."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cfdiff.engine import NoiseSchedule, NoiseSource, ddim_step, ddpm_step, make_tau

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from peers import ace, chain, dime, exact, maskdime, sdedit, wolleb  # noqa: E402
from peers.networks import Networks  # noqa: E402

SCHEDULE = NoiseSchedule.cosine(1000)
TAU = make_tau(SCHEDULE, 0.3, 15)


def image() -> torch.Tensor:
    return torch.randn((2, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.float64).clamp(-1, 1)


def network(x: torch.Tensor, level: int) -> torch.Tensor:
    return torch.tanh(x + level / 500) * 0.9


@pytest.mark.parametrize("name", sorted(exact.COUPLINGS))
def test_an_exact_inversion_is_undone_and_guidance_is_not(name: str) -> None:
    coupling, x = exact.COUPLINGS[name], image()
    top = coupling.up(SCHEDULE, network, x, TAU)
    assert float((coupling.down(SCHEDULE, network, top, TAU) - x).abs().max()) < 1e-11
    guided = coupling.down(SCHEDULE, lambda x, level: network(x, level) + 0.1, top, TAU)
    assert float((guided - x).abs().max()) > 1e-3


@pytest.mark.parametrize(("name", "steps", "off"), [("BDIA", 300, 0.02), ("BELM", 300, 0.02), ("EDICT", 30, 0.1)])
def test_an_exact_inversion_leads_to_the_noise_that_ddim_with_many_steps_leads_to(
    name: str, steps: int, off: float
) -> None:
    """All of them discretise one flow: a wrong coefficient would be undone as exactly, and lead elsewhere.

    EDICT's way up divides by its mixing at every step, which with hundreds of steps is unstable, so it gets few.
    """
    x, fine = image(), make_tau(SCHEDULE, 0.3, 300)
    noise = x
    for a, b in zip(fine, fine[1:], strict=False):
        noise = ddim_step(SCHEDULE, noise, network(noise, max(a, 1)), a, b)
    top = exact.COUPLINGS[name].up(SCHEDULE, network, x, make_tau(SCHEDULE, 0.3, steps))[0]
    if name == "BELM":  # its states are over sqrt(ab)
        top = top * float(SCHEDULE.alpha_bar[fine[-1]]) ** 0.5
    assert float((top - noise).abs().max()) < off
    assert float((noise - x).abs().max()) > 0.2


def test_the_chain_of_the_peers_is_the_engines_ddpm() -> None:
    z, eps = image(), image().flip(0)
    for a, b in ((300, 280), (20, 0)):
        x0 = (z - float(1 - SCHEDULE.alpha_bar[a]) ** 0.5 * eps) / float(SCHEDULE.alpha_bar[a]) ** 0.5
        mean, variance = chain.posterior_of(SCHEDULE, z, x0, a, b)
        noise = torch.ones_like(z)
        step = ddpm_step(SCHEDULE, z, eps, a, b, "beta_tilde", noise)
        assert torch.allclose(mean + variance**0.5 * noise, step, atol=1e-12)


def bright_or_dark(x: torch.Tensor) -> torch.Tensor:
    mean = 4 * x.mean((1, 2, 3))
    return torch.log_softmax(torch.stack([-mean, mean], 1), 1)


def gaussian(x: torch.Tensor, level: int) -> torch.Tensor:
    """The exact eps where images are N(0, 1/4)."""
    ab = float(SCHEDULE.alpha_bar[max(level, 1)])
    return x * (1 - ab) ** 0.5 / (ab / 4 + 1 - ab)


@pytest.mark.parametrize(
    ("edit", "scale"),
    [
        (partial(wolleb.edit, levels=20), 30.0),
        (sdedit.edit, 30.0),
        (partial(dime.edit, levels=8), 30.0),
        (maskdime.edit, 30.0),
        (ace.edit, 10),
        *((partial(exact.edit, name), 3.0) for name in sorted(exact.COUPLINGS)),
    ],
)
def test_every_method_moves_an_image_to_the_class_that_is_asked_for(edit: Any, scale: float) -> None:
    cast: Any = SimpleNamespace(
        schedule=SCHEDULE,
        denoise=gaussian,
        clean_log_prob=bright_or_dark,
        guide_log_prob=lambda x, level: bright_or_dark(x),
    )
    x = image().float() / 2
    with torch.no_grad():
        made = [
            edit(Networks(cast), x, torch.full((2,), target), [scale], NoiseSource(0, ["a", "b"]))[0]
            for target in (0, 1)
        ]
    assert all(bool(one.isfinite().all()) for one in made)
    assert (made[1].mean((1, 2, 3)) > made[0].mean((1, 2, 3)) + 0.01).all()
