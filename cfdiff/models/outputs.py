"""What a classifier's outputs say of two classes: (B, K) numbers -> (B, 2) or (B, 3) logits.

The columns are negative, positive and, where there is more than these two, anything else; a softmax over them is
p(negative), p(positive) and p(else). An entry of registry.OUTPUTS makes them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Groups = Sequence[Sequence[int]]

TINY = 1e-6
"""Probabilities are held this far from 0 and 1, where a logit has no end; outside there is no gradient."""


@dataclass(frozen=True)
class Output:
    """An entry of registry.OUTPUTS.

    Attributes:
        what: in words, for messages.
        columns: (outputs (B, K), groups of indices, whether others count) -> (B, 2) or (B, 3).
        single: whether it is of one number an image.
        probabilities: whether the outputs are such, in [0, 1].
        exclusive: whether they sum to 1 over K.
        alone: whether one group of indices may stand alone, against its absence.
    """

    what: str
    columns: Callable[[Tensor, Groups, bool], Tensor]
    single: bool = False
    probabilities: bool = False
    exclusive: bool = False
    alone: bool = False


def exclusive_columns(logits: Tensor, groups: Groups, others: bool) -> Tensor:
    """Of logits of classes that exclude each other: log sum exp over each group, and over all that is in none."""
    columns = [logits[:, list(group)].logsumexp(1) for group in groups]
    taken = {index for group in groups for index in group}
    rest = [index for index in range(logits.shape[1]) if index not in taken]
    if others and rest:
        columns.append(logits[:, rest].logsumexp(1))
    return torch.stack(columns, 1)


def single_columns(logit: Tensor, groups: Groups, others: bool) -> Tensor:
    """Of one logit: that of class 1 against class 0, whichever of them is positive."""
    both = torch.cat([torch.zeros_like(logit), logit], 1)
    return both[:, [group[0] for group in groups]]


def label_columns(logits: Tensor, groups: Groups, others: bool) -> Tensor:
    """Of logits of labels that do not exclude each other. A group is there where any of its labels is.

    One group: (absent, there). Two: (the negative and not the positive, the positive and not the negative, both or
    none); a softmax over them is exact where the labels are independent given the image.
    """
    there, absent = zip(*(_any(logits[:, list(group)]) for group in groups), strict=True)
    if len(groups) == 1:
        return torch.stack([absent[0], there[0]], 1)
    negative, positive = there[0] + absent[1], absent[0] + there[1]
    if not others:
        return torch.stack([negative, positive], 1)
    return torch.stack([negative, positive, torch.logaddexp(there[0] + there[1], absent[0] + absent[1])], 1)


def _any(logits: Tensor) -> tuple[Tensor, Tensor]:
    """log p that any of the labels (B, n) is there, and that none is, (B,)."""
    if logits.shape[1] == 1:
        return F.logsigmoid(logits[:, 0]), F.logsigmoid(-logits[:, 0])
    absent = F.logsigmoid(-logits).sum(1)
    # log(1 - exp(absent)) in the form that is accurate on either side (Mächler 2012); each gets only what it can take,
    # as the gradient of the branch that is not chosen must be finite too.
    near = absent > -math.log(2)
    low = torch.where(near, -1.0, absent)
    high = torch.where(near, absent.clamp(max=-torch.finfo(absent.dtype).tiny), -0.5)
    return torch.where(near, torch.log(-torch.expm1(high)), torch.log1p(-torch.exp(low))), absent


def logit(p: Tensor) -> Tensor:
    """log p / (1 - p), finite."""
    return torch.logit(p, eps=TINY)


def log(p: Tensor) -> Tensor:
    """log p, finite."""
    return p.clamp_min(TINY).log()


LOGITS = Output("logits of classes that exclude each other", exclusive_columns)
PROBABILITIES = Output(
    "probabilities of classes that exclude each other",
    lambda p, groups, others: exclusive_columns(log(p), groups, others),
    probabilities=True,
    exclusive=True,
)
LOGIT = Output("one logit", single_columns, single=True)
PROBABILITY = Output(
    "one probability",
    lambda p, groups, others: single_columns(logit(p), groups, others),
    single=True,
    probabilities=True,
)
LABELS = Output("logits of labels, any of which may be there", label_columns, alone=True)
LABEL_PROBABILITIES = Output(
    "probabilities of labels, any of which may be there",
    lambda p, groups, others: label_columns(logit(p), groups, others),
    probabilities=True,
    alone=True,
)
