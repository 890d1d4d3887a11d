"""How good the scores of bags are: ranking of classes, errors of fractions, agreement of orders."""

from __future__ import annotations

import numpy as np
from scipy.stats import kendalltau, rankdata  # type: ignore[import-untyped]
from sklearn.metrics import average_precision_score


def bag_auroc(score: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve of scores (B,) for classes (B,) bool, in [0, 1]; chance 0.5; NaN for one class only."""
    p = int(positive.sum())
    if p in (0, len(positive)):
        return float("nan")
    ranks = rankdata(score)[positive].sum()  # Mann & Whitney (1947); many times as fast as building the curve
    return float((ranks - p * (p + 1) / 2) / (p * (len(positive) - p)))


def instance_auprc(share: np.ndarray, positive: np.ndarray) -> float:
    """Average precision of shares (n,) for instance labels (n,) bool; chance is the fraction of positives.

    NaN where all instances of the bag are of one class.
    """
    return float(average_precision_score(positive, share)) if positive.any() and not positive.all() else float("nan")


def balanced_accuracy(score: np.ndarray, positive: np.ndarray) -> float:
    """Mean over the classes that are there of the share of bags on the right side of the logit 0."""
    right = (score > 0) == positive
    return float(np.mean([right[positive == k].mean() for k in (True, False) if (positive == k).any()]))


def log_loss(score: np.ndarray, positive: np.ndarray) -> float:
    """Mean binary cross-entropy of logits (B,), in nats."""
    return float(np.mean(np.logaddexp(0, score) - positive * score))


def tau(a: np.ndarray, b: np.ndarray) -> float:
    """Kendall's tau-b of two orders (N,), in [-1, 1]; NaN where one of them has no two different values."""
    if len(np.unique(a)) < 2 or len(np.unique(b)) < 2:
        return float("nan")
    return float(kendalltau(a, b).statistic)
