"""UniPC of second order, B2(h) = e^h - 1 (Zhao et al. 2023, algorithms 1 and 2, data prediction)."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from cfdiff.engine.process import x0_from_eps
from cfdiff.engine.schedule import NoiseSchedule
from cfdiff.engine.solvers.base import Ask


class Seen(NamedTuple):
    """A level that was passed, and the estimate of x_0 there."""

    level: int
    x0: Tensor


class UniPC:
    """A predictor, and a corrector that costs no call: it uses the eps that the next step starts from anyway.

    Anchor and mask may move a sample between two steps. So the corrector's change of the prediction is added to where
    the sample is; where nothing moved it, that is the corrected sample of the paper.
    """

    stochastic = False

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._seen: list[Seen] = []
        self._from: Tensor | None = None  # where the last step started, and what it predicted
        self._predicted: Tensor | None = None

    def step(
        self,
        schedule: NoiseSchedule,
        x: Tensor,
        eps: Tensor,
        a: int,
        b: int,
        noise: Tensor | None = None,
        ask: Ask | None = None,
    ) -> Tensor:
        x0_hat = x0_from_eps(schedule, x, a, eps)
        if self._from is not None and self._predicted is not None:
            x = x + (unipc_step(schedule, self._from, self._seen, a, x0_hat) - self._predicted)
        self._seen = [*self._seen[-1:], Seen(a, x0_hat)]
        x_b = unipc_step(schedule, x, self._seen, b)
        self._from, self._predicted = x, x_b
        return x_b


def unipc_step(schedule: NoiseSchedule, x: Tensor, seen: list[Seen], b: int, x0_b: Tensor | None = None) -> Tensor:
    """From x at the last level seen to x_b: the predictor, or with `x0_b`, the estimate at b, the corrector.

    x_b = sigma_b / sigma_a x - alpha_b (e^-h - 1) (x0_a + sum_i c_i D_i),  D_i = (x0_i - x0_a) / r_i

    with lambda half the log-SNR, h = lambda_b - lambda_a, r_i = (lambda_i - lambda_a) / h, and c_i that make it exact
    for polynomials in lambda.

    Args:
        seen: one level, or two of which the last is where x is; estimates as x.
        b: 0 lands on the last estimate.
    """
    (a, x0_a), before = seen[-1], seen[:-1]
    if b == 0:
        return x0_a
    ab_a, ab_b = float(schedule.alpha_bar[a]), float(schedule.alpha_bar[b])
    lambda_a, lambda_b = (float(schedule.log_snr(level)) / 2 for level in (a, b))
    h = lambda_b - lambda_a
    step = -math.expm1(-h)  # 1 - e^-h
    D = x0_a
    r = [(float(schedule.log_snr(level)) / 2 - lambda_a) / h for level, _ in before]
    # The right-hand side of R c = b, equation 9 of the paper, with -h for h as x_0 is predicted.
    phi_1 = math.expm1(-h) / -h - 1
    phi_2 = phi_1 / -h - 0.5
    b_1, b_2 = phi_1 / math.expm1(-h), 2 * phi_2 / math.expm1(-h)
    if x0_b is None:
        if before:
            D = D + 0.5 / r[0] * (before[0].x0 - x0_a)
    elif not before:
        D = D + 0.5 * (x0_b - x0_a)
    else:
        c = (b_1 - b_2) / (1 - r[0])  # c + d = b_1 and r c + d = b_2
        D = D + c / r[0] * (before[0].x0 - x0_a) + (b_1 - c) * (x0_b - x0_a)
    return math.sqrt((1 - ab_b) / (1 - ab_a)) * x + math.sqrt(ab_b) * step * D


def unipc(eta: float = 0.0) -> UniPC:
    """The entry of the registry: deterministic, whatever eta is."""
    return UniPC()
