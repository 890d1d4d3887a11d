from __future__ import annotations

import pytest
import torch
from exact import SCHEDULE, ExactDiffusion, ExactGuide
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cfdiff.engine import Guidance, NoiseSource, NoisyGuide, make_tau
from cfdiff.engine.regenerate import regenerate, renoise
from cfdiff.models.denoiser import Denoiser
from cfdiff.registry import SOLVERS

LEFT = torch.zeros(1, 1, 8, 8)
LEFT[..., :4] = 1


def drawn(x0: Tensor, mask: Tensor = LEFT, **changes: object) -> Tensor:
    arguments: dict[str, object] = {"solver": SOLVERS["ddim"](0.0), "noise": NoiseSource(0, map(str, range(len(x0))))}
    tau = make_tau(SCHEDULE, float(changes.pop("depth", 0.9)), 12, "uniform")  # type: ignore[arg-type]
    denoise = changes.pop("denoise", Denoiser(ExactDiffusion(), SCHEDULE))
    return regenerate(SCHEDULE, denoise, x0, tau, mask.expand(len(x0), -1, -1, -1), **(arguments | changes))  # type: ignore[arg-type]


def sources(n: int, label: int = 0) -> Tensor:
    noise = 0.25 * torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    return ExactDiffusion().means[label] + noise


@settings(deadline=None, max_examples=20)
@given(
    st.sampled_from([name for name in SOLVERS if name != "mine"]), st.integers(1, 3), st.booleans(), st.floats(0.1, 1)
)
def test_outside_the_mask_is_the_source_bit_for_bit_whatever_draws_inside(
    solver: str, resample: int, clip: bool, depth: float
) -> None:
    x0 = sources(2)
    x = drawn(x0, solver=SOLVERS[solver](0.0), resample=resample, clip=clip, depth=max(depth, 0.2))
    assert torch.equal(x[..., 4:], x0[..., 4:]) and not torch.equal(x[..., :4], x0[..., :4])
    assert torch.equal(drawn(x0, torch.zeros_like(LEFT)), x0)


def test_inside_is_as_the_model_draws_it_and_outside_decides_its_class() -> None:
    """The classes differ at (1..3, 1..3): what is left outside the mask tells the class of what is drawn within."""
    hole = torch.zeros(1, 1, 8, 8)
    hole[..., 2:4, 2:4] = 1
    for label, sign in ((0, -1), (1, 1)):
        x = drawn(sources(32, label), hole, clip=False, solver=SOLVERS["ddim"](1.0))
        inside = x[..., 2:4, 2:4]
        assert sign * inside.mean() == pytest.approx(0.5, abs=0.1)
        assert inside.std() == pytest.approx(0.25, abs=0.08)


def test_guidance_draws_the_other_class() -> None:
    x0 = sources(16)
    guide = ExactGuide()
    target = torch.ones(16).long()

    def log_prob(x: Tensor, level: int) -> Tensor:
        return guide(x, SCHEDULE.log_snr(level).expand(len(x))).log_softmax(1)

    towards = Guidance(SCHEDULE, [NoisyGuide(log_prob)], 5.0, 1.0, target)
    everywhere = torch.ones(1, 1, 8, 8)
    told = drawn(x0, everywhere, guidance=towards)
    free = drawn(x0, everywhere)
    p = [log_prob(x, 1)[:, 1].exp().mean() for x in (told, free)]
    assert p[0] > 0.95 > p[1]


def test_going_back_up_adds_the_noise_of_the_levels_between() -> None:
    x0, noise = torch.ones(4000), torch.randn(4000, generator=torch.Generator().manual_seed(0))
    ab = SCHEDULE.alpha_bar
    x_b = ab[20].sqrt() * x0 + (1 - ab[20]).sqrt() * torch.randn(4000, generator=torch.Generator().manual_seed(1))
    x_a = renoise(SCHEDULE, x_b.float(), 20, 60, noise)
    assert x_a.mean() == pytest.approx(float(ab[60].sqrt()), abs=0.05)
    assert x_a.var() == pytest.approx(float(1 - ab[60]), abs=0.05)


def test_calls_are_counted_as_the_docstring_says() -> None:
    net, x0 = ExactDiffusion(), sources(1)
    tau = make_tau(SCHEDULE, 0.9, 12, "uniform")
    regenerate(
        SCHEDULE,
        Denoiser(net, SCHEDULE),
        x0,
        tau,
        LEFT,
        solver=SOLVERS["ddim"](0.0),
        noise=NoiseSource(0, ["a"]),
        resample=3,
    )
    assert len(net.asked) == 3 * 11 + 1
