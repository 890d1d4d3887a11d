"""The losses of mixtures, the entries of registry.MIXTURE_LOSSES: what a bag at several mixes teaches a bag model."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cfdiff.engine.bag_loss import (
    attention_invariance,
    direction_loss,
    distance_loss,
    edit_directions,
    embedding_invariance,
    rank_loss,
)
from cfdiff.mil.targets import Answers, Target, Told

MixtureLoss = Callable[[Answers, Told, Target], Tensor]
"""(answers to B bags at their V mixes, what is known of them, the target) -> the loss, with its graph."""


def label(answers: Answers, told: Told, target: Target) -> Tensor:
    """The mixed bags have their own target: class, fraction or order."""
    return target.loss(answers, told)


def rank(answers: Answers, told: Told, target: Target) -> Tensor:
    """Of two mixes of one bag the one with more positives scores higher."""
    return torch.stack([rank_loss(a.score, one.mix) for a, one in zip(answers, told, strict=True)]).mean()


def distance(answers: Answers, told: Told, target: Target) -> Tensor:
    """The answer moves by as much as the mix."""
    return torch.stack([distance_loss(a.score, one.mix) for a, one in zip(answers, told, strict=True)]).mean()


def attention(answers: Answers, told: Told, target: Target) -> Tensor:
    """Among instances of unchanged class the attention does not move."""
    pairs = zip(answers, told, strict=True)
    return torch.stack([attention_invariance(a.attention, one.labels) for a, one in pairs]).mean()


def embedding(answers: Answers, told: Told, target: Target) -> Tensor:
    """Instances of unchanged class, the shams, keep their embedding."""
    pairs = zip(answers, told, strict=True)
    return torch.stack([embedding_invariance(a.embedding, one.labels) for a, one in pairs]).mean()


def direction(answers: Answers, told: Told, target: Target) -> Tensor:
    """All edits of all bags move the embedding of their instance along one direction."""
    return direction_loss([edit_directions(a.embedding, one.labels) for a, one in zip(answers, told, strict=True)])
