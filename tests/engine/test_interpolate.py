from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cfdiff.engine import NoiseSchedule, from_noise, noise_level, slerp


def two(seed: int, shape: tuple[int, ...] = (1, 16, 16)) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=g), torch.randn(shape, generator=g)


@given(st.integers(0, 50))
def test_the_ends_are_the_ends_bit_for_bit(seed: int) -> None:
    a, b = two(seed)
    path = slerp(a, b, torch.tensor([0.0, 0.4, 1.0]))
    assert path.shape == (3, 1, 16, 16) and path.dtype == a.dtype
    assert torch.equal(path[0], a) and torch.equal(path[2], b) and not torch.equal(path[1], a)


@given(st.integers(0, 50), st.floats(0, 1))
def test_unit_vectors_stay_on_the_sphere_and_turn_evenly(seed: int, t: float) -> None:
    a, b = (x.double() / x.double().norm() for x in two(seed))
    x = slerp(a, b, torch.tensor([t], dtype=torch.float64))[0]
    angle = math.acos(float((a * b).sum()))
    assert float(x.norm()) == pytest.approx(1, abs=1e-9)
    assert math.acos(min(1.0, float((a * x).sum()))) == pytest.approx(t * angle, abs=1e-6)


def test_between_two_noises_there_is_as_much_noise_where_a_straight_line_has_half() -> None:
    a, b = two(0, (3, 64, 64))
    assert float(slerp(a, b, torch.tensor([0.5]))[0].var()) == pytest.approx(1, abs=0.03)
    assert float(((a + b) / 2).var()) == pytest.approx(0.5, abs=0.03)


def test_equal_and_opposite_ends_have_a_straight_line() -> None:
    a, _ = two(1)
    t = torch.tensor([0.25])
    torch.testing.assert_close(slerp(a, a, t)[0], a)
    torch.testing.assert_close(slerp(a, -a, t)[0], a / 2)


def test_a_walk_begins_at_the_last_level_that_holds_anything_of_an_image() -> None:
    linear, cosine = NoiseSchedule.linear(1000), NoiseSchedule.cosine(1000)
    assert noise_level(linear) == 1000 and noise_level(cosine) == 996
    assert float(cosine.log_snr(996)) >= -10.2 > float(cosine.log_snr(997))
    assert noise_level(NoiseSchedule.from_betas([0.1, 0.2])) == 2, "one that never gets there, from its top"


def test_of_a_path_from_noise_only_the_top_is_known() -> None:
    schedule, x = NoiseSchedule.linear(10), torch.ones(2, 1, 2, 2)
    asked = []

    def denoise(x: torch.Tensor, level: int) -> torch.Tensor:
        asked.append(level)
        return x / 2

    path = from_noise(schedule, denoise, x, [0, 3, 7])
    assert asked == [7] and path.calls == 1 and path.steps == 2
    assert torch.equal(path.eps_at(2), x / 2) and torch.equal(path.x[2], x)
