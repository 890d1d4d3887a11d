"""How much of a bag's score is each instance's: the entries of registry.ATTRIBUTIONS."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cfdiff.models.bag_network import BagNetwork

Attribution = Callable[[BagNetwork, Tensor], Tensor]
"""(network, embeddings (n, d) of a bag) -> (n,), higher for more positive."""
CHUNK = 64
"""Bags without one instance that are asked at once."""


@torch.no_grad()
def attention(net: BagNetwork, embedding: Tensor) -> Tensor:
    """The attention of the model, >= 0 and of sum 1. It says where the model looks, not which way it is moved."""
    return net.answer(embedding[None]).attention[0]


def gradient(net: BagNetwork, embedding: Tensor) -> Tensor:
    """h_i . d score / d h_i, the gradient times the input (Shrikumar et al. 2017), in logits."""
    h = embedding.detach().clone().requires_grad_()
    with torch.enable_grad():
        slope = torch.autograd.grad(net.answer(h[None]).score.sum(), h)[0]
    return (h * slope).sum(1).detach()


@torch.no_grad()
def removal(net: BagNetwork, embedding: Tensor) -> Tensor:
    """score(bag) - score(bag without i), in logits: exact, and n passes of the pooling. 0 for a bag of one."""
    n = len(embedding)
    if n < 2:
        return embedding.new_zeros(n)
    place = torch.arange(n - 1, device=embedding.device)
    others = place[None] + (place[None] >= torch.arange(n, device=embedding.device)[:, None])  # (n, n - 1), all but i
    without = torch.cat([net.answer(embedding[part]).score for part in others.split(CHUNK)])
    return net.answer(embedding[None]).score - without
