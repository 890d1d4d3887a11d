"""A space: where diffusion runs. The editor, the trainings and doctor know no other difference between spaces."""

from __future__ import annotations

from typing import Protocol

import torch.nn.functional as F
from torch import Tensor


class Space(Protocol):
    """Images (B, C, H, W) in [-1, 1] on one side, what the diffusion model sees (B, c, h, w) on the other.

    Attributes:
        discrete: whether z has the bins of the pixels, so that a bound in bits a dimension means something.
    """

    discrete: bool

    def shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        """(c, h, w) of an image's encoding."""
        ...

    def encode(self, x: Tensor) -> Tensor:
        """z of images x."""
        ...

    def decode(self, z: Tensor) -> Tensor:
        """x of z, with its gradient: clean classifiers steer through it."""
        ...

    def saved(self, x: Tensor, z: Tensor, edited: Tensor) -> Tensor:
        """The images x, of which z is the encoding, after the edit of z to `edited`; x itself, bit for bit, for z."""
        ...

    def mask(self, mask: Tensor) -> Tensor:
        """A mask of pixels (B, 1, H, W) in [0, 1] as one of z, (B, 1, h, w): open where any of its pixels is."""
        ...


class PixelSpace:
    """The identity."""

    discrete = True

    def shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        return channels, height, width

    def encode(self, x: Tensor) -> Tensor:
        return x

    def decode(self, z: Tensor) -> Tensor:
        return z

    def saved(self, x: Tensor, z: Tensor, edited: Tensor) -> Tensor:
        return edited

    def mask(self, mask: Tensor) -> Tensor:
        return mask


def saved_by_difference(space: Space, x: Tensor, z: Tensor, edited: Tensor) -> Tensor:
    """x + D(edited) - D(z): what the decoder cannot draw is not lost, and no edit is no change, bit for bit."""
    return x + (space.decode(edited) - space.decode(z))


def reduced(mask: Tensor, factor: int) -> Tensor:
    """A mask (B, 1, H, W) at 1/factor of its size, the highest of each patch."""
    return F.max_pool2d(mask, factor)
