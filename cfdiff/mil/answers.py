"""What a trained bag model says of bags, in memory-sized pieces, without a graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cfdiff.data.values import to_model
from cfdiff.mil.series import BagSet, Series
from cfdiff.models.bag_network import BagAnswer, BagNetwork

CHUNK = 256
"""Instances through an encoder at once."""


@dataclass(frozen=True, eq=False)
class Said:
    """The answer to one bag in V versions, as numpy arrays: score (V,), attention (V, n)."""

    bag: Series
    score: np.ndarray
    attention: np.ndarray

    @property
    def probability(self) -> np.ndarray:
        """(V,) sigmoid(score): of positive, or the fraction of positives."""
        return 1 / (1 + np.exp(-self.score))


def as_input(contents: np.ndarray) -> Tensor:
    """Images as stored -> (R, C, H, W) in [-1, 1]; features -> (R, D) float32."""
    return to_model(contents) if contents.ndim == 4 else torch.from_numpy(np.ascontiguousarray(contents, np.float32))


@torch.no_grad()
def encoded(net: BagNetwork, contents: np.ndarray, device: torch.device) -> np.ndarray:
    """(P, D) float32 features of images, by the encoder in eval mode, before they are standardised."""
    was = net.training
    net.eval()
    parts = [
        net.encode(as_input(contents[i : i + CHUNK]).to(device)).float().cpu().numpy()
        for i in range(0, len(contents), CHUNK)
    ]
    net.train(was)
    return np.concatenate(parts)


@torch.no_grad()
def embeddings(net: BagNetwork, contents: np.ndarray, rows: np.ndarray, device: torch.device) -> Tensor:
    """(R, d) embeddings of some rows of the contents."""
    parts = [net.embed(as_input(contents[rows[i : i + CHUNK]]).to(device)).float() for i in range(0, len(rows), CHUNK)]
    return torch.cat(parts)


@torch.no_grad()
def answer(net: BagNetwork, contents: np.ndarray, bag: Series, device: torch.device) -> BagAnswer:
    """The answer to one bag at all its versions; each instance is embedded once."""
    rows, back = np.unique(bag.rows, return_inverse=True)
    embedding = embeddings(net, contents, rows, device)
    return net.answer(embedding[torch.from_numpy(back.reshape(bag.rows.shape)).to(device)])


def say(net: BagNetwork, bags: BagSet, series: Sequence[Series], device: torch.device) -> Iterator[Said]:
    """The answers to bags, one after the other."""
    net.eval()
    for one in series:
        found = answer(net, bags.contents, one, device)
        yield Said(one, found.score.float().cpu().numpy(), found.attention.float().cpu().numpy())
