"""Losses of a bag model that sees one bag at several mixes: pure functions of what it answers.

V versions of one bag have the same n instances in the same order; `labels` (V, n) int say which are positive in each.
An instance of two versions is *flipped* where its label differs between them; else it is *kept*: the same bytes, or a
sham, which was edited to its own class. Every loss is 0 or a constant where there is nothing to compare, and keeps its
graph.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

SMALL = 1e-8
"""Attention below this counts as this: a Nystroem attention may be zero, or a little less."""


def binomial_deviance(score: Tensor, positives: Tensor, size: Tensor) -> Tensor:
    """How badly p = sigmoid(score) explains counts: sum n KL(k / n || p) / sum n, in nats an instance, >= 0.

    It is the negative log-likelihood of k ~ Binomial(n, p), less that of the best p: a bag of 200 counts as much as
    twenty of 10 (McCullagh & Nelder 1989, eq. 4.23, without its factor 2).

    Args:
        score: (B,) logit of the fraction. positives: (B,) k. size: (B,) n, at least 1.
    """
    fraction = positives.to(score) / size.to(score)
    best = -(torch.xlogy(fraction, fraction) + torch.xlogy(1 - fraction, 1 - fraction))
    kl = F.binary_cross_entropy_with_logits(score, fraction, reduction="none") - best
    return (size.to(score) * kl).sum() / size.to(score).sum()


def rank_loss(score: Tensor, mix: Tensor) -> Tensor:
    """Mean of log(1 + exp(-(s_i - s_j))) over pairs of which i holds more positives (Burges et al. 2005, eq. 3).

    Args:
        score: (V,) of the versions of one bag. mix: (V,) their fraction of positives, in [0, 1].
    """
    first, second = _pairs(len(score), score.device)
    sign = torch.sign(mix[first] - mix[second])
    asked = sign != 0
    if not asked.any():
        return score.sum() * 0
    return F.softplus(-sign * (score[first] - score[second]))[asked].mean()


def distance_loss(score: Tensor, mix: Tensor) -> Tensor:
    """Mean of ((p_i - p_j) - (m_i - m_j))^2 over pairs, p = sigmoid(score): the answer moves as far as the mix does.

    Args: as `rank_loss`; in squared fractions.
    """
    first, second = _pairs(len(score), score.device)
    if not len(first):
        return score.sum() * 0
    p = torch.sigmoid(score)
    return ((p[first] - p[second]) - (mix[first] - mix[second]).to(p)).square().mean()


def attention_invariance(attention: Tensor, labels: Tensor) -> Tensor:
    """How much the attention among kept instances moves between two versions: mean over pairs, in nats, >= 0.

    What an edited instance takes, all others lose, so attention is compared after it is renormalised over the kept
    ones: a_i / sum over kept a_j. Compared by the mean of the two Kullback-Leibler divergences (Jeffreys 1946, halved).
    For an attention that is a softmax of one number an instance (ABMIL), copies give exactly 0: only shams move it.

    Args:
        attention: (V, n) >= 0. labels: (V, n).
    """
    first, second = _pairs(len(attention), attention.device)
    kept = (labels[first] == labels[second]).to(attention)
    usable = kept.sum(1) >= 2
    if not usable.any():
        return attention.sum() * 0
    a, b = (_renormalised(attention[which], kept)[usable] for which in (first, second))
    return 0.5 * ((a - b) * (a.log() - b.log()) * kept[usable]).sum(1).mean()


def embedding_invariance(embedding: Tensor, labels: Tensor) -> Tensor:
    """Mean ||h_i - h_j||^2 of kept instances over pairs of versions, as a fraction of the embeddings' variance.

    A fraction, for it would be lowered by shrinking all embeddings else. Instances that are the same bytes have the
    same embedding; what is left are shams, whose embedding must be that of their source.

    Args:
        embedding: (V, n, d). labels: (V, n).
    """
    first, second = _pairs(len(embedding), embedding.device)
    kept = labels[first] == labels[second]
    if not kept.any():
        return embedding.sum() * 0
    moved = (embedding[first] - embedding[second]).square().sum(2)[kept].mean()
    flat = embedding.flatten(0, 1)
    variance = (flat - flat.mean(0)).square().sum(1).mean()
    return moved / variance.clamp(min=SMALL)


def edit_directions(embedding: Tensor, labels: Tensor) -> Tensor:
    """(E, d) unit vectors: where the embedding of each flipped instance goes as it becomes positive.

    Edits to the negative are turned round, so that all point from negative to positive. An instance that does not move
    has no direction and is left out.

    Args: as `embedding_invariance`.
    """
    first, second = _pairs(len(embedding), embedding.device)
    sign = (labels[first] - labels[second]).to(embedding)
    flipped = sign != 0
    step = ((embedding[first] - embedding[second]) * sign[..., None])[flipped]
    length = step.norm(dim=1, keepdim=True)
    return (step / length.clamp(min=SMALL))[length[:, 0] > SMALL]


def direction_loss(directions: Sequence[Tensor]) -> Tensor:
    """1 - R, with R = || mean of the unit vectors || in [0, 1]: 0 where all edits go one way.

    R is the mean resultant length of directional statistics (Mardia & Jupp 2000, eq. 9.2.2); of k random directions it
    is about 1 / sqrt(k), which is what to hold it against.

    Args:
        directions: (E, d) of each bag, as `edit_directions` gives them.
    """
    units = torch.cat(list(directions))
    if not len(units):
        return units.sum()
    return 1 - units.mean(0).norm()


def _pairs(n: int, device: torch.device) -> tuple[Tensor, Tensor]:
    first, second = torch.triu_indices(n, n, offset=1, device=device).unbind(0)
    return first, second


def _renormalised(attention: Tensor, kept: Tensor) -> Tensor:
    share = attention.clamp(min=SMALL)
    return share / (share * kept).sum(1, keepdim=True).clamp(min=SMALL)
