"""Between two noises: the way along the sphere, on which all noise lies."""

from __future__ import annotations

import torch
from torch import Tensor

_PARALLEL = 1e-4
"""Angle in radians under which the straight line and the arc agree to float32."""


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """sin((1 - t) w) / sin w a + sin(t w) / sin w b, w the angle between a and b (Shoemake 1985; Song et al. 2021, eq.
    67): a at t = 0, b at t = 1, bit for bit. A straight line would pass where there is too little noise.

    Args:
        a, b: (C, H, W) two noises, or two encoded images.
        t: (B,) places in [0, 1].

    Returns:
        (B, C, H, W) in the type of a.
    """
    p, q = a.flatten().double(), b.flatten().double()
    cosine = (p @ q / (p.norm() * q.norm()).clamp_min(torch.finfo(torch.float64).tiny)).clamp(-1, 1)
    w, t = torch.arccos(cosine), t.to(p).view(-1, *[1] * a.ndim)
    if float(w) < _PARALLEL or float(torch.pi - w) < _PARALLEL:  # on one line there is no one arc
        between = (1 - t) * a.double() + t * b.double()
    else:
        between = (torch.sin((1 - t) * w) * a.double() + torch.sin(t * w) * b.double()) / torch.sin(w)
    between = torch.where(t == 0, a.double(), torch.where(t == 1, b.double(), between))
    return between.to(a.dtype)
