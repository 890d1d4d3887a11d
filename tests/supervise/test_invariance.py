"""What the terms ask for, in closed form."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from cfdiff.supervise.invariance import features, gradient, nothing, relevant_part, varied
from cfdiff.train.batches import Draws


class Linear(nn.Module):
    """logits (0, w . x): the margin's gradient is w at every image."""

    def __init__(self, w: torch.Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(w)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        margin = (x * self.w).sum(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(margin), margin], dim=1)


class Pooled(nn.Module):
    """Two features, the means of the left and the right half, and a last layer, as timm's models have it."""

    def __init__(self) -> None:
        super().__init__()
        self.net: Any = self
        self.fc = nn.Linear(2, 2)
        self.get_classifier = lambda: self.fc

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        half = x.shape[-1] // 2
        return self.fc(torch.stack([x[..., :half].mean((1, 2, 3)), x[..., half:].mean((1, 2, 3))], dim=1))


@pytest.fixture
def images() -> tuple[torch.Tensor, torch.Tensor, Draws]:
    g = torch.Generator().manual_seed(0)
    return torch.rand(3, 1, 8, 8, generator=g), torch.rand(4, 1, 8, 8, generator=g), Draws(0, 2, slice(None))


def test_the_gradient_term_is_the_share_outside_whatever_the_scale_and_learns_to_be_zero(images: Any) -> None:
    others, pairs, draws = images
    w = torch.arange(64.0).view(1, 8, 8) / 64
    relevant = torch.zeros(4, 1, 8, 8, dtype=torch.bool)
    relevant[..., :4] = True
    for scale in (1.0, 1e-2):
        net = Linear(scale * w)
        answers = gradient(net, others, pairs, relevant, draws)
        assert torch.equal(answers.logits, nothing(net, others, pairs, relevant, draws).logits)
        share = w[..., 4:].square().sum() / w.square().sum()
        assert answers.penalty.item() == pytest.approx(share.item(), rel=1e-4)
    answers.penalty.backward()
    slope = net.w.grad * w
    assert (slope[..., 4:] >= 0).all() and (slope[..., :4] <= 0).all(), "less outside, more inside"


def test_the_feature_term_is_zero_for_features_of_the_relevant_part_alone(images: Any) -> None:
    others, pairs, draws = images
    relevant = torch.ones(4, 1, 8, 8, dtype=torch.bool)
    net = Pooled()
    assert features(net, others, pairs, relevant, draws).penalty.item() == pytest.approx(0, abs=1e-6)
    relevant[..., 4:] = False
    answers = features(net, others, pairs, relevant, Draws(0, 2, slice(None)))
    assert answers.penalty.item() > 1e-3 and answers.logits.shape == (7, 2)


def test_only_the_irrelevant_part_is_varied_and_a_pair_alike(images: Any) -> None:
    _, pairs, draws = images
    pairs = torch.cat([pairs[:2], pairs[:2]])
    relevant = torch.zeros(4, 1, 8, 8, dtype=torch.bool)
    relevant[:, :, 2:5] = True
    found = varied(pairs, relevant, draws)
    assert torch.equal(found[:, :, 2:5], pairs[:, :, 2:5]) and (found[:, :, 5:] != pairs[:, :, 5:]).float().mean() > 0.5
    assert torch.equal(found[:2], found[2:]) and found.abs().max() <= 1


def test_the_relevant_part_is_the_map_of_an_accepted_pair_and_the_rest_of_a_rejected_one() -> None:
    source, edited = torch.zeros(2, 1, 9, 9), torch.zeros(2, 1, 9, 9)
    edited[:, 0, 4, 4], edited[:, 0, 0, 0] = 1.0, 0.05
    found = relevant_part(source, edited, torch.tensor([True, False]), share=0.1, grow=3)
    assert found[0, 0, 3:6, 3:6].all() and int(found[0].sum()) == 9
    assert torch.equal(found[1], ~found[0])
