"""The network of a bag: instances -> embeddings -> score of the bag and attention on each instance.

Every instance is embedded once, however many versions of a bag show it: a bag is a list of places in the instances that
are given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from cfdiff.errors import UserError, first_line
from cfdiff.models.bag_poolings import Pooling
from cfdiff.models.classifier import Classifier, ClassifierConfig, build_classifier
from cfdiff.registry import BAG_MODELS, OneOf


class BagConfig(BaseModel):
    """What builds a bag network; stored in its model file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = "abmil"
    features: PositiveInt
    width: PositiveInt = 64
    dropout: NonNegativeFloat = 0.0
    kwargs: dict[str, Any] = Field(default_factory=dict)
    encoder: ClassifierConfig | None = None
    frozen: bool = False


@dataclass(frozen=True, eq=False)
class BagAnswer:
    """What the network says of V bags of n instances.

    Attributes:
        score: (V,) logit of positive, or of the fraction of positives.
        attention: (V, n) >= 0, of sum 1.
        embedding: (V, n, d).
        own_loss: what torchmil trains the model with, where the classes were given: the mean over all of this shape.
    """

    score: Tensor
    attention: Tensor
    embedding: Tensor
    own_loss: Tensor | None = None


class BagNetwork(nn.Module):
    """Encoder (of images, a timm model), embedding (a linear layer and a ReLU, as CLAM's first one) and pooling."""

    def __init__(self, config: BagConfig) -> None:
        super().__init__()
        self.shift: Tensor
        self.scale: Tensor
        OneOf(BAG_MODELS).check(config.model)
        self.config = config
        self.encoder = None if config.encoder is None else _headless(Classifier(config.encoder))
        self.register_buffer("shift", torch.zeros(config.features))
        self.register_buffer("scale", torch.ones(config.features))
        layers: list[nn.Module] = [nn.Linear(config.features, config.width), nn.ReLU()]
        self.embedding = nn.Sequential(*layers, *([nn.Dropout(config.dropout)] if config.dropout else []))
        self.pooling: Pooling = _pooling(config)
        if config.frozen and self.encoder is not None:
            self.encoder.requires_grad_(False)

    def train(self, mode: bool = True) -> BagNetwork:
        """A frozen encoder stays in eval mode: its batch norm must not learn either."""
        super().train(mode)
        if self.config.frozen and self.encoder is not None:
            self.encoder.eval()
        return self

    def encode(self, images: Tensor) -> Tensor:
        """Images (R, C, H, W) in [-1, 1] -> features (R, D), before they are standardised."""
        assert self.encoder is not None
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.frozen):
            return self.encoder(images)

    def embed(self, x: Tensor) -> Tensor:
        """Images (R, C, H, W) in [-1, 1], or features (R, D), -> embeddings (R, d)."""
        features = self.encode(x) if x.ndim == 4 else x
        return self.embedding((features.float() - self.shift) / self.scale)

    def standardise(self, features: Tensor) -> None:
        """Take the mean and the standard deviation of features (R, D) as those that are divided out."""
        self.shift.copy_(features.mean(0))
        self.scale.copy_(features.std(0, correction=0).clamp(min=1e-4))

    def answer(self, embedding: Tensor, label: Tensor | None = None) -> BagAnswer:
        """Of V bags of as many instances, embeddings (V, n, d) and classes (V,), 0 or 1, where the loss is wanted."""
        score, attention = self.pooling(embedding)
        return BagAnswer(score, attention, embedding, None if label is None else self._own_loss(embedding, label))

    def _own_loss(self, embedding: Tensor, label: Tensor) -> Tensor:
        """That of the negative bags and that of the positive ones, the same weight for each class that is there.

        Of a bag's mixes nearly all are positive: else the model would learn to call any bag so.
        """
        of_class = [label == k for k in (0, 1)]
        losses = [self.pooling.own_loss(embedding[here], label[here]) for here in of_class if here.any()]
        return torch.stack(losses).mean()

    def forward(self, x: Tensor, bags: Sequence[Tensor], labels: Sequence[Tensor] | None = None) -> list[BagAnswer]:
        """The answer to each of B bags at its V mixes.

        Args:
            x: (R, C, H, W) images in [-1, 1] or (R, D) features, each once.
            bags: (V, n) int64 places in x, a tensor a bag.
            labels: (V,) class of each version, 0 or 1.
        """
        embedding = self.embed(x)
        answers: dict[int, BagAnswer] = {}
        alike: dict[tuple[int, ...], list[int]] = {}
        for b, rows in enumerate(bags):
            alike.setdefault(tuple(rows.shape), []).append(b)
        for (versions, _), members in alike.items():  # bags of one shape pass together
            together = embedding[torch.cat([bags[b] for b in members])]
            label = None if labels is None else torch.cat([labels[b] for b in members])
            found = self.answer(together, label)
            cuts = zip(*(t.split(versions) for t in (found.score, found.attention, together)), strict=True)
            for b, (score, attention, inside) in zip(members, cuts, strict=True):
                answers[b] = BagAnswer(score, attention, inside, found.own_loss)
        return [answers[b] for b in range(len(bags))]


def _pooling(config: BagConfig) -> Pooling:
    try:
        return BAG_MODELS[config.model](config.width, **config.kwargs)
    except TypeError as error:  # an argument that its class does not take, or that is given by the width already
        raise UserError(
            f"The bag model {config.model} cannot be built with these --kwargs: {first_line(error)}; leave that out."
        ) from error


def build_encoder(config: ClassifierConfig) -> tuple[Classifier, int]:
    """A classifier that is known to take its images, and how many features it has before its last layer.

    Raises:
        UserError: timm has no such model, or it cannot take such images.
    """
    net = build_classifier(config)
    return net, encoder_width(net.config)


@torch.no_grad()
def encoder_width(config: ClassifierConfig) -> int:
    """Features of a classifier before its last layer."""
    net = _headless(Classifier(config)).eval()
    return int(net(torch.zeros(1, config.channels, *config.size)).shape[1])


def load_encoder(net: BagNetwork, classifier: Classifier) -> None:
    """Take the weights of a classifier, all but those of its last layer."""
    assert net.encoder is not None
    net.encoder.load_state_dict(_headless(classifier).state_dict())


def _headless(classifier: Classifier) -> Classifier:
    body: Any = classifier.net
    body.reset_classifier(0)
    return classifier


def build_of_card(card: Any) -> nn.Module:
    """The entry of registry.NETWORKS: that of a `checkpoint.Card`."""
    return BagNetwork(BagConfig(**{k: v for k, v in card.config.items() if k != "network"}))
