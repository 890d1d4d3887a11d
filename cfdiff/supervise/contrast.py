"""The pairs of one step: sources, counterfactuals, and where they may differ in what makes the class."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cfdiff.data.source import Source
from cfdiff.data.values import to_model
from cfdiff.engine.noise import seed_of
from cfdiff.errors import UserError
from cfdiff.supervise.invariance import relevant_part
from cfdiff.supervise.pairs import Pairs
from cfdiff.supervise.settings import SuperviseSettings
from cfdiff.train.batches import Batch, Batches, Draws, Light, augment

MakeBatches = Callable[..., Batches]
"""(source, size, seed, balance=) -> batches of this process."""


class Share(NamedTuple):
    """What a step is made of: `real` images of the data, and `pairs` sources with as many counterfactuals."""

    real: int
    pairs: int


class PairBatch(NamedTuple):
    """One pass's share of the pairs of a step: p sources, then their p counterfactuals.

    Images (2p, C, H, W) in [-1, 1], labels (2p,) int64, relevant (2p, 1, H, W) bool, and the random numbers of p rows.
    """

    images: Tensor
    labels: Tensor
    relevant: Tensor
    draws: Draws


def share_of(s: SuperviseSettings, cuts: int) -> Share:
    """How many images of each kind a step has; together `batch_size`, as plain training has.

    Args:
        cuts: passes times processes, of which each takes as much.

    Raises:
        UserError: the batch is too small to hold both.
    """
    pairs = cuts * round(s.batch_size * s.pairs_share / 2 / cuts)
    real = s.batch_size - 2 * pairs
    if pairs < 1 or real < 2 * cuts:
        raise UserError(
            f"--batch-size {s.batch_size} cut in {cuts} with --pairs-share {s.pairs_share:g} leaves {pairs} pairs and "
            f"{real} other images a step: take a larger --batch-size, or a share nearer to .5."
        )
    return Share(real, pairs)


class Contrast:
    """Batches of pairs, turned and shifted alike, so that a map stays the map of its pair."""

    def __init__(self, s: SuperviseSettings, train: Source, pairs: Pairs, size: int, make: MakeBatches) -> None:
        self.s, self.train, self.pairs = s, train, pairs
        balance = len(np.unique(pairs.labels)) == 2 and size > 1
        # Another seed than that of the other images: their turns and shifts are not to be the same.
        self.batches = make(pairs.source(train), size, seed_of(s.seed, "pairs"), balance=balance)

    def read(self, step: int, part: int) -> PairBatch:
        """This process's share of pass `part` of the pairs of `step`."""
        batch: Batch = self.batches.read(step, part)
        rows = self.pairs.rows[batch.rows]
        device = batch.images.device
        source = to_model(self.train.read(rows)).to(device)
        accepted = torch.from_numpy(self.pairs.accepted[batch.rows]).to(device)
        relevant = relevant_part(source, batch.images, accepted, self.s.map_share, self.s.map_grow)
        channels = source.shape[1]
        together = torch.cat([source, batch.images, relevant.float()], dim=1)
        together = augment(together, batch.draws, self.s.augment, self.s.shift)
        # One above the other, so that the same light falls on both.
        pair = torch.cat(together[:, : 2 * channels].split(channels, dim=1), dim=2)
        pair = Light(self.s.gain, self.s.gamma, self.s.cast).varied(pair, batch.draws)
        images = torch.cat(pair.split(source.shape[2], dim=2))
        before = torch.from_numpy(self.train.labels[rows].astype(np.int64)).to(device)
        relevant = (together[:, 2 * channels :] > 0.5).repeat(2, 1, 1, 1)
        return PairBatch(images, torch.cat([before, batch.labels]), relevant, batch.draws)
