from __future__ import annotations

from typing import Any

import pytest
import torch

from cfdiff.errors import UserError
from cfdiff.models.bag_network import BagConfig, BagNetwork
from cfdiff.models.classifier import ClassifierConfig
from cfdiff.registry import BAG_MODELS

models = pytest.importorskip("torchmil.models")
TINY = {"channels": [8, 16, 16, 16], "stem_width": 8}


def network(model: str, **changes: Any) -> BagNetwork:
    torch.manual_seed(0)
    return BagNetwork(BagConfig(model=model, features=5, width=16, **changes)).eval()


@pytest.mark.parametrize("model", list(BAG_MODELS))
def test_every_model_gives_a_score_and_attention_of_sum_one_and_learns(model: str) -> None:
    net, x = network(model), torch.randn(12, 5)
    bags = [torch.arange(12).reshape(2, 6), torch.tensor([[0, 3, 5]])]
    labels = [torch.tensor([0, 1]), torch.tensor([1])]
    first, second = net(x, bags, labels)
    assert first.score.shape == (2,) and first.attention.shape == (2, 6) and first.embedding.shape == (2, 6, 16)
    for one in (first, second):
        assert torch.allclose(one.attention.sum(1), torch.ones(len(one.score)), atol=1e-4)
        assert bool((one.attention >= 0).all()) and one.own_loss is not None
    alone = net(x, bags[1:])[0]
    assert torch.allclose(alone.score, second.score, atol=1e-5) and alone.own_loss is None
    (first.own_loss + second.own_loss).backward()
    assert any(float(p.grad.abs().sum()) > 0 for p in net.embedding.parameters() if p.grad is not None)


@pytest.mark.parametrize(("model", "theirs"), [("abmil", "ABMIL"), ("dsmil", "DSMIL"), ("transmil", "TransMIL")])
def test_models_and_losses_are_torchmils_own(model: str, theirs: str) -> None:
    net, h = network(model), torch.randn(2, 6, 16)
    inside = net.pooling.net
    assert isinstance(inside, getattr(models, theirs))
    label = torch.tensor([1, 1])
    _, terms = inside.compute_loss(label.float(), h)
    found = net.answer(h, label)
    assert found.own_loss is not None and torch.allclose(found.own_loss, sum(terms.values()))  # type: ignore[arg-type]
    predicted = inside.predict(h)
    assert torch.allclose(found.score, predicted[0] if isinstance(predicted, tuple) else predicted, atol=1e-6)


@pytest.mark.parametrize(
    ("model", "kwargs"), [*((name, {}) for name in BAG_MODELS), ("transmil", {"use_mlp": 1}), ("abmil", {"gated": 1})]
)
@pytest.mark.parametrize("what", ["score", "own_loss"])
def test_score_and_own_loss_each_reach_all_that_learns(model: str, kwargs: dict[str, Any], what: str) -> None:
    """Two processes wait for the gradient of every parameter: one that nothing reaches ended in a traceback."""
    net = network(model, kwargs=kwargs)
    answer = net(torch.randn(12, 5), [torch.arange(12).reshape(2, 6)], [torch.tensor([0, 1])])[0]
    getattr(answer, what).sum().backward()
    lacking = [name for name, p in net.named_parameters() if p.requires_grad and p.grad is None]
    assert not lacking


def test_the_loss_gives_both_classes_the_same_weight() -> None:
    net, h = network("abmil"), torch.randn(4, 6, 16)
    mixed = net.answer(h, torch.tensor([0, 1, 1, 1])).own_loss
    apart = [
        net.answer(h[part], torch.full((len(h[part]),), k)).own_loss for k, part in enumerate((slice(1), slice(1, 4)))
    ]
    assert mixed is not None and torch.allclose(mixed, (apart[0] + apart[1]) / 2)  # type: ignore[operator]


def test_a_frozen_encoder_neither_learns_nor_moves_its_batch_norm() -> None:
    encoder = ClassifierConfig(arch="resnet10t", kwargs=TINY, channels=1, size=(16, 16))
    net = BagNetwork(BagConfig(features=16, width=8, encoder=encoder, frozen=True)).train()
    before = {k: v.clone() for k, v in net.encoder.state_dict().items()}  # type: ignore[union-attr]
    answer = net(torch.randn(6, 1, 16, 16), [torch.arange(6)[None]], [torch.tensor([1])])[0]
    assert answer.own_loss is not None
    answer.own_loss.backward()
    assert net.encoder is not None and all(p.grad is None for p in net.encoder.parameters())
    assert all(torch.equal(before[k], v) for k, v in net.encoder.state_dict().items())


def test_arguments_that_no_model_takes_are_refused_in_a_sentence() -> None:
    with pytest.raises(UserError, match="cannot build ABMIL"):
        network("abmil", kwargs={"depth": 3})
    for model, kwargs in (("mean", {"x": 1}), ("max", {"x": 1}), ("abmil", {"width": 3}), ("dsmil", {"in_shape": 3})):
        with pytest.raises(UserError, match=f"bag model {model} cannot be built with these --kwargs"):
            network(model, kwargs=kwargs)
    with pytest.raises(UserError, match="is a network, not a number"):
        network("abmil", kwargs={"feat_ext": 3})
    with pytest.raises(ValueError, match="no bag model 'clam'"):
        network("clam")
