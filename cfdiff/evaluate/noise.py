"""Is the change noise? Its spectrum beside that of what real images of the two classes differ by."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cfdiff.data.source import Source
from cfdiff.data.values import unit
from cfdiff.metrics.columns import Columns, Figure
from cfdiff.metrics.spectrum import high_frequency_share
from cfdiff.registry import METRICS
from cfdiff.store.runs import Run

PAIRS = 512
"""Pairs of real images at most: their share is the same in all, so few tell it."""


def beside_real(
    run: Run, real: Source | None, values: dict[str, np.ndarray], columns: Columns, batch: int, seed: int
) -> dict[str, Figure]:
    """How many images were left as they were, and the same share for pairs of real images, where there are any.

    A pair is a source of the run and a random real image of the class that it was edited to; its interval is over the
    groups of the sources.
    """
    if "high_frequency" not in METRICS:
        return {}
    figures = {"unchanged": columns.share("no change at all, so no share", np.isnan(values["high_frequency"]))}
    if real is not None:
        values["high_frequency_real"] = _pairs(run, real, batch, seed)
        label = f"{METRICS['high_frequency'].label}, real against real"
        figure = columns.mean(label, values["high_frequency_real"], unit="share", within=(0, 1))
        figures = {"high_frequency_real": replace(figure, flipped=None), **figures}
    return figures


def _pairs(run: Run, real: Source, batch: int, seed: int) -> np.ndarray:
    """(N,) the share of each pair; NaN for the sources that were not drawn, and where real images are equal."""
    g = np.random.default_rng(seed)
    drawn = np.sort(g.permutation(len(run))[:PAIRS])
    of_class = {target: np.flatnonzero(real.labels == target) for target in np.unique(run.target).tolist()}
    partner = np.array([g.choice(of_class[target]) for target in run.target[drawn].tolist()])
    shares = np.full(len(run), np.nan)
    for i in range(0, len(drawn), batch):
        rows, others = drawn[i : i + batch], partner[i : i + batch]
        shares[rows] = high_frequency_share(unit(real.read(others)).astype(np.float64) - unit(run.read(rows)[0]))
    return shares
