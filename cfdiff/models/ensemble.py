"""Several classifiers as one: their log-probabilities are averaged (a product of experts, as DESIGN's checkers)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfdiff.models.checkpoint import Model
from cfdiff.roles import JOINED


class Average(nn.Module):
    """x_0 (B, C, H, W) -> (B, K) the mean of the members' log p(class | x_0); a softmax of it sums to 1."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Tensor:
        return joined([F.log_softmax(net(x).float(), dim=1) for net in self.members])


def joined(log_probs: Sequence[Tensor]) -> Tensor:
    """(B, K) the mean of several; itself where there is one."""
    return torch.stack(list(log_probs)).mean(0) if len(log_probs) > 1 else log_probs[0]


def ensemble(models: Sequence[Model]) -> Model | None:
    """One model of several clean classifiers; itself where there is one, None where there is none.

    Its card is the first one's, its hash and its name are all of them.
    """
    if len(models) < 2:
        return models[0] if models else None
    net = Average([model.net for model in models]).eval()
    net.config = models[0].net.config
    return Model(
        net,
        models[0].card,
        JOINED.join(model.sha256 for model in models),
        " + ".join(model.name for model in models),
    )
