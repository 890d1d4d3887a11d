from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cfdiff.engine import NoiseSchedule, convert
from cfdiff.engine.process import PARAMETRISATIONS
from cfdiff.models.denoiser import Denoiser

SCHEDULE = NoiseSchedule.cosine(100)


def true_eps(x: Tensor, t: Tensor) -> Tensor:
    return torch.tanh(x + t.view(-1, 1, 1, 1) / 100)


def images(n: int = 3) -> Tensor:
    return torch.randn((n, 2, 4, 4), generator=torch.Generator().manual_seed(0))


@given(st.integers(1, 100), st.sampled_from(PARAMETRISATIONS))
def test_the_same_network_in_any_parametrisation_gives_the_same_eps(level: int, kind: Any) -> None:
    def net(x: Tensor, t: Tensor) -> Tensor:
        return convert(SCHEDULE, x, t + 1, true_eps(x, t), "eps", kind)

    x = images().double()
    eps = Denoiser(net, SCHEDULE, kind)(x, level)
    torch.testing.assert_close(eps, true_eps(x, torch.full((3,), level - 1)), atol=1e-6, rtol=1e-6)


def test_levels_of_their_own_are_those_of_one_level_each() -> None:
    denoiser = Denoiser(true_eps, SCHEDULE, "v")
    x, levels = images(), torch.tensor([1, 40, 100])
    each = torch.cat([denoiser(x[i : i + 1], int(level)) for i, level in enumerate(levels)])
    torch.testing.assert_close(denoiser(x, levels), each)


def test_level_0_which_no_network_knows_is_asked_as_level_1() -> None:
    asked: list[int] = []

    def net(x: Tensor, t: Tensor) -> Tensor:
        asked.extend(t.tolist())
        return x

    Denoiser(net, SCHEDULE)(images(1), 0)
    Denoiser(net, SCHEDULE)(images(2), torch.tensor([0, 5]))
    assert asked == [0, 0, 4]


def test_the_variance_of_a_learned_sigma_is_left_out() -> None:
    net = lambda x, t: torch.cat([true_eps(x, t), torch.full_like(x, 9.0)], 1)  # noqa: E731
    x = images()
    assert torch.equal(Denoiser(net, SCHEDULE, learned_sigma=True)(x, 7), Denoiser(true_eps, SCHEDULE)(x, 7))


def test_a_condition_reaches_the_network_and_none_does_not() -> None:
    seen: list[Any] = []

    def net(x: Tensor, t: Tensor, *told: Any) -> Tensor:
        seen.append(told)
        return x

    denoiser = Denoiser(net, SCHEDULE)
    denoiser(images(), 3)
    denoiser(images(), 3, condition="tokens")
    assert seen == [(), ("tokens",)]


def test_half_precision_is_for_the_network_alone() -> None:
    inside: list[Any] = []

    def net(x: Tensor, t: Tensor) -> Tensor:
        inside.append(torch.is_autocast_enabled("cpu"))
        return x.bfloat16()

    eps = Denoiser(net, SCHEDULE, dtype=torch.bfloat16)(images(), 3)
    assert inside == [True] and eps.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


def test_training_gets_its_gradient_through_it() -> None:
    x = images().requires_grad_()
    Denoiser(true_eps, SCHEDULE, "v")(x, torch.tensor([3, 5, 9])).sum().backward()
    assert x.grad is not None and bool(x.grad.abs().sum() > 0)


@pytest.mark.parametrize("level", [1, 50, 100])
def test_eps_of_a_network_that_speaks_eps_is_its_output_bit_for_bit(level: int) -> None:
    x = images()
    assert torch.equal(Denoiser(true_eps, SCHEDULE)(x, level), true_eps(x, torch.full((3,), level - 1)))
