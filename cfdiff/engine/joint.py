"""Joint guidance: a whole bag is steered to an exact count of positives.

    grad_{x_i} log P(K = k | X) = (q_i - p_i) grad l_i(x_i),      l_i = log p(positive | x_i) / p(negative | x_i)

with q_i = P(y_i = 1 | K = k, X) of engine.mixture. The instances are coupled by the numbers q_i - p_i alone, so two
chunked passes do: all logits without a graph, then the gradient of each chunk. Memory is flat in n. An assignment z
in place of q gives (z_i - p_i) grad l_i = grad log p(z_i | x_i): ordinary guidance, each instance to its own class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cfdiff.engine.encode import Trajectory
from cfdiff.engine.guidance import CleanLogProb, NoisyLogProb
from cfdiff.engine.mixture import count_posterior
from cfdiff.engine.schedule import NoiseSchedule

Posterior = Callable[[Tensor], Tensor]
"""Logits (n,) of all instances -> q (n,), the probability of each to be positive under what is asked of the bag."""


def exact_count(k: int) -> Posterior:
    """The bag shall hold exactly k positives."""
    return lambda logits: count_posterior(logits, k)


def assignment(z: Tensor) -> Posterior:
    """Each instance shall be what z (n,) says: 0 or 1."""
    return lambda logits: z.to(logits.device, torch.float64)


@dataclass(frozen=True)
class JointGuide:
    """A noise-aware classifier on every x_l of a bag.

    Attributes:
        log_prob: the classifier; an instance's logit is the difference of its two log-probabilities.
        posterior: what is asked of the bag.
        chunk: instances a pass through the classifier.
        temperature: level -> the number by which the logits are divided, so that their probabilities are true ones:
            the distribution of the count is only as good as they are.
        max_level: as for any guide.
    """

    log_prob: NoisyLogProb
    posterior: Posterior
    chunk: int = 64
    temperature: Callable[[int], float] | None = None
    max_level: int | None = None
    joint: bool = True

    def gradient(self, x: Tensor, level: int, eps: Tensor, x0_hat: Tensor, target: Tensor) -> Tensor:
        """grad_x log P(what is asked | x_l), as x (n, C, H, W); `target` is not used."""
        heat = 1.0 if self.temperature is None else self.temperature(level)
        return joint_gradient(lambda x: log_odds(self.log_prob(x, level)) / heat, x, self.posterior, self.chunk)


@dataclass(frozen=True)
class JointTweedieGuide:
    """A clean classifier on every x0_hat of a bag, in the cheap form of `TweedieGuide`."""

    schedule: NoiseSchedule
    log_prob_clean: CleanLogProb
    posterior: Posterior
    chunk: int = 64
    max_level: int | None = None
    joint: bool = True

    def gradient(self, x: Tensor, level: int, eps: Tensor, x0_hat: Tensor, target: Tensor) -> Tensor:
        """grad_{x0_hat} log P(what is asked | x0_hat) / sqrt(ab_l), as x (n, C, H, W); `target` is not used."""
        signal, _ = self.schedule.signal_noise(level, x)
        logit = lambda x0: log_odds(self.log_prob_clean(x0))  # noqa: E731
        return joint_gradient(logit, x0_hat, self.posterior, self.chunk) / signal


def joint_gradient(logit: Callable[[Tensor], Tensor], x: Tensor, posterior: Posterior, chunk: int) -> Tensor:
    """(q_i - p_i) grad l_i(x_i) for every instance of x (n, C, H, W), in two passes of `chunk` instances."""
    with torch.autocast(x.device.type, enabled=False):
        with torch.no_grad():
            logits = torch.cat([logit(part) for part in x.split(chunk)])
        weight = (posterior(logits) - torch.sigmoid(logits.double())).to(logits)
        parts = []
        for part, w in zip(x.split(chunk), weight.split(chunk), strict=True):
            with torch.enable_grad():
                part = part.detach().requires_grad_()
                parts.append(torch.autograd.grad((w * logit(part)).sum(), part)[0])
    return torch.cat(parts)


def log_odds(log_prob: Tensor) -> Tensor:
    """(B, 2) log-probabilities of negative and positive -> (B,) logit of positive."""
    return log_prob[:, 1] - log_prob[:, 0]


def chunked(denoise: Callable[..., Tensor], chunk: int) -> Callable[..., Tensor]:
    """The same denoiser, `chunk` images a call, so that a bag of any size fits in memory; what it is told, (n,), is cut
    alike."""

    def ask(x: Tensor, level: int, *told: Tensor) -> Tensor:
        parts = zip(x.split(chunk), *(classes.split(chunk) for classes in told), strict=True)
        return torch.cat([denoise(part, level, *here) for part, *here in parts])

    return ask


def count_reached(log_prob_clean: CleanLogProb, k: int, confidence: float, chunk: int) -> Callable[[Tensor], Tensor]:
    """The closed loop of a bag, as `Guidance.enough`: all of it stops together.

    It has enough where a clean classifier sees exactly k positives in x0_hat (n, C, H, W) and is sure of every one:
    at least `confidence` for one class or the other. `chunk` instances pass at once.
    """

    def enough(x0_hat: Tensor) -> Tensor:
        with torch.autocast(x0_hat.device.type, enabled=False):
            p = torch.cat([log_prob_clean(some).exp() for some in x0_hat.split(chunk)])
        reached = ((p.argmax(1) == 1).sum() == k) & (p.amax(1) >= confidence).all()
        return reached.expand(len(x0_hat))

    return enough


def join_paths(paths: list[Trajectory]) -> Trajectory:
    """Encoded paths of parts of a bag (the same tau) as that of the whole."""
    first = paths[0]
    x = [torch.cat(parts) for parts in zip(*(path.x for path in paths), strict=True)]
    eps = [
        torch.cat([path.eps_at(i) for path in paths]) if i else None  # there is no noise in the input
        for i in range(first.steps + 1)
    ]
    told = [path.told for path in paths if path.told is not None]
    return Trajectory(first.tau, x, eps, first.calls, first.schedule, torch.cat(told) if told else None)
