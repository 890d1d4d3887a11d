"""Progressive distillation: the noise with which one step goes where two of a teacher's go (Salimans & Ho 2022)."""

from __future__ import annotations

from torch import Tensor

from cfdiff.engine.loss import BatchDenoise
from cfdiff.engine.process import q_sample, x0_from_eps
from cfdiff.engine.schedule import NoiseSchedule


def of_two_steps(schedule: NoiseSchedule, teacher: BatchDenoise, x: Tensor, levels: Tensor, span: int) -> Tensor:
    """The eps (B, ...) whose one DDIM step from a to c ends where two of `teacher`'s do, a to b and b to c.

    c = max(a - span, 0) and b is halfway. A step without new noise is x_c = q(x0_hat, c, eps), so with the x_c that the
    teacher reaches eps = (x_c - sqrt(ab_c / ab_a) x_a) / (sqrt(1 - ab_c) - sqrt(ab_c / ab_a) sqrt(1 - ab_a))
    (Salimans & Ho 2022, appendix G, eq. 43, as eps).

    Args:
        x: (B, ...) x_a.
        levels: (B,) int64, a of each sample in 1..T.
        span: levels of one step.
    """
    last = (levels - span).clamp(min=0)
    middle = (levels + last) // 2
    halfway = _step(schedule, x, levels, middle, teacher(x, levels))
    # Where a and c are neighbours there is no level between them: the second step stays where it is.
    reached = _step(schedule, halfway, middle, last, teacher(halfway, middle.clamp(min=1)))
    signal_a, noise_a = schedule.signal_noise(levels, x)
    signal_c, noise_c = schedule.signal_noise(last, x)
    ratio = signal_c / signal_a
    return (reached - ratio * x) / (noise_c - ratio * noise_a)


def _step(schedule: NoiseSchedule, x: Tensor, a: Tensor, b: Tensor, eps: Tensor) -> Tensor:
    """`ddim_step` with eta 0, each sample between levels of its own."""
    return q_sample(schedule, x0_from_eps(schedule, x, a, eps), b, eps)
