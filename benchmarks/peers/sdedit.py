"""SDEdit (Meng et al. 2022, algorithm 1), guided: noise the image, and run the reverse process from there.

The image survives only as the noised start, so where it comes back other is part of the method. Guidance is what the
other loops have: the noise-aware guide and the checkers on x0_hat.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from cfdiff.engine import NoiseSource, ddpm_step, make_tau, q_sample
from peers.networks import Networks

DEPTH, LEVELS = 0.3, 30


def edit(net: Networks, x: Tensor, target: Tensor, scales: Sequence[float], noise: NoiseSource) -> list[Tensor]:
    """x (B, C, H, W) in [-1, 1] edited to target (B,) with each scale."""
    schedule, tau = net.schedule, make_tau(net.schedule, DEPTH, LEVELS)
    top = q_sample(schedule, x, tau[-1], noise.like(x))
    found = []
    for scale in scales:
        z = top
        for a, b in zip(tau[:0:-1], tau[-2::-1], strict=True):
            z = ddpm_step(schedule, z, net.guided(z, a, target, scale), a, b, "beta_tilde", noise.like(z))
        found.append(z)
    return found
