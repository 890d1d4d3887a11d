"""Wolleb et al. 2022, Diffusion models for medical anomaly detection, algorithm 1.

DDIM up to level L without guidance, and down again with eps - s sqrt(1 - ab) grad log p(target | x_l) of the
noise-aware classifier, at every level. No anchor, no clamp, no checker.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from cfdiff.engine import NoiseSource, ddim_step, make_tau
from peers.networks import Networks

DEPTH = 0.5
"""L = 500 of T = 1000, as published."""


def edit(
    net: Networks, x: Tensor, target: Tensor, scales: Sequence[float], noise: NoiseSource, levels: int = 500
) -> list[Tensor]:
    """x (B, C, H, W) in [-1, 1] edited to target (B,) with each scale; `levels` of the L are walked, evenly."""
    schedule, tau = net.schedule, make_tau(net.schedule, DEPTH, levels)
    top = x
    for a, b in zip(tau, tau[1:], strict=False):
        top = ddim_step(schedule, top, net.eps(top, max(a, 1)), a, b)
    found = []
    for scale in scales:
        z = top
        for a, b in zip(tau[:0:-1], tau[-2::-1], strict=True):
            _, sigma = schedule.signal_noise(a, z)
            eps = net.eps(z, a) - scale * sigma * net.noisy_gradient(z, a, target)
            z = ddim_step(schedule, z, eps, a, b)
        found.append(z)
    return found
