"""Attention over the positions of an image: to themselves, and to a sequence of tokens.

    softmax(Q K^T / sqrt(d)) V        (Vaswani et al. 2017, eq. 1), added to the image

Self-attention takes Q, K and V of the image. Cross-attention takes Q of the image, K and V of the tokens (Rombach et
al. 2022, section 3.3). Both end in a layer that begins at zero, so a new one changes nothing.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head self-attention over all positions, residual; PyTorch picks the kernel (SDPA)."""

    def __init__(self, channels: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads_of(channels, head_width)
        self.norm, self.qkv = group_norm(channels), nn.Conv2d(channels, 3 * channels, 1)
        self.out = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        b, c, height, width = x.shape
        qkv = self.qkv(self.norm(x)).flatten(2).view(b, 3, self.heads, c // self.heads, -1).transpose(-1, -2)
        h = attend(*qkv.unbind(1))
        return x + self.out(h.transpose(-1, -2).reshape(b, c, height, width))


class CrossAttention(nn.Module):
    """Multi-head attention of the positions of an image to tokens, residual: (B, C, H, W), (B, L, d) -> (B, C, H,
    W)."""

    def __init__(self, channels: int, tokens: int, head_width: int) -> None:
        """`tokens` is d, the width of a token."""
        super().__init__()
        self.heads = heads_of(channels, head_width)
        self.norm, self.norm_tokens = group_norm(channels), nn.LayerNorm(tokens)
        self.q, self.kv = nn.Linear(channels, channels), nn.Linear(tokens, 2 * channels)
        self.out = zeroed(nn.Linear(channels, channels))

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        b, c, height, width = x.shape
        positions = self.norm(x).flatten(2).transpose(1, 2)
        k, v = self.kv(self.norm_tokens(tokens)).chunk(2, dim=2)
        parts = (part.view(b, -1, self.heads, c // self.heads).transpose(1, 2) for part in (self.q(positions), k, v))
        h = attend(*parts).transpose(1, 2).reshape(b, height * width, c)
        return x + self.out(h).transpose(1, 2).reshape(b, c, height, width)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention by SDPA; in float32 on a CPU, where its gradient in bfloat16 takes nearly twice as long."""
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v)
    with torch.autocast("cpu", enabled=False):
        return F.scaled_dot_product_attention(q.float(), k.float(), v.float())


def heads_of(channels: int, head_width: int) -> int:
    """How many heads of about that width divide the channels."""
    wanted = max(1, channels // head_width)
    return next(n for n in range(wanted, 0, -1) if channels % n == 0)


class GroupNorm(nn.GroupNorm):
    """In float32, as autocast has it on a GPU; on a CPU its bfloat16 takes up what convolutions gain by it."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float())


def group_norm(channels: int) -> GroupNorm:
    """In at most 32 groups."""
    return GroupNorm(math.gcd(32, channels), channels)


def zeroed(module: Any) -> Any:
    """Zero-initialised, so that every residual branch starts as the identity."""
    for p in module.parameters():
        nn.init.zeros_(p)
    return module
