from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import cfdiff
from cfdiff.errors import UserError
from cfdiff.models.foreign import load_classifier

TOLD = {"classes": "3,1", "output": "logits", "normalisation": "imagenet", "channels": 3, "size": 32}


def test_a_module_is_copied_frozen_and_asked_in_evaluation_mode(five: Any) -> None:
    net = nn.Sequential(five.net, nn.Dropout(0.5)).train()
    five.net.requires_grad_(True)
    try:
        model = load_classifier(cfdiff.as_classifier(net, **TOLD), steers=True)
        assert five.agrees(model.net) and not any(p.requires_grad for p in model.net.parameters())
        assert net.training and all(p.requires_grad for p in net.parameters()), "the caller's own stays as it was"
    finally:
        five.net.eval().requires_grad_(False)


def test_a_module_is_known_by_its_weights_and_a_function_by_its_version(five: Any) -> None:
    def asked(x: torch.Tensor) -> torch.Tensor:
        return five.net(x)

    linear = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
    first = load_classifier(cfdiff.as_classifier(linear, **TOLD)).sha256
    assert load_classifier(cfdiff.as_classifier(linear, **TOLD)).sha256 == first
    with torch.no_grad():
        linear[1].bias += 1
    assert load_classifier(cfdiff.as_classifier(linear, **TOLD)).sha256 != first
    with pytest.raises(UserError, match="'asked' has no weights that could be hashed: say version="):
        cfdiff.as_classifier(asked, **TOLD)
    versions = [load_classifier(cfdiff.as_classifier(asked, version=v, **TOLD)) for v in ("1", "2", "1")]
    assert versions[0].sha256 == versions[2].sha256 != versions[1].sha256 and five.agrees(versions[0].net)


def test_what_is_missing_is_said_where_it_is_given(five: Any) -> None:
    with pytest.raises(UserError, match="nobody says normalisation and size"):
        cfdiff.as_classifier(five.net, classes="0,1", output="logits", channels=3)
    with pytest.raises(UserError, match="cannot be called"):
        cfdiff.as_classifier("resnet18", **TOLD)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"Of the classifier 'ResNet' nothing is told: give cfdiff.as_classifier"):
        cfdiff.translate(checker=five.net)
