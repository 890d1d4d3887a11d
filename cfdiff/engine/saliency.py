"""Where a class stands in an image: to classifiers by the size of their gradients, to a conditional denoiser by how
much worse it does told the other class; and the place that it marks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cfdiff.engine.guidance import NoisyLogProb, grad_log_prob
from cfdiff.engine.noise import NoiseSource
from cfdiff.engine.process import q_sample
from cfdiff.engine.schedule import NoiseSchedule


def noisy_saliency(
    schedule: NoiseSchedule,
    log_prob: NoisyLogProb,
    x0: Tensor,
    target: Tensor,
    levels: Sequence[int],
    noise: NoiseSource,
    draws: int = 2,
) -> Tensor:
    """|grad log p(target | x_l)|, mean over levels and draws of noise: (B, 1, H, W), highest 1 in each image.

    SmoothGrad (Smilkov et al. 2017) with the noise that the classifier was trained on. x0 (B, C, H, W); target (B,)
    int64; levels in 1..T.
    """
    size = torch.zeros_like(x0[:, :1])
    for level in levels:
        for _ in range(draws):
            x = q_sample(schedule, x0, level, noise.like(x0))
            size += clean_saliency(lambda x, level=level: log_prob(x, level), x, target)  # type: ignore[misc]
    return _to_one(size)


def clean_saliency(log_prob: Callable[[Tensor], Tensor], x: Tensor, target: Tensor) -> Tensor:
    """|grad log p(target | x)|, mean over channels, (B, 1, H, W), highest 1 in each image (Simonyan et al. 2014)."""
    return _to_one(grad_log_prob(log_prob, x, target).abs().mean(1, keepdim=True))


@torch.no_grad()
def contrast(
    schedule: NoiseSchedule,
    denoise: Callable[[Tensor, int, Tensor], Tensor],
    x0: Tensor,
    target: Tensor,
    levels: Sequence[int],
    noise: NoiseSource,
    draws: int,
    blur: int = 5,
) -> Tensor:
    """Where a denoiser foresees the noise worse told `target` than told the other class: (B, 1, H, W), highest 1.

    ||eps - eps_theta(x_l, target)||^2 - ||eps - eps_theta(x_l, 1 - target)||^2 of each pixel, where the sum over all is
    the classifier that the denoiser implies (Li et al. 2023, "Your diffusion model is secretly a zero-shot
    classifier"). Mean over channels and draws, smoothed by a box of `blur` pixels (odd), nothing below 0, each level
    over its mean size, added. It takes 2 `draws` network calls a level. 0 everywhere where the class makes no
    difference at all; how large it is, the map does not say.

    Args:
        denoise: (x_l (B, C, H, W), level, class (B,) int64) -> eps_theta.
        x0, target, levels: as of `noisy_saliency`.
    """
    size = torch.zeros_like(x0[:, :1])
    for level in levels:
        gap = torch.zeros_like(size)
        for _ in range(draws):
            eps = noise.like(x0)
            x = q_sample(schedule, x0, level, eps)
            wrong, right = ((eps - denoise(x, level, told)).square() for told in (target, 1 - target))
            gap += (wrong - right).mean(1, keepdim=True)
        usual = gap.abs().mean((1, 2, 3), keepdim=True).clamp_min(torch.finfo(gap.dtype).tiny)
        size += F.avg_pool2d(gap, blur, 1, blur // 2, count_include_pad=False).clamp_min(0) / usual
    return _to_one(size)


def joined(maps: Sequence[Tensor], blur: int = 5) -> Tensor:
    """Maps (B, 1, H, W) added and smoothed by a box of `blur` pixels (odd), highest 1 in each image."""
    size = torch.stack(list(maps)).sum(0)
    return _to_one(F.avg_pool2d(size, blur, 1, blur // 2, count_include_pad=False))


def place(saliency: Tensor, share: float, grow: int) -> Tensor:
    """(B, 1, H, W) float, 1 in the `share` of highest pixels, dilated by a square of side `grow` (odd), else 0."""
    return _from(saliency, saliency.flatten(1).quantile(1 - share, dim=1), grow)


def place_holding(saliency: Tensor, mass: float, grow: int) -> Tensor:
    """(B, 1, H, W) float, 1 in the fewest pixels that hold `mass` of an image's saliency (0 to 1), dilated as `place`.

    Where a small defect has all of it the place is small, and where it is spread the place is large. All pixels of an
    image without any.
    """
    values = saliency.flatten(1).double().sort(1, descending=True).values
    above = values.cumsum(1) - values
    count = (above < mass * values.sum(1, keepdim=True)).sum(1, keepdim=True)
    return _from(saliency, values.gather(1, (count - 1).clamp_min(0)), grow)


def _from(saliency: Tensor, threshold: Tensor, grow: int) -> Tensor:
    """1 where the saliency is a threshold of each image (B,) at least, dilated by a square of side `grow` (odd)."""
    return F.max_pool2d((saliency >= threshold.view(-1, 1, 1, 1)).float(), grow, 1, grow // 2)


def _to_one(size: Tensor) -> Tensor:
    highest = size.flatten(1).amax(1).view(-1, 1, 1, 1)
    return size / highest.clamp_min(torch.finfo(size.dtype).tiny)
