"""Clean classifiers of a space: those that see z themselves need no decoder at each step of an edit."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from cfdiff.models.ensemble import Average, joined
from cfdiff.models.space import Space


class EncodedClassifier(nn.Module):
    """A classifier of z that takes images, as every other: logits (B, 2) of x (B, C, H, W) in [-1, 1].

    Attributes:
        classifier: the network, of z (B, c, h, w).
        space: where z is from; `told` is what its card says of it.
    """

    def __init__(self, classifier: nn.Module, space: Space, told: dict[str, Any]) -> None:
        super().__init__()
        self.classifier, self.space, self.told, self.config = classifier, space, told, classifier.config

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.space.encode(x))


def log_prob_in(net: nn.Module, z0: Tensor, space: Space, told: dict[str, Any]) -> Tensor:
    """log p(negative) and log p(positive), (B, 2), of clean z0 (B, c, h, w) in a space of which a card says `told`.

    A classifier of that very space is asked of z0, others of decode(z0), once for all of several that are averaged.
    """
    members = list(net.members) if isinstance(net, Average) else [net]
    at_home = [isinstance(member, EncodedClassifier) and member.told == told for member in members]
    x0 = None if all(at_home) else space.decode(z0)
    logits = [
        member.classifier(z0) if home else member(x0)  # type: ignore[operator]
        for member, home in zip(members, at_home, strict=True)
    ]
    said = [F.log_softmax(one.float(), dim=1) for one in logits]
    return (said[0] if len(said) == 1 else F.log_softmax(joined(said), dim=1))[:, :2]
