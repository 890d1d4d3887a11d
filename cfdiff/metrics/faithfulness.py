"""Faithful: are the pixels that changed the ones that the classifier goes by?

`predict` is the classifier: images (B, H, W, C) float32 in [0, 1] -> probabilities (B, K). Pixels go from the most to
the least important, ties by index (row by row), in steps of exact fractions of the image; areas are by the trapezoid
rule over the fractions that were really reached (a step of 1/50 of 4096 pixels is no whole number of them).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from skimage.filters import gaussian

Predict = Callable[[np.ndarray], np.ndarray]


class Cout(NamedTuple):
    """B counterfactuals, steps + 1 fractions."""

    scores: np.ndarray
    """(B,) in [-1, 1]: area under `target` less area under `original`; higher is better."""
    target: np.ndarray
    """(B, steps + 1) probability of the target class."""
    original: np.ndarray
    """(B, steps + 1) probability of the class that the source is left for."""
    fractions: np.ndarray
    """(steps + 1,) share of the pixels that come from the counterfactual, 0 to 1."""


class Curve(NamedTuple):
    """Deletion or insertion of B images."""

    scores: np.ndarray
    """(B,) area under the curve, in [0, 1]."""
    curve: np.ndarray
    """(B, steps + 1) probability of the class."""
    fractions: np.ndarray
    """(steps + 1,) share of the pixels deleted or inserted, 0 to 1."""


def cout(
    source: np.ndarray,
    cf: np.ndarray,
    predict: Predict,
    target: np.ndarray | int,
    steps: int = 50,
    original: np.ndarray | int | None = None,
) -> Cout:
    """Counterfactual transition score (Khorram and Fuxin 2022, C3LT; ACE, Jeanneret et al. 2023, uses it too).

    Pixels of the counterfactual replace those of the source (B, H, W, C), the most changed first. The score is
    AUPC(target) - AUPC(original): 1 where the first pixels already turn the classifier, -1 where it never doubts the
    original class. target: (B,) or one class; original: the same, by default the class, of those that are not the
    target, that is likeliest in the source (with two classes: the other one).
    """
    wanted = _each(target, len(source))
    if original is None:
        p = predict(source.astype(np.float32)).copy()
        p[np.arange(len(p)), wanted] = -1
        left = p.argmax(axis=1)
    else:
        left = _each(original, len(source))
    p, fractions = _replace(source, cf, importance(source, cf), predict, steps)
    rows = np.arange(len(source))
    to, away = p[rows, :, wanted], p[rows, :, left]
    return Cout(_area(to, fractions) - _area(away, fractions), to, away, fractions)


def deletion(
    source: np.ndarray,
    scores: np.ndarray,
    predict: Predict,
    label: np.ndarray | int,
    steps: int = 50,
    baseline: str = "blur",
    sigma: float = 5.0,
) -> Curve:
    """Deletion (Petsiuk et al. 2018, RISE): p(label) while the most important pixels of the source are taken away.

    source (B, H, W, C); scores (B, H, W): `importance`, or any saliency map; label: (B,) or one class, the class of the
    source. A small area is good: the pixels mattered. A deleted pixel takes its value from the `baseline`: the source
    blurred by a Gaussian ("blur"; sigma in pixels, 5 as in RISE's insertion), or each channel's mean ("mean").
    """
    return _curve(source, substitute(source, baseline, sigma), scores, predict, label, steps)


def insertion(
    source: np.ndarray,
    scores: np.ndarray,
    predict: Predict,
    label: np.ndarray | int,
    steps: int = 50,
    baseline: str = "blur",
    sigma: float = 5.0,
) -> Curve:
    """Insertion (Petsiuk et al. 2018, RISE): p(label) while the most important pixels of the source come back.

    As `deletion`, from the baseline to the source. A large area is good.
    """
    return _curve(substitute(source, baseline, sigma), source, scores, predict, label, steps)


def importance(source: np.ndarray, cf: np.ndarray) -> np.ndarray:
    """(B, H, W) >= 0: |difference| summed over channels, to 1e-6, so that equal changes of stored values are ties."""
    return np.abs(cf.astype(np.float64) - source).sum(axis=-1).round(6)


def substitute(source: np.ndarray, baseline: str = "blur", sigma: float = 5.0) -> np.ndarray:
    """What stands for a deleted pixel, (B, H, W, C): "blur", the source blurred, or "mean", each channel's mean."""
    if baseline == "mean":
        return np.broadcast_to(source.mean(axis=(1, 2), keepdims=True), source.shape)
    return np.stack([gaussian(image, sigma, mode="nearest", channel_axis=-1) for image in source])


def _curve(
    start: np.ndarray, end: np.ndarray, scores: np.ndarray, predict: Predict, label: np.ndarray | int, steps: int
) -> Curve:
    p, fractions = _replace(start, end, scores, predict, steps)
    curve = p[np.arange(len(start)), :, _each(label, len(start))]
    return Curve(_area(curve, fractions), curve, fractions)


def _replace(
    start: np.ndarray, end: np.ndarray, scores: np.ndarray, predict: Predict, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (B, steps + 1, K) while the pixels of `start` become those of `end`, highest score first."""
    pixels = scores[0].size
    order = np.argsort(-scores.reshape(len(scores), -1), axis=1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(pixels)[None], axis=1)
    rank = rank.reshape(*scores.shape, 1)
    counts = np.floor(np.arange(steps + 1) * pixels / steps + 0.5).astype(int)
    p = [predict(np.where(rank < count, end, start).astype(np.float32)) for count in counts]
    return np.stack(p, axis=1), counts / pixels


def _area(curve: np.ndarray, fractions: np.ndarray) -> np.ndarray:
    return ((curve[:, 1:] + curve[:, :-1]) / 2 * np.diff(fractions)).sum(axis=1, dtype=np.float64)


def _each(label: np.ndarray | int, n: int) -> np.ndarray:
    return np.broadcast_to(np.asarray(label), n)
