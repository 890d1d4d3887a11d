"""Mirror images and quarter turns: which of them a kind of data has, and how images are turned into them."""

from __future__ import annotations

import itertools
import math
from typing import Literal

import torch
from torch import Tensor

Symmetry = Literal["none", "flip", "dihedral"]
"""Which mirror images of an image are as good as it: none; that of left and right ("flip"); or all eight symmetries of
a square, of a rectangle the four that keep its sides ("dihedral")."""

GOLDEN = (math.sqrt(5) - 1) / 2


def axes(kind: Symmetry, square: bool) -> tuple[bool, bool, bool]:
    """Whether images may be mirrored left and right, mirrored up and down, and transposed."""
    ways = {"none": (False, False, False), "flip": (True, False, False), "dihedral": (True, True, square)}
    return ways[kind]


def turned(x: Tensor, coins: Tensor) -> Tensor:
    """Images (b, C, H, W), each mirrored left and right, up and down, and transposed, in this order, where `coins`
    (b, 3) bool say so."""
    coins = coins[:, :, None, None, None]
    x = torch.where(coins[:, 0], x.flip(-1), x)
    x = torch.where(coins[:, 1], x.flip(-2), x)
    return torch.where(coins[:, 2], x.transpose(-1, -2), x) if coins[:, 2].any() else x


def views(x: Tensor, kind: Symmetry) -> Tensor:
    """(v, b, C, H, W): images (b, C, H, W) in each of the v = 1, 2, 4 or 8 ways of `kind`, as they are first."""
    return torch.stack([_seen(x, way) for way in _ways(x, kind)])


def view_at(x: Tensor, kind: Symmetry, level: int) -> Tensor:
    """Images (b, C, H, W) in the one way of `kind` that a noise level has: neighbouring levels have others.

    Which one depends on nothing else, so that an image is seen alike in any batch. The golden ratio's multiples are
    spread evenly, whatever steps the levels are in.
    """
    ways = _ways(x, kind)
    return _seen(x, ways[int(len(ways) * (level * GOLDEN % 1))])


def _ways(x: Tensor, kind: Symmetry) -> list[tuple[bool, ...]]:
    """What is done along each of the `axes`; nothing first."""
    may = axes(kind, x.shape[-2] == x.shape[-1])
    return list(itertools.product(*((False, True) if allowed else (False,) for allowed in may)))


def _seen(x: Tensor, way: tuple[bool, ...]) -> Tensor:
    return turned(x, torch.tensor(way, device=x.device).expand(len(x), 3)) if any(way) else x
