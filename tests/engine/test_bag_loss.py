from __future__ import annotations

import math

import pytest
import torch

from cfdiff.engine.bag_loss import (
    attention_invariance,
    binomial_deviance,
    direction_loss,
    distance_loss,
    edit_directions,
    embedding_invariance,
    rank_loss,
)


def test_the_deviance_is_the_binomial_likelihood_less_its_best_an_instance() -> None:
    score, k, n = torch.tensor([0.3, -1.0]), torch.tensor([2, 0]), torch.tensor([10, 4])
    binomial = torch.distributions.Binomial(n.double(), logits=score.double())
    best = torch.distributions.Binomial(n.double(), probs=(k / n).double())
    expected = (best.log_prob(k.double()) - binomial.log_prob(k.double())).sum() / n.sum()
    assert float(binomial_deviance(score, k, n)) == pytest.approx(float(expected), abs=1e-6)
    right = torch.logit(torch.tensor([0.2, 0.5]))
    assert float(binomial_deviance(right, torch.tensor([2, 2]), torch.tensor([10, 4]))) == pytest.approx(0, abs=1e-6)


def test_the_rank_loss_asks_only_pairs_of_different_mix() -> None:
    score, mix = torch.tensor([0.0, 2.0, 5.0]), torch.tensor([0.1, 0.3, 0.3])
    expected = (math.log1p(math.exp(-2)) + math.log1p(math.exp(-5))) / 2
    assert float(rank_loss(score, mix)) == pytest.approx(expected)
    assert float(rank_loss(score, 1 - mix)) > 2
    assert float(rank_loss(score, torch.zeros(3))) == 0


def test_the_distance_is_none_where_the_answer_is_the_mix() -> None:
    mix = torch.tensor([0.1, 0.4, 0.9])
    assert float(distance_loss(torch.logit(mix), mix)) == pytest.approx(0, abs=1e-10)
    assert float(distance_loss(torch.zeros(2), torch.tensor([0.0, 0.5]))) == pytest.approx(0.25)


def test_the_attention_invariance_has_a_closed_form() -> None:
    """Among kept instances only: an edited one may take as much as it likes."""
    p, q = torch.tensor([0.75, 0.25]), torch.tensor([0.4, 0.6])
    attention = torch.stack([torch.cat([0.9 * p, torch.tensor([0.1])]), torch.cat([0.3 * q, torch.tensor([0.7])])])
    labels = torch.tensor([[0, 0, 0], [0, 0, 1]])
    expected = 0.5 * ((p - q) * (p / q).log()).sum()
    assert float(attention_invariance(attention, labels)) == pytest.approx(float(expected), rel=1e-5)


def test_a_softmax_of_one_number_an_instance_is_invariant_to_exact_edits() -> None:
    raw = torch.randn(6, generator=torch.Generator().manual_seed(0))
    edited = raw.clone()
    edited[2] += 3
    attention, labels = torch.stack([raw, edited]).softmax(1), torch.tensor([[0] * 6, [0, 0, 1, 0, 0, 0]])
    assert float(attention_invariance(attention, labels)) == pytest.approx(0, abs=1e-6)
    edited[4] += 1  # a sham that did move
    attention = torch.stack([raw, edited]).softmax(1)
    assert float(attention_invariance(attention, labels)) > 0.01


def test_the_embedding_invariance_sees_shams_only_and_no_scale() -> None:
    g = torch.Generator().manual_seed(0)
    first = torch.randn(5, 3, generator=g)
    second, labels = first.clone(), torch.tensor([[0] * 5, [1, 0, 0, 0, 0]])
    second[0] += 9
    assert float(embedding_invariance(torch.stack([first, second]), labels)) == 0
    second[1] += 1
    found = embedding_invariance(torch.stack([first, second]), labels)
    assert float(found) > 0 and float(embedding_invariance(7 * torch.stack([first, second]), labels)) == pytest.approx(
        float(found)
    )


def test_edits_of_one_direction_cost_nothing_whichever_way_they_go() -> None:
    g = torch.Generator().manual_seed(0)
    first, way = torch.randn(4, 3, generator=g), torch.tensor([1.0, -2.0, 0.5])
    labels = torch.tensor([[0, 1, 0, 1], [1, 0, 0, 1]])
    second = first + way * (labels[1] - labels[0])[:, None] * torch.tensor([1.0, 3.0, 1.0, 1.0])[:, None]
    units = edit_directions(torch.stack([first, second]), labels)
    assert units.shape == (2, 3) and torch.allclose(units, (way / way.norm()).expand(2, 3), atol=1e-5)
    assert float(direction_loss([units])) == pytest.approx(0, abs=1e-6)
    assert float(direction_loss([units, -units])) == pytest.approx(1, abs=1e-6)


def test_where_there_is_nothing_to_compare_the_losses_are_none_and_keep_their_graph() -> None:
    h = torch.randn(1, 3, 2, requires_grad=True)
    labels = torch.zeros(1, 3, dtype=torch.int64)
    total = (
        rank_loss(h[0, :1, 0], torch.zeros(1))
        + distance_loss(h[0, :1, 0], torch.zeros(1))
        + attention_invariance(h[..., 0].softmax(1), labels)
        + embedding_invariance(h, labels)
        + direction_loss([edit_directions(h, labels)])
    )
    total.backward()
    assert float(total.detach()) == 0 and h.grad is not None and bool((h.grad == 0).all())
