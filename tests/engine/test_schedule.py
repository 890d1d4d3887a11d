from __future__ import annotations

import json

import pytest
import torch

from cfdiff.engine import NoiseSchedule
from cfdiff.errors import UserError


@pytest.mark.parametrize("make", [NoiseSchedule.linear, NoiseSchedule.cosine])
@pytest.mark.parametrize("T", [1, 10, 200, 1000])
def test_alpha_bar_starts_at_exactly_one_and_falls(make, T: int) -> None:
    schedule = make(T)
    assert schedule.alpha_bar.dtype == torch.float64
    assert schedule.alpha_bar[0] == 1
    assert len(schedule.alpha_bar) == T + 1
    assert (schedule.alpha_bar.diff() < 0).all()
    assert schedule.alpha_bar[-1] > 0


def test_linear_with_1000_steps_is_the_schedule_of_ddpm() -> None:
    schedule = NoiseSchedule.linear(1000)
    assert float(schedule.betas[0]) == pytest.approx(1e-4)
    assert float(schedule.betas[-1]) == pytest.approx(0.02)
    assert float(schedule.alpha_bar[-1]) == pytest.approx(4.0358e-5, rel=1e-4)


@pytest.mark.parametrize(
    "schedule",
    [
        NoiseSchedule.linear(50),
        NoiseSchedule.linear(50, start=1e-3, end=0.03),
        NoiseSchedule.cosine(50),
        NoiseSchedule.cosine(50, s=0.05),
        NoiseSchedule.from_betas([0.1, 0.2, 0.3]),
    ],
)
def test_a_schedule_comes_back_from_its_config(schedule: NoiseSchedule) -> None:
    assert NoiseSchedule.from_config(json.loads(json.dumps(schedule.config))).same_as(schedule)


def test_a_config_of_the_name_and_t_alone_has_the_default_parameters() -> None:
    """What files before 0.2 hold."""
    assert NoiseSchedule.from_config({"name": "cosine", "T": 50}).same_as(NoiseSchedule.cosine(50))


def test_a_parameter_that_the_formula_has_not_is_a_users_mistake() -> None:
    with pytest.raises(UserError, match="not complete"):
        NoiseSchedule.from_config({"name": "cosine", "T": 50, "start": 1e-4})


@pytest.mark.parametrize("betas", [[], [0.0], [1.0], [0.1, -0.1], [[0.1]], [float("nan")]])
def test_impossible_betas_are_a_users_mistake(betas: list) -> None:
    with pytest.raises(UserError, match="betas"):
        NoiseSchedule.from_betas(betas)


def test_an_unknown_schedule_is_a_users_mistake() -> None:
    with pytest.raises(UserError, match="sigmoid"):
        NoiseSchedule.from_config({"name": "sigmoid"})
    with pytest.raises(UserError, match="needs T, or betas"):
        NoiseSchedule.from_config({"name": "linear"})


@pytest.mark.parametrize("depth", [0, -0.1, 1.1])
def test_a_depth_out_of_range_is_a_users_mistake(schedule: NoiseSchedule, depth: float) -> None:
    with pytest.raises(UserError, match="depth"):
        schedule.level_of(depth)


def test_signal_and_noise_keep_all_digits_of_float32_at_the_lowest_level() -> None:
    schedule = NoiseSchedule.linear(1000)
    signal, noise = schedule.signal_noise(1, torch.zeros(1))
    assert float(noise) == pytest.approx(1e-2, rel=1e-7)
    assert float(signal) == pytest.approx((1 - 1e-4) ** 0.5, rel=1e-7)


def test_a_level_per_sample_broadcasts_over_the_batch(schedule: NoiseSchedule) -> None:
    x = torch.zeros(3, 1, 2, 2)
    ab = schedule.at(torch.tensor([0, 7, 200]), x)
    assert ab.shape == (3, 1, 1, 1)
    assert [float(schedule.at(level, x)) for level in (0, 7, 200)] == ab.flatten().tolist()
    assert ab[0] == 1


def test_tables_are_read_in_float32_even_for_half_precision(schedule: NoiseSchedule) -> None:
    assert schedule.at(3, torch.zeros(1, dtype=torch.bfloat16)).dtype == torch.float32
    assert schedule.at(3, torch.zeros(1, dtype=torch.float64)).dtype == torch.float64
