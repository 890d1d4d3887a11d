"""One step of a student against two of its teacher."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cfdiff.engine import NoiseSchedule, ddim_step
from cfdiff.engine.distil import of_two_steps

SCHEDULE = NoiseSchedule.from_config({"name": "cosine", "T": 100})


def of_a_gaussian(x: Tensor, level: int | Tensor) -> Tensor:
    """E[eps | x_l] of x_0 from N(.3, .25 I): sqrt(1 - ab) (x - sqrt(ab) .3) / (1 - .75 ab)."""
    signal, noise = SCHEDULE.signal_noise(level, x)
    return noise * (x - 0.3 * signal) / (0.25 * signal**2 + noise**2)


@given(a=st.lists(st.integers(1, 90), min_size=1, max_size=4), span=st.integers(2, 60), seed=st.integers(0, 99))
def test_one_step_with_it_ends_where_two_of_the_teacher_end(a: list[int], span: int, seed: int) -> None:
    x = torch.randn(len(a), 1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    eps = of_two_steps(SCHEDULE, of_a_gaussian, x, torch.tensor(a), span)
    for i, level in enumerate(a):
        last, one = max(level - span, 0), x[i : i + 1]
        middle = (level + last) // 2
        halfway = ddim_step(SCHEDULE, one, of_a_gaussian(one, level), level, middle)
        if middle > last:
            halfway = ddim_step(SCHEDULE, halfway, of_a_gaussian(halfway, middle), middle, last)
        assert torch.allclose(ddim_step(SCHEDULE, one, eps[i : i + 1], level, last), halfway, atol=1e-9)


def test_where_the_teacher_is_exact_in_one_step_its_student_is_the_teacher() -> None:
    """All mass in one point: eps is the same all along the path."""

    def point(x: Tensor, levels: Tensor) -> Tensor:
        signal, noise = SCHEDULE.signal_noise(levels, x)
        return (x - 0.3 * signal) / noise

    x, levels = torch.randn(3, 1, 2, 2, dtype=torch.float64), torch.tensor([9, 40, 80])
    assert torch.allclose(of_two_steps(SCHEDULE, point, x, levels, 20), point(x, levels), atol=1e-9)
