"""A space: where diffusion runs. The editor, the trainings and doctor know no other difference between spaces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
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

    def saved(self, x: Tensor, z: Tensor, edited: Tensor, drawn: Tensor | None = None) -> Tensor:
        """The images x, of which z is the encoding, after the edit of z to `edited`; x itself, bit for bit, for z.

        `drawn` is decode(z), where it is known already.
        """
        ...

    def mask(self, mask: Tensor) -> Tensor:
        """A mask of pixels (B, 1, H, W) in [0, 1] as one of z, (B, 1, h, w): open where any of its pixels is."""
        ...


class FileSpace(Space, Protocol):
    """A space that is made of a file, which lies beside every model that runs there.

    Attributes:
        told: what a card says of it besides its name; models with the same are at home in one space.
    """

    told: dict[str, Any]

    @classmethod
    def of(cls, file: Path | None) -> FileSpace:
        """The space of a file, for a training; UserError where there is none."""
        ...

    @classmethod
    def beside(cls, model: Path, **told: Any) -> FileSpace:
        """The space of the model of that file or folder, by what its card says; UserError where it is not there."""
        ...

    def put_beside(self, model: Path, replace: bool = False) -> None:
        """Copy the file to where a model looks for it; UserError where that of another space is, unless `replace`."""
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

    def saved(self, x: Tensor, z: Tensor, edited: Tensor, drawn: Tensor | None = None) -> Tensor:
        return edited

    def mask(self, mask: Tensor) -> Tensor:
        return mask


def saved_by_difference(space: Space, x: Tensor, z: Tensor, edited: Tensor, drawn: Tensor | None = None) -> Tensor:
    """x + D(edited) - D(z): what the decoder cannot draw is not lost, and no edit is no change, bit for bit.

    The last bit of D may hang on the size of the batch, so an image whose z did not change is not asked for it.
    """
    drawn = space.decode(z) if drawn is None else drawn
    same = (edited == z).flatten(1).all(1).view(-1, 1, 1, 1)
    return torch.where(same, x, x + (space.decode(edited) - drawn))


def reduced(mask: Tensor, factor: int) -> Tensor:
    """A mask (B, 1, H, W) at 1/factor of its size, the highest of each patch."""
    return F.max_pool2d(mask, factor)


def encoded(space: Space, images: Tensor) -> Tensor:
    """z of images (N, C, H, W), some at a time."""
    return in_parts(space.encode, images)


def in_parts(f: Callable[[Tensor], Tensor], x: Tensor, batch: int = 64) -> Tensor:
    """f(x), `batch` at a time, without gradients."""
    with torch.no_grad():
        return torch.cat([f(some) for some in x.split(batch)])
