"""Clean classifiers of a space: those that see z themselves need no decoder at each step of an edit (`ensemble`)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

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
