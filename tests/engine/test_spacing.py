from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cfdiff.engine import NoiseSchedule, make_tau
from cfdiff.errors import UserError

SPACINGS = ["uniform", "quadratic", "logsnr"]
SCHEDULES = {"linear": NoiseSchedule.linear(1000), "cosine": NoiseSchedule.cosine(1000)}


def assert_is_tau(tau: list[int], steps: int, top: int) -> None:
    assert len(tau) == steps + 1
    assert tau[0] == 0 and tau[-1] == top
    assert all(a < b for a, b in zip(tau, tau[1:], strict=False))


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("depth", [1, 0.3, 0.005])
def test_every_number_of_steps_gives_that_many_distinct_levels(spacing: str, depth: float) -> None:
    schedule = NoiseSchedule.linear(200)
    top = schedule.level_of(depth)
    for steps in range(1, top + 1):
        assert_is_tau(make_tau(schedule, depth, steps, spacing), steps, top)


@given(st.data(), st.sampled_from(SPACINGS), st.sampled_from(sorted(SCHEDULES)), st.floats(0.001, 1))
def test_tau_is_exact_for_a_thousand_levels_too(data, spacing: str, name: str, depth: float) -> None:
    schedule = SCHEDULES[name]
    top = schedule.level_of(depth)
    steps = data.draw(st.integers(1, top))
    assert_is_tau(make_tau(schedule, depth, steps, spacing), steps, top)


@pytest.mark.parametrize("steps", [0, -1, 101])
def test_a_number_of_steps_that_does_not_fit_is_a_users_mistake(steps: int) -> None:
    with pytest.raises(UserError, match="1 to 100"):
        make_tau(NoiseSchedule.linear(1000), 0.1, steps)


def test_an_unknown_spacing_is_a_users_mistake(schedule: NoiseSchedule) -> None:
    with pytest.raises(UserError, match="karras"):
        make_tau(schedule, 1, 10, "karras")  # type: ignore[arg-type]


def test_uniform_spacing_has_equal_strides_where_they_fit(schedule: NoiseSchedule) -> None:
    assert make_tau(schedule, 1, 4) == [0, 50, 100, 150, 200]


def test_quadratic_spacing_is_denser_at_low_noise(schedule: NoiseSchedule) -> None:
    assert make_tau(schedule, 1, 4, "quadratic") == [0, 12, 50, 112, 200]


def test_logsnr_spacing_has_equal_gaps_of_log_snr() -> None:
    schedule = NoiseSchedule.linear(1000)
    tau = make_tau(schedule, 1, 10, "logsnr")
    gaps = schedule.log_snr(torch.tensor(tau[2:])).diff()
    assert tau[1] == 1
    assert (gaps / gaps.mean() - 1).abs().max() < 0.05
