"""Retrieval between images and texts: is the right one among the k that are most alike, and what would chance give?

Captions repeat, so an image has one right text among K different ones, and a text has all images that bear it. Chance
is a ranking that knows nothing; "commonest" one that knows how often each caption is there, and sees no image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln  # type: ignore[import-untyped]

from cfdiff.metrics.intervals import Groups, Interval, share_interval


@dataclass(frozen=True)
class Rate:
    """A share in [0, 1] with its 95 % interval, beside what chance gives and, where there is such a thing, what the
    commonest answers give."""

    value: float
    interval: Interval | None
    chance: float
    commonest: float | None = None


def images_to_texts(similarity: np.ndarray, own: np.ndarray, k: int, groups: Groups = None) -> Rate:
    """The share of images whose own text is among the k that are most like it.

    Args:
        similarity: (N, K) of images and different texts, higher is more alike.
        own: (N,) the place of each image's text in 0..K-1.
        groups: (N,), over which the interval is.
    """
    n, different = similarity.shape
    k = min(k, different)
    hits = (np.argsort(-similarity, axis=1, kind="stable")[:, :k] == own[:, None]).any(axis=1)
    counts = np.sort(np.bincount(own, minlength=different))[::-1]
    return Rate(float(hits.mean()), share_interval(hits, groups), k / different, float(counts[:k].sum() / n))


def texts_to_images(similarity: np.ndarray, own: np.ndarray, k: int) -> Rate:
    """The share of different texts of which one of the k images that are most like it bears it; as `images_to_texts`.

    The interval is over texts, for these images: drawing images anew would make of them a smaller heap to search.
    """
    n, k = len(similarity), min(k, len(similarity))
    counts = np.bincount(own, minlength=similarity.shape[1])
    there = np.flatnonzero(counts)
    best = np.argsort(-similarity[:, there], axis=0, kind="stable")[:k]
    hits = (own[best] == there).any(axis=0)
    return Rate(float(hits.mean()), share_interval(hits), float(np.mean(1 - _none_of(n, counts[there], k))))


def _none_of(n: int, counts: np.ndarray, k: int) -> np.ndarray:
    """The probability that k of n images drawn without putting back are none of `counts` (K,): hypergeometric."""
    possible = n - counts >= k
    left = np.where(possible, n - counts, k)
    log_p = gammaln(left + 1) - gammaln(left - k + 1) - gammaln(n + 1) + gammaln(n - k + 1)
    return np.where(possible, np.exp(log_p), 0.0)


def class_accuracy(scores: np.ndarray, labels: np.ndarray, groups: Groups = None) -> Rate:
    """Balanced accuracy of the nearer of two texts: scores (N, 2), labels (N,) of 0 and 1; chance is one half.

    The interval joins those of the two classes' shares as of independent figures (Zou & Donner 2008, eq. 6).
    """
    right = (scores[:, 1] > scores[:, 0]) == (labels == 1)
    shares: list[float] = []
    below: list[float] = []
    above: list[float] = []
    for label in (0, 1):
        here = labels == label
        share = float(right[here].mean())
        low, high = share_interval(right[here], None if groups is None else np.asarray(groups)[here])
        shares.append(share)
        below.append(share - low)
        above.append(high - share)
    value = float(np.mean(shares))
    return Rate(value, (value - math.hypot(*below) / 2, value + math.hypot(*above) / 2), 0.5)
