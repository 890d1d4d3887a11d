"""Realistic? Features of counterfactuals against those of real images of the target class, at equal counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from cfdiff.data.raw import file_sha256
from cfdiff.data.source import Source, random_subset
from cfdiff.errors import UserError
from cfdiff.evaluate.features import features_of
from cfdiff.evaluate.judge import Judge
from cfdiff.evaluate.reference import open_reference
from cfdiff.evaluate.settings import EvaluateSettings
from cfdiff.metrics import realism
from cfdiff.metrics.columns import Columns, Entry, Figure, entry_of, entry_of_draws
from cfdiff.models.features import Extract, has_features, judge_features, timm_features
from cfdiff.store.runs import Run

LEAST = 8
"""Fewer images than this make no set to speak of."""
Count = Callable[[int], int]
"""How many images each side of a distance has, for so many counterfactuals."""
Draw = Callable[..., realism.Repeated]
"""(rows of the counterfactuals, images on each side)."""


@dataclass(frozen=True)
class Space:
    """A feature space, the name that every figure in it carries, and the sha256 of its weights (None: timm's own)."""

    name: str
    extract: Extract
    sha256: str | None


def feature_space(s: EvaluateSettings, run: Run, judge: Judge | None, device: torch.device) -> Space | None:
    """The features asked for; None for the judge's where no judge is at hand, or it has none and nobody asked for them.

    Raises:
        UserError: timm has no such model or it cannot be had, or weights were given for the judge's features.
    """
    if s.features != "judge":
        extract = timm_features(s.features, s.feature_weights, run.shape[2], device)
        return Space(s.features, extract, None if s.feature_weights is None else file_sha256(s.feature_weights))
    if s.feature_weights is not None:
        raise UserError("--feature-weights are those of a timm model: name it with --features.")
    if judge is None or not (s.realism or s.reference or has_features(judge.model)):
        return None
    return Space(judge.title, judge_features(judge.model, device), judge.model.sha256)


def real_images(s: EvaluateSettings, run: Run) -> Source | str:
    """Real images of the target classes, twice as many as there are counterfactuals where there are so many.

    In words why there are none, where nobody named a source and the run's data is not bundled, or it holds too few.

    Raises:
        UserError: the source cannot be read, or holds images of another size.
    """
    reference = open_reference(s, run)
    if reference is None:
        return "no real images at hand: name them with --reference"
    source, split = reference
    targets, counts = np.unique(run.target, return_counts=True)
    parts = []
    for target, count in zip(targets, counts, strict=True):
        rows = np.flatnonzero(source.labels == target)
        if len(rows) < 2 * LEAST:  # real against real takes two sets
            where = "" if split is None else f" in split {split}"
            return (
                f"{len(rows)} real images of class {run.classes[target]!r} in {source.name}{where}, fewer than "
                f"{2 * LEAST}: choose another --split or --reference"
            )
        parts.append((rows, int(count)))
    # Bags may change instances both ways: the real images then have the counterfactuals' share of each class.
    scale = min(2.0, *(len(rows) / count for rows, count in parts))
    chosen = [random_subset(source.select(rows), max(1, round(scale * count)), s.seed) for rows, count in parts]
    ids = np.concatenate([part.ids for part in chosen])
    return source.select(np.flatnonzero(np.isin(source.ids, ids)))


def read_features(source: Source, space: Space, batch: int) -> np.ndarray:
    """(N, D) float32 of a source's images."""
    starts = range(0, len(source), batch)
    parts = (source.read(np.arange(i, min(i + batch, len(source)))) for i in starts)
    return np.concatenate([features_of(space.extract, images) for images in parts])


def compare(
    real: np.ndarray, cf: np.ndarray, space: Space, columns: Columns, repeats: int, seed: int
) -> dict[str, Figure]:
    """FID, KID and sFID of counterfactuals, each beside real against real at the same n."""

    def kid(a: np.ndarray, b: np.ndarray) -> float:
        return realism.kid(a, b, subsets=20, seed=seed)[0]

    def pair(
        title: str, least: int, count: Count, one: Draw, other: Draw, lowest: float = 0.0
    ) -> tuple[Figure, Figure]:
        """A figure of the counterfactuals, and the same of real images."""

        def entry(draw: Draw) -> Callable[[np.ndarray], Entry]:
            def of(rows: np.ndarray) -> Entry:
                n = count(len(rows))
                return entry_of(None, None, len(rows), None) if n < least else entry_of_draws(*draw(rows, n), lowest)

            return of

        title = f"{title} (features of {space.name})"
        return (
            columns.of_rows(title, entry(one), "lower"),
            columns.of_rows(f"{title}, real against real", entry(other)),
        )

    def halves(n: int) -> int:
        return min(n, len(real)) // 2

    def equal(n: int) -> int:
        return min(n, len(real) // 2)

    figures: dict[str, Figure] = {}
    metrics: tuple[tuple[str, realism.Metric, float], ...] = (("fid", realism.fid, 0.0), ("kid", kid, -np.inf))
    for name, metric, lowest in metrics:
        figures[name], figures[f"{name}_real"] = pair(
            name.upper(),
            LEAST,
            equal,
            lambda rows, n, m=metric: realism.against_real(real, cf[rows], n, repeats, seed, m),
            lambda rows, n, m=metric: realism.real_against_real(real, n, repeats, seed, m),
            lowest,
        )
    figures["sfid"], figures["sfid_real"] = pair(
        "sFID",
        LEAST // 2,
        halves,
        lambda rows, n: realism.sfid(real, cf[rows], repeats, seed),
        lambda rows, n: realism.real_against_real(real, n, repeats, seed),
    )
    return figures
