"""Which bags, at which mixes, a step of training sees: a function of (seed, step), so that a resumed run repeats it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from cfdiff.engine import seed_of
from cfdiff.engine.symmetry import Symmetry, turned
from cfdiff.mil.series import Series
from cfdiff.mil.targets import Labelled
from cfdiff.train.batches import Draws, symmetries

FEW = (1, 2)
"""Positives in a low mix."""


@dataclass(frozen=True, eq=False)
class BagBatch:
    """One pass's share of a batch.

    Attributes:
        rows: (R,) int64 places in the contents, once for each place of each bag that shows them.
        places: (R, 2) int64, the number of that bag in the whole batch of the step, and the place in it.
        bags: (V, n) int64 places in `rows`, a tensor a bag: first the real ones, then those at several mixes.
        told: what is known of each.
        real: how many are real.
    """

    rows: np.ndarray
    places: np.ndarray
    bags: list[Tensor]
    told: list[Labelled]
    real: int


class BagBatches:
    """Endless shuffled passes over real bags, and over the same bags at several mixes.

    With `balance` half of the real bags are positive. The first version of a bag, where it is real, is always among
    those drawn; of the others, low mixes (one or two positives) are `low` times as likely.
    """

    def __init__(
        self,
        real: Sequence[Series],
        mixes: Sequence[Series],
        *,
        size: int,
        versions: int,
        low: float,
        balance: bool,
        seed: int,
        accumulate: int = 1,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.real, self.mixes, self.size, self.versions, self.low = real, mixes, size, versions, low
        self.seed, self.rank, self.world, self.cuts = seed, rank, world, accumulate * world
        pools = [np.array([i for i, one in enumerate(real) if one.classes[0] == k]) for k in (0, 1)]
        balanced = balance and all(len(pool) for pool in pools) and size > 1
        self.pools = pools if balanced else [np.arange(len(real))]
        self.shares = [size - size // 2, size // 2] if balanced else [size]
        self._shuffled = lru_cache(maxsize=8)(self._shuffle)

    def read(self, step: int, part: int = 0) -> BagBatch:
        """This process's share of pass `part` of the batch of `step`."""
        mine = slice(part * self.world + self.rank, None, self.cuts)
        shares = zip(self.pools, self.shares, strict=True)
        chosen = np.concatenate([self._take(f"real{p}", pool, step * n, n) for p, (pool, n) in enumerate(shares)])
        bags = [self.real[i].version([0]) for i in chosen[mine].tolist()]
        numbers = list(range(self.size))[mine]
        real = len(bags)
        if self.mixes:
            places = self._take("mix", np.arange(len(self.mixes)), step * self.size, self.size)
            bags += [self._drawn(self.mixes[i], step, k) for k, i in list(enumerate(places.tolist()))[mine]]
            numbers += [self.size + k for k in numbers]
        shown = np.concatenate([_shown(one, number) for one, number in zip(bags, numbers, strict=True)])
        once, back = np.unique(shown, axis=0, return_inverse=True)
        cuts = np.cumsum([one.rows.size for one in bags])[:-1]
        placed = [
            torch.from_numpy(part.reshape(one.rows.shape))
            for part, one in zip(np.split(back.reshape(-1), cuts), bags, strict=True)
        ]
        return BagBatch(once[:, 2], once[:, :2], placed, [labelled(one) for one in bags], real)

    def _drawn(self, one: Series, step: int, k: int) -> Series:
        rng = np.random.default_rng(seed_of(self.seed, f"versions/{step}/{k}"))
        weight = np.where(np.isin(one.positives, FEW), self.low, 1.0)
        first = [0] if one.real else []
        weight[first] = 0
        n = min(self.versions, len(one)) - len(first)
        others = rng.choice(len(one), n, replace=False, p=weight / weight.sum())
        return one.version([*first, *sorted(others.tolist())])

    def _take(self, name: str, pool: np.ndarray, start: int, n: int) -> np.ndarray:
        epochs, places = np.divmod(np.arange(start, start + n), len(pool))
        orders = [self._shuffled(name, len(pool), e)[i] for e, i in zip(epochs.tolist(), places.tolist(), strict=True)]
        return pool[np.array(orders)]

    def _shuffle(self, name: str, n: int, epoch: int) -> np.ndarray:
        return np.random.default_rng(seed_of(self.seed, f"{name}/{epoch}")).permutation(n)


def _shown(one: Series, number: int) -> np.ndarray:
    """(V n, 3) int64: the bag's number, the place in it, and what stands there, of every version."""
    place = np.broadcast_to(np.arange(one.size), one.rows.shape)
    return np.stack([np.full_like(one.rows, number), place, one.rows], axis=-1).reshape(-1, 3)


def turned_by_place(images: Tensor, batch: BagBatch, kind: Symmetry, seed: int, step: int) -> Tensor:
    """Images (R, C, H, W) of a batch after random symmetries: one for each place of a bag, whatever stands there.

    An image and its edit, its sham or its stand-in are compared, so what differs must be the edit and not the turn.
    The draws hang on the bag's number in the whole batch, and so not on --accumulate or the number of processes.
    """
    if kind == "none":
        return images
    height, width = images.shape[-2:]
    coins = images.new_empty(len(images), 3, dtype=torch.bool)
    for number in np.unique(batch.places[:, 0]).tolist():
        here = np.flatnonzero(batch.places[:, 0] == number)
        place = torch.from_numpy(batch.places[here, 1]).to(images.device)
        draws = Draws(seed_of(seed, f"augment/{step}/{number}"), int(place.max()) + 1, slice(None), images.device)
        coins[torch.from_numpy(here).to(images.device)] = symmetries(draws, kind, height == width)[place]
    return turned(images, coins)


def labelled(one: Series) -> Labelled:
    """What is known of a bag, as tensors."""
    return Labelled(torch.from_numpy(one.labels), torch.from_numpy(one.classes.astype(np.int64)))
