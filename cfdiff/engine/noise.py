"""One generator per image, so that an image's noise depends on (seed, id) and on nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor


def seed_of(seed: int, id: str) -> int:
    """63 bits of sha256 over (seed, id): the same on every machine, whatever PYTHONHASHSEED is."""
    digest = hashlib.sha256(f"{seed}\0{id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class NoiseSource:
    """Standard normal noise for a batch of named images.

    The k-th draw for an image is the same whatever else is in the batch and whatever the device: it is made
    on the CPU and moved. A source has a position; to draw the same again, make a new one.
    """

    def __init__(self, seed: int, ids: Iterable[str]) -> None:
        self._generators = [torch.Generator().manual_seed(seed_of(seed, id)) for id in ids]

    def like(self, x: Tensor) -> Tensor:
        """The next draw, shaped, typed and placed like `x` (B, ...); B is the number of ids."""
        draws = [torch.randn(x.shape[1:], generator=g) for g in self._generators]
        return torch.stack(draws).to(x)
