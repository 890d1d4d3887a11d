"""MaskDiME (Guo et al. 2026, arXiv 2602.18792), as its paper tells: DiME without the inner runs, and local.

The classifier is asked of the one-step estimate x0_hat; where its gradient is highest is the mask of the step. The mask
holds twice: the estimate is the source's outside of it (clean space), and so is the next sample, by the source noised
to its level (noise space). No code of it was public when this was written: how large a share the mask has and how it is
dilated are ours.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cfdiff.engine import NoiseSource, make_tau, q_sample
from cfdiff.engine.saliency import place
from peers.chain import estimate, posterior_of
from peers.networks import Networks

DEPTH, LEVELS = 0.3, 60
L1 = 0.05
SHARE, GROW = 0.1, 3


def edit(net: Networks, x: Tensor, target: Tensor, scales: Sequence[float], noise: NoiseSource) -> list[Tensor]:
    """x (B, C, H, W) in [-1, 1] edited to target (B,) with each scale of the classifier's gradient."""
    schedule, tau = net.schedule, make_tau(net.schedule, DEPTH, LEVELS)
    start = q_sample(schedule, x, tau[-1], noise.like(x))
    found = []
    for scale in scales:
        z = start
        for a, b in zip(tau[:0:-1], tau[-2::-1], strict=True):
            x0_hat = estimate(schedule, z, net.eps(z, a), a)
            slope = net.odds_gradient(x0_hat, target)
            mask = place(slope.abs().mean(1, keepdim=True), SHARE, GROW)
            signal, _ = schedule.signal_noise(a, z)
            clean = mask * x0_hat + (1 - mask) * x
            mean, variance = posterior_of(schedule, z, clean, a, b)
            gradient = -scale * slope / signal + L1 * torch.sign(z - x)
            z = mean - variance * mask * gradient
            if b > 0:
                z = mask * (z + variance**0.5 * noise.like(z)) + (1 - mask) * q_sample(schedule, x, b, noise.like(z))
            else:
                z = clean
        found.append(z)
    return found
