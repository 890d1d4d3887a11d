"""DiME (Jeanneret et al. 2022, Diffusion models for counterfactual explanations, algorithm 1).

The clean classifier is asked of a whole image that is drawn from z_t at every step, which takes a run of its own from t
down to 0: tau (tau + 1) / 2 network calls. The gradient, over sqrt(ab), and that of the L1 distance shift the mean
of the next step. The perceptual distance of the paper needs VGG-19, which no network here is, and is left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cfdiff.engine import NoiseSource, make_tau, q_sample
from peers.chain import posterior_step
from peers.networks import Networks

DEPTH, LEVELS = 0.3, 60
"""tau = 60 of 200 respaced steps, as published."""
L1 = 0.05


def edit(
    net: Networks, x: Tensor, target: Tensor, scales: Sequence[float], noise: NoiseSource, levels: int = LEVELS
) -> list[Tensor]:
    """x (B, C, H, W) in [-1, 1] edited to target (B,) with each scale of the classifier's gradient."""
    schedule, tau = net.schedule, make_tau(net.schedule, DEPTH, levels)
    start = q_sample(schedule, x, tau[-1], noise.like(x))
    found = []
    for scale in scales:
        z, clean = start, x
        for i in range(levels, 0, -1):
            signal, _ = schedule.signal_noise(tau[i], z)
            mean, variance = posterior_step(schedule, z, net.eps(z, tau[i]), tau[i], tau[i - 1])
            gradient = -scale * net.odds_gradient(clean, target) / signal + L1 * torch.sign(z - x)
            z = mean - variance * gradient
            if i > 1:
                z = z + variance**0.5 * noise.like(z)
                clean = drawn(net, z, tau[:i])
        found.append(z)
    return found


def drawn(net: Networks, z: Tensor, tau: list[int]) -> Tensor:
    """z at tau[-1] denoised by the mean of every step down to 0, unguided."""
    for a, b in zip(tau[:0:-1], tau[-2::-1], strict=True):
        z, _ = posterior_step(net.schedule, z, net.eps(z, a), a, b)
    return z
