"""A bag model, a loss of mixtures and an attribution from outside the package: one line each, and no other change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cfdiff.mil.explain import mil_explain
from cfdiff.mil.settings import MilExplainSettings, MilTrainSettings
from cfdiff.mil.targets import Answers, Target, Told
from cfdiff.mil.train import mil_train
from cfdiff.models.bag_network import BagNetwork
from cfdiff.models.bag_poolings import Pooling
from cfdiff.registry import ATTRIBUTIONS, BAG_MODELS, MIXTURE_LOSSES


class First(Pooling):
    """Looks at the first instance alone."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(width, 1))

    def forward(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        attention = torch.zeros_like(embedding[..., 0])
        attention[:, 0] = 1
        return self.net(embedding[:, 0])[:, 0], attention

    def own_loss(self, embedding: Tensor, label: Tensor) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(self(embedding)[0], label.float())


def test_what_is_registered_is_trained_with_and_asked(
    mil_toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[int] = []

    def small(answers: Answers, told: Told, target: Target) -> Tensor:
        called.append(len(answers))
        return torch.stack([a.score.square().mean() for a in answers]).mean()

    def place(net: BagNetwork, embedding: Tensor) -> Tensor:
        return torch.arange(len(embedding)).float()

    monkeypatch.setitem(BAG_MODELS, "first", First)
    monkeypatch.setitem(MIXTURE_LOSSES, "small", small)
    monkeypatch.setitem(ATTRIBUTIONS, "place", place)
    told: dict[str, Any] = {"data": str(mil_toy.train), "device": "cpu", "threads": 1}
    quick: dict[str, Any] = {"model": "first", "losses": "small", "steps": 2, "width": 8}
    path = mil_train(MilTrainSettings(**told, **quick, out=tmp_path / "m"), lambda *told: None).model
    assert called == [4, 4]
    told["data"] = str(mil_toy.test)
    found = mil_explain(MilExplainSettings(**told, model=path, attribution="place", out=tmp_path / "x"))
    assert set(found.where) == {"place", "chance"}
