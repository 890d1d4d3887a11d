"""How real generated images look, as a set: FID and KID to real images, beside those of real to real."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from cfdiff.data.source import Source, random_subset
from cfdiff.data.values import to_model
from cfdiff.edit.cast import Cast
from cfdiff.generate.plan import split_of
from cfdiff.generate.settings import GenerateSettings
from cfdiff.metrics import realism
from cfdiff.metrics.columns import Figure, entry_of_draws
from cfdiff.models.features import Extract, has_features, judge_features, timm_features

LEAST = 8
"""Fewer images than this make no set to speak of."""
MOST = 512
"""Real images at most: twice that would take a minute more and move no figure by its interval."""
REPEATS = 10


@dataclass(frozen=True, eq=False)
class Real:
    """What generated images are measured against.

    Attributes:
        features: (M, D) of real images; `name` is the network that they are of.
        images: how many, of what, in words.
    """

    features: np.ndarray
    extract: Extract
    name: str
    images: str


def real_features(s: GenerateSettings, cast: Cast, real: Source | None, target: int | None) -> Real | str:
    """Features of real images of the class asked for (of both where none is), or in words why there are none.

    Raises:
        UserError: the split is not there, or the network of the features cannot be had.
    """
    if not s.compare:
        return "not asked for"
    if s.interpolate != "none":
        return "the images of one path are no sample"
    if real is None:
        return "no real images at hand: name them with --data"
    if s.images < LEAST:
        return f"fewer than {LEAST} images: ask for more with --images"
    part = real.narrow(split_of(s, real), target)
    if len(part) < 2 * LEAST:
        return f"{len(part)} real images, fewer than {2 * LEAST}: choose another --split"
    if s.features == "judge" and (cast.judge is None or not has_features(cast.judge)):
        return "no judge with features: name one with --judge, or a timm model with --features"
    if s.features == "judge":
        assert cast.judge is not None
        extract, name = judge_features(cast.judge, cast.device), cast.judge.name
    else:
        extract = timm_features(s.features, s.feature_weights, real.shape[2], cast.device)
        name = s.features
    some = random_subset(part, MOST, s.seed)
    read = (some.read(rows) for rows in np.array_split(np.arange(len(some)), -(-len(some) // s.batch_size)))
    what = "both classes" if target is None else real.classes[target]
    return Real(features_of(extract, read), extract, name, f"{len(some)} real images of {what} in {real.name}")


@torch.no_grad()
def features_of(extract: Extract, images: Iterator[np.ndarray]) -> np.ndarray:
    """(N, D) float32 of stored images that come some (B, H, W, C) at a time."""
    return np.concatenate([extract(to_model(some)).cpu().numpy() for some in images])


def distances(real: Real, drawn: np.ndarray, seed: int) -> dict[str, Figure]:
    """FID and KID of generated images by their features (N, D), each beside real against real at the same n."""

    def kid(a: np.ndarray, b: np.ndarray) -> float:
        return realism.kid(a, b, subsets=20, seed=seed)[0]

    n = min(len(drawn), len(real.features) // 2)
    metrics: tuple[tuple[str, Callable[[np.ndarray, np.ndarray], float], float], ...] = (
        ("fid", realism.fid, 0.0),
        ("kid", kid, -np.inf),
    )
    figures: dict[str, Figure] = {}
    for name, metric, lowest in metrics:
        title = f"{name.upper()} (features of {real.name})"
        ours = realism.against_real(real.features, drawn, n, REPEATS, seed, metric)
        theirs = realism.real_against_real(real.features, n, REPEATS, seed, metric)
        figures[name] = Figure(title, "lower", entry_of_draws(*ours, lowest))
        figures[f"{name}_real"] = Figure(f"{title}, real against real", None, entry_of_draws(*theirs, lowest))
    return figures
