"""Training batches as a function of (seed, step): stopping and resuming changes nothing."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cfdiff.data.open import open_source
from cfdiff.data.source import Source
from cfdiff.data.values import to_model
from cfdiff.errors import UserError
from cfdiff.workflows.settings import TrainSettings

CACHE_BYTES = 2 << 30


class Batches:
    """Endless shuffled passes over a source; with `balance`, half of every batch is positive.

    Each process of `world` gets its own slice of every batch.
    """

    def __init__(
        self,
        source: Source,
        batch_size: int,
        seed: int,
        *,
        balance: bool = False,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.source, self.seed, self.rank, self.world = source, seed, rank, world
        pools = [np.flatnonzero(source.labels == k) for k in (0, 1)] if balance else [np.arange(len(source))]
        self.pools = pools
        self.shares = [batch_size - batch_size // 2, batch_size // 2] if balance else [batch_size]
        size = len(source) * int(np.prod(source.shape)) * source.dtype.itemsize
        self.cache = source.read(np.arange(len(source))) if size <= CACHE_BYTES else None
        self.permutations: dict[tuple[int, int], np.ndarray] = {}

    def indices(self, step: int) -> np.ndarray:
        """The rows of the whole batch of `step`."""
        parts = []
        for pool, share in enumerate(self.shares):
            position = np.arange(step * share, (step + 1) * share)
            parts.append([self._row(pool, p) for p in position.tolist()])
        return np.concatenate(parts).astype(np.int64)

    def read(self, step: int) -> tuple[Tensor, Tensor]:
        """This process's images (B, C, H, W) in [-1, 1] and labels (B,) int64."""
        rows = self.indices(step)[self.rank :: self.world]
        images = self.source.read(rows) if self.cache is None else self.cache[rows]
        return to_model(images), torch.from_numpy(self.source.labels[rows].astype(np.int64))

    def _row(self, pool: int, position: int) -> int:
        epoch, at = divmod(position, len(self.pools[pool]))
        key = (pool, epoch)
        if key not in self.permutations:
            self.permutations = {k: v for k, v in self.permutations.items() if k[1] >= epoch - 1}
            rng = np.random.default_rng([self.seed, pool, epoch])
            self.permutations[key] = rng.permutation(self.pools[pool])
        return int(self.permutations[key][at])


def augment(x: Tensor, kind: str, shift: int = 0, gain: float = 0.0) -> Tensor:
    """Random flips ("flip") or flips and quarter turns ("dihedral"), shifts and brightness of (B, C, H, W) in [-1, 1].

    Quarter turns need square images; brightness multiplies [0, 1] values, so that a black background stays black.
    """
    n, _, height, width = x.shape
    if kind != "none":
        turns = (
            torch.randint(0, 4, (n,)) if kind == "dihedral" and height == width else torch.zeros(n, dtype=torch.int64)
        )
        mirror = torch.rand(n) < 0.5
        x = torch.stack(
            [
                torch.rot90(image.flip(-1) if m else image, int(k), (-2, -1))
                for image, m, k in zip(x, mirror.tolist(), turns.tolist(), strict=True)
            ]
        )
    if shift:
        padded = F.pad(x, (shift,) * 4, mode="replicate")
        offsets = torch.randint(0, 2 * shift + 1, (n, 2)).tolist()
        x = torch.stack([p[:, i : i + height, j : j + width] for p, (i, j) in zip(padded, offsets, strict=True)])
    if gain:
        factor = 1 + gain * (2 * torch.rand(n, 1, 1, 1) - 1)
        x = ((x + 1) * factor - 1).clamp(max=1)
    return x


def draw_levels(n: int, T: int, power: float, clean_share: float = 0.0) -> Tensor:
    """(n,) int64 levels in 1..T as T u^power, stratified over the batch; a share of them at level 0."""
    u = (torch.randperm(n) + torch.rand(n)) / n
    levels = (T * u**power).long().clamp(max=T - 1) + 1
    return torch.where(torch.rand(n) < clean_share, 0, levels)


def train_and_validation(s: TrainSettings) -> tuple[Source, Source]:
    """The two sources of a training: named splits, the data's own, or a tenth of the groups held out."""
    options: dict[str, Any] = {"negative": s.negative, "positive": s.positive, "group_key": s.group_key}
    whole = open_source(s.data, **options)
    known = [] if whole.splits is None else [str(k) for k in np.unique(whole.splits)]
    split = s.split or next((k for k in ("train", "train-guide") if k in known), None)
    val_split = s.val_split or next((k for k in ("val", "valid", "validation") if k in known), None)
    train = whole if split is None else open_source(s.data, split=split, **options)
    if val_split is not None and val_split != split:
        return train, open_source(s.data, split=val_split, limit=s.val_limit, **options)
    units = train.ids if train.groups is None else train.groups
    held = np.array([int(hashlib.sha256(f"val/{u}".encode()).hexdigest()[:8], 16) % 10 == 0 for u in units])
    if held.all() or not held.any():
        raise UserError(
            f"{train.name} has too few images or groups to hold a tenth out for validation: name one with --val-split."
        )
    validation = train.select(np.flatnonzero(held)[: s.val_limit])
    return train.select(np.flatnonzero(~held)), validation
