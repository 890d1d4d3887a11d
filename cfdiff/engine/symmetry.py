"""Mirror images and quarter turns: which of them a kind of data has, and how images are turned into them."""

from __future__ import annotations

import itertools
from typing import Literal

import torch
from torch import Tensor

Symmetry = Literal["none", "flip", "dihedral"]
"""Which mirror images of an image are as good as it: none; that of left and right ("flip"); or all eight symmetries of
a square, of a rectangle the four that keep its sides ("dihedral")."""


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
    may = axes(kind, x.shape[-2] == x.shape[-1])
    ways = itertools.product(*((False, True) if allowed else (False,) for allowed in may))
    return torch.stack([turned(x, torch.tensor([way] * len(x), device=x.device)) for way in ways])
