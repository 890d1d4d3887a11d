"""The networks that every peer works with, and the count of what it asks of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cfdiff.edit.cast import Cast
from cfdiff.engine import NoiseSchedule, x0_from_eps
from cfdiff.engine.guidance import grad_log_prob


@dataclass(eq=False)
class Networks:
    """Denoiser, noise-aware guide and checkers of one cast, as plain functions of tensors.

    Attributes:
        cast: the models.
        calls: calls of the denoiser so far, each times the images of it; a pass back through it is one more.
        gradients: gradients of a classifier so far, each times its images.
    """

    cast: Cast
    calls: int = 0
    gradients: int = 0

    @property
    def schedule(self) -> NoiseSchedule:
        """Of the denoiser."""
        return self.cast.schedule

    def eps(self, x: Tensor, level: int) -> Tensor:
        """eps_theta(x_l, level) as x (B, C, H, W), in its dtype; the network sees float32."""
        self.calls += len(x)
        return self.cast.denoise(x.float(), level).to(x.dtype)

    def log_odds(self, x0: Tensor, target: Tensor) -> Tensor:
        """(B,) log p(target | x_0) / p(other | x_0) of the checkers; unlike log p its slope does not vanish."""
        log_p = self.cast.clean_log_prob(x0.float())
        here = target[:, None]
        return (log_p.gather(1, here) - log_p.gather(1, 1 - here))[:, 0]

    def clean_gradient(self, x0: Tensor, target: Tensor) -> Tensor:
        """grad of log p(target | x_0) of the checkers with respect to x0 (B, C, H, W)."""
        self.gradients += len(x0)
        return grad_log_prob(self.cast.clean_log_prob, x0.float(), target).to(x0.dtype)

    def odds_gradient(self, x0: Tensor, target: Tensor) -> Tensor:
        """As `clean_gradient`, of the log-odds."""
        self.gradients += len(x0)
        with torch.enable_grad():
            x0 = x0.detach().requires_grad_()
            return torch.autograd.grad(self.log_odds(x0, target).sum(), x0)[0]

    def noisy_gradient(self, x: Tensor, level: int, target: Tensor) -> Tensor:
        """grad_x log p(target | x_l) of the noise-aware guide, as x (B, C, H, W)."""
        self.gradients += len(x)
        ask = self.cast.guide_log_prob
        return grad_log_prob(lambda x: ask(x, level), x.float(), target).to(x.dtype)

    def both_gradients(self, x: Tensor, level: int, eps: Tensor, target: Tensor) -> Tensor:
        """The guide's gradient on x_l and the checkers' on Tweedie's x0_hat, added: what steers cfdiff too."""
        signal, _ = self.schedule.signal_noise(level, x)
        x0_hat = x0_from_eps(self.schedule, x, level, eps)
        return self.noisy_gradient(x, level, target) + self.clean_gradient(x0_hat, target) / signal

    def guided(self, x: Tensor, level: int, target: Tensor, scale: float) -> Tensor:
        """eps - scale sqrt(1 - ab_l) g with g of both (Dhariwal & Nichol 2021, algorithm 2), no clamp, no stop."""
        eps = self.eps(x, level)
        if not scale:
            return eps
        _, noise = self.schedule.signal_noise(level, x)
        return eps - scale * noise * self.both_gradients(x, level, eps, target)
