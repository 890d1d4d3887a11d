"""Every kind of output against the probabilities that it stands for, worked out in float64."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from cfdiff.registry import OUTPUTS

G = torch.Generator().manual_seed(0)
LOGITS = torch.randn(6, 5, generator=G, dtype=torch.float64) * 3


def p_of(name: str, numbers: Tensor, groups: list[list[int]], others: bool = True) -> Tensor:
    return OUTPUTS[name].columns(numbers, groups, others).softmax(1)


def test_p_of_exclusive_classes_is_their_share_of_all_or_of_the_pair() -> None:
    p = LOGITS.softmax(1)
    found = p_of("logits", LOGITS, [[3], [1]])
    assert torch.allclose(found, torch.stack([p[:, 3], p[:, 1], p[:, [0, 2, 4]].sum(1)], 1))
    pair = p_of("logits", LOGITS, [[3], [1]], others=False)
    assert torch.allclose(pair[:, 1], p[:, 1] / (p[:, 1] + p[:, 3])) and pair.shape == (6, 2)


def test_a_group_has_the_probability_of_all_in_it() -> None:
    p = LOGITS.softmax(1)
    found = p_of("logits", LOGITS, [[0, 4], [1, 2]])
    assert torch.allclose(found, torch.stack([p[:, 0] + p[:, 4], p[:, 1] + p[:, 2], p[:, 3]], 1))


def test_more_than_half_is_more_than_all_others_together() -> None:
    """A flip by p > 1/2 is an argmax over all classes; an argmax over two of them is none."""
    numbers = torch.tensor([[0.0, 2.0, 5.0], [0.0, 5.0, 2.0]])
    assert (p_of("logits", numbers, [[0], [1]])[:, 1] > 0.5).tolist() == [False, True]
    assert (p_of("logits", numbers, [[0], [1]], others=False)[:, 1] > 0.5).tolist() == [True, True]


def test_probabilities_say_what_their_logits_say() -> None:
    for groups in ([[3], [1]], [[0, 4], [2]]):
        assert torch.allclose(
            p_of("probabilities", LOGITS.softmax(1), groups), p_of("logits", LOGITS, groups), atol=1e-5
        )
        labels = LOGITS.sigmoid()
        assert torch.allclose(p_of("multilabel-probabilities", labels, groups), p_of("multilabel", LOGITS, groups))
    one = LOGITS[:, :1]
    assert torch.allclose(p_of("probability", one.sigmoid(), [[1], [0]]), p_of("logit", one, [[1], [0]]))


def test_one_number_is_of_class_1_whichever_that_is() -> None:
    one = LOGITS[:, :1]
    assert torch.allclose(p_of("logit", one, [[0], [1]])[:, 1], one[:, 0].sigmoid())
    assert torch.allclose(p_of("logit", one, [[1], [0]])[:, 0], one[:, 0].sigmoid())


@pytest.mark.parametrize("groups", [[[3], [1]], [[0, 4], [1]], [[0], [1, 2, 3]]])
def test_of_labels_each_case_has_the_probability_of_all_its_outcomes(groups: list[list[int]]) -> None:
    """By adding up all 2^5 outcomes of independent labels."""
    p = LOGITS.sigmoid()
    expected = torch.zeros(6, 3, dtype=torch.float64)
    for outcome in itertools.product((0, 1), repeat=5):
        weight = torch.stack([p[:, k] if on else 1 - p[:, k] for k, on in enumerate(outcome)], 1).prod(1)
        negative, positive = (any(outcome[k] for k in group) for group in groups)
        expected[:, 2 if negative == positive else int(positive)] += weight
    assert torch.allclose(p_of("multilabel", LOGITS, groups), expected)


def test_a_label_alone_is_there_or_absent() -> None:
    assert torch.allclose(p_of("multilabel", LOGITS, [[2]])[:, 1], LOGITS[:, 2].sigmoid())
    both = 1 - (1 - LOGITS[:, 2].sigmoid()) * (1 - LOGITS[:, 4].sigmoid())
    assert torch.allclose(p_of("multilabel", LOGITS, [[2, 4]])[:, 1], both)


@pytest.mark.parametrize("name", [name for name in OUTPUTS if "probabilit" not in name])
@pytest.mark.parametrize("size", [0.0, 5.0, 200.0])
def test_columns_and_gradients_are_finite_however_sure_a_classifier_is(name: str, size: float) -> None:
    numbers = (size * torch.tensor([[1.0, -1, 1, -1, 0], [-1, -1, -1, -1, -1]])).requires_grad_()
    given = numbers[:, :1] if OUTPUTS[name].single else numbers
    groups = [[0], [1]] if OUTPUTS[name].single else [[0, 2], [1, 3]]
    columns = OUTPUTS[name].columns(given, groups, True)
    g = torch.autograd.grad(columns[:, 1].sum(), numbers)[0]
    assert columns.isfinite().all() and g.isfinite().all()


@pytest.mark.parametrize("name", [name for name in OUTPUTS if "probabilit" in name])
def test_probabilities_of_0_and_1_stay_finite(name: str) -> None:
    p = torch.tensor([[1.0, 0.0, 0.0]])
    given = p[:, :1] if OUTPUTS[name].single else p
    assert OUTPUTS[name].columns(given, [[0], [1]], True).isfinite().all()
