"""Several classifiers as one: their log-probabilities are averaged (a product of experts, as DESIGN's checkers)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfdiff.models.checkpoint import Model
from cfdiff.models.encoded import EncodedClassifier
from cfdiff.models.space import Space
from cfdiff.roles import JOINED


class Average(nn.Module):
    """x_0 (B, C, H, W) -> (B, K) the mean of the members' log p(class | x_0); a softmax of it sums to 1.

    K is 3 where a member knows more than the two classes: of anything else only such members have a word.
    """

    def __init__(self, models: Sequence[Model]) -> None:
        super().__init__()
        self.models = tuple(models)
        self.members = nn.ModuleList(model.net for model in models)

    def forward(self, x: Tensor) -> Tensor:
        return joined([F.log_softmax(net(x).float(), dim=1) for net in self.members])

    def takes(self, images: tuple[int, int, int]) -> tuple[int, int, int]:
        """As `Model.takes`, of the first that does not take them."""
        return next((found for model in self.models if (found := model.takes(images)) != images), images)


def joined(log_probs: Sequence[Tensor]) -> Tensor:
    """(B, K) the mean of several; itself where there is one. Of a third class only those have a word that know one."""
    if len(log_probs) == 1:
        return log_probs[0]
    both = torch.stack([log_p[:, :2] for log_p in log_probs]).mean(0)
    others = [log_p[:, 2:] for log_p in log_probs if log_p.shape[1] > 2]
    return torch.cat([both, torch.stack(others).mean(0)], 1) if others else both


def ensemble(models: Sequence[Model]) -> Model | None:
    """One model of several clean classifiers; itself where there is one, None where there is none.

    Its card is the first one's, its hash and its name are all of them.
    """
    if len(models) < 2:
        return models[0] if models else None
    net = Average(models).eval()
    net.config = models[0].net.config
    return Model(
        net,
        models[0].card,
        JOINED.join(model.sha256 for model in models),
        " + ".join(model.name for model in models),
    )


def members(model: Model) -> tuple[Model, ...]:
    """The models of an `ensemble`; the model itself where it is one alone."""
    return model.net.models if isinstance(model.net, Average) else (model,)


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
