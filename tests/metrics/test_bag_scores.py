from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.metrics import log_loss as sklearns_log_loss

from cfdiff.metrics.bag_scores import bag_auroc, balanced_accuracy, instance_auprc, log_loss, tau


def test_the_figures_are_those_of_scikit_learn_with_ties_too() -> None:
    rng = np.random.default_rng(0)
    score, positive = np.round(rng.normal(size=60), 1), rng.random(60) < 0.4
    assert bag_auroc(score, positive) == pytest.approx(roc_auc_score(positive, score))
    assert balanced_accuracy(score, positive) == pytest.approx(balanced_accuracy_score(positive, score > 0))
    assert log_loss(score, positive) == pytest.approx(sklearns_log_loss(positive, 1 / (1 + np.exp(-score))))


def test_what_is_not_defined_is_not_a_number() -> None:
    one = np.ones(4, bool)
    assert math.isnan(bag_auroc(np.arange(4.0), one)) and math.isnan(instance_auprc(np.arange(4.0), ~one))
    assert math.isnan(tau(np.zeros(4), np.arange(4.0))) and tau(np.arange(4.0), -np.arange(4.0)) == -1


def test_the_auprc_of_a_perfect_attention_is_one_and_of_an_even_one_is_chance() -> None:
    labels = np.array([True, False, False, False])
    assert instance_auprc(np.array([0.7, 0.1, 0.1, 0.1]), labels) == 1
    assert instance_auprc(np.full(4, 0.25), labels) == pytest.approx(0.25)
