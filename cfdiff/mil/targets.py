"""What a bag model learns to say: whether the bag is positive, how much of it, or which of two mixes holds more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cfdiff.engine.bag_loss import binomial_deviance, rank_loss
from cfdiff.models.bag_network import BagAnswer


@dataclass(frozen=True, eq=False)
class Labelled:
    """What is known of the V versions of a bag that a `BagAnswer` is about.

    Attributes:
        labels: (V, n) int8 of the instances, -1 unknown.
        classes: (V,) of the bag, 0 or 1.
    """

    labels: Tensor
    classes: Tensor

    @property
    def positives(self) -> Tensor:
        """(V,) positive instances."""
        return (self.labels == 1).sum(1)

    @property
    def mix(self) -> Tensor:
        """(V,) float32 fraction of positives."""
        return self.positives / self.labels.shape[1]


Answers = Sequence[BagAnswer]
Told = Sequence[Labelled]


@dataclass(frozen=True)
class Target:
    """An entry of registry.BAG_TARGETS.

    Attributes:
        loss: (answers, what is known of the same bags) -> the mean loss.
        counts: whether it needs the label of every instance.
        several: whether it needs bags at two mixes at least.
        own: whether the loss is the model's own, of torchmil.
        graded: whether sigmoid(score) moves as the fraction of positives does.
        same: the loss of mixtures that is the same formula as `loss` of a bag's mixes; "" for none.
    """

    loss: Callable[[Answers, Told], Tensor]
    counts: bool = False
    several: bool = False
    own: bool = False
    graded: bool = False
    same: str = ""


def _label(answers: Answers, told: Told) -> Tensor:
    """torchmil's own loss of the model, with the class of each version."""
    losses = [answer.own_loss for answer in answers if answer.own_loss is not None]
    return torch.stack(losses).mean()


def _fraction(answers: Answers, told: Told) -> Tensor:
    score = torch.cat([answer.score for answer in answers])
    size = torch.cat([torch.full_like(one.positives, one.labels.shape[1]) for one in told])
    return binomial_deviance(score, torch.cat([one.positives for one in told]), size)


def _order(answers: Answers, told: Told) -> Tensor:
    return torch.stack([rank_loss(a.score, one.mix) for a, one in zip(answers, told, strict=True)]).mean()


LABEL = Target(_label, own=True)
FRACTION = Target(_fraction, counts=True, graded=True)
ORDER = Target(_order, counts=True, several=True, graded=True, same="rank")
