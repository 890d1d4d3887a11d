"""ACE (Jeanneret et al. 2023, Adversarial counterfactual visual explanations), algorithms 1 and 2.

An attack on the classifier behind the diffusion model: x is noised to 5 of 50 respaced steps and denoised, and the
gradient of the classifier's loss goes back through all of it. PGD with steps of 1/255 and an L1 penalty. Then RePaint:
where the attack changed less than a share of its most, dilated, the source comes back. What is chosen is the number
of iterations, of which the paper takes 50: the attacks that take fewer are its beginning.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cfdiff.engine import NoiseSource, make_tau, q_sample
from peers.chain import posterior_step
from peers.networks import Networks

DEPTH, LEVELS = 0.1, 5
STEP = 2 / 255
"""1/255 of the full range, which is 2 here."""
L1 = 0.001
INPAINT, GROW = 0.15, 5
"""As published; they dilate by 15 pixels of 128."""


def edit(net: Networks, x: Tensor, target: Tensor, scales: Sequence[float], noise: NoiseSource) -> list[Tensor]:
    """x (B, C, H, W) in [-1, 1] edited to target (B,) after each number of iterations, increasing."""
    tau, attacked, found = make_tau(net.schedule, DEPTH, LEVELS), x, []
    for iteration in range(1, int(scales[-1]) + 1):
        slope = loss_gradient(net, attacked, target, tau, noise) + L1 * torch.sign(attacked - x)
        attacked = (attacked - STEP * torch.sign(slope)).clamp(-1, 1)
        if iteration in scales:
            found.append(repainted(net, x, attacked, tau, noise))
    return found


def loss_gradient(net: Networks, x: Tensor, target: Tensor, tau: list[int], noise: NoiseSource) -> Tensor:
    """Gradient of -log p(target) of x noised and denoised, through the network."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        z = q_sample(net.schedule, x, tau[-1], noise.like(x))
        for a, b in zip(tau[:0:-1], tau[-2::-1], strict=True):
            z, variance = posterior_step(net.schedule, z, net.eps(z, a), a, b)
            if b > 0:
                z = z + variance**0.5 * noise.like(z)
        log_p = net.cast.clean_log_prob(z).gather(1, target[:, None])
        net.calls += (len(tau) - 1) * len(x)  # and back through each
        net.gradients += len(x)
        return torch.autograd.grad(-log_p.sum(), x)[0]


def repainted(net: Networks, x: Tensor, attacked: Tensor, tau: list[int], noise: NoiseSource) -> Tensor:
    """The attack filtered by the chain, with the source where it changed little."""
    change = (attacked - x).abs().sum(1, keepdim=True)
    change = change / change.amax((1, 2, 3), keepdim=True).clamp_min(1e-12)
    inside = (F.max_pool2d(change, GROW, 1, GROW // 2) >= INPAINT).float()
    z = q_sample(net.schedule, attacked, tau[-1], noise.like(x))
    for a, b in zip(tau[:0:-1], tau[-2::-1], strict=True):
        z = inside * z + (1 - inside) * q_sample(net.schedule, x, a, noise.like(x))
        z, variance = posterior_step(net.schedule, z, net.eps(z, a), a, b)
        if b > 0:
            z = z + variance**0.5 * noise.like(z)
    return inside * z + (1 - inside) * x
