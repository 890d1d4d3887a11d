"""The picture of a generation: a grid, a path between its two ends, or a row for each number of steps and a curve."""

from __future__ import annotations

from textwrap import shorten

import numpy as np

from cfdiff.figures.grid import Curve, Strip, grid, strips
from cfdiff.generate.plan import Plan
from cfdiff.generate.summary import GenerateSummary
from cfdiff.store.samples import Samples, open_samples

MOST = 96
"""Images of a grid at most: more are too small to see."""
IN_A_ROW = 12
TITLE = 40
"""Letters of what was drawn, which may be a long text."""


def draw(summary: GenerateSummary, plan: Plan) -> None:
    """Draw the images of a finished file to `summary.picture`; those of a real path stand between the real images."""
    direction = shorten(summary.direction.replace("->", chr(0x2192)), TITLE, placeholder=" …")
    words = f"{direction}, {summary.sampler}"
    with open_samples(summary.result) as samples:
        steps = [walk.steps for walk in summary.walks]
        if len(steps) == 1 and plan.position is None:
            title = f"{words}, {steps[0]} steps"
            grid(samples.image[: min(len(samples), MOST)], summary.picture, title)
            return
        rows = [_strip(samples, count, plan) for count in steps]
        strips(rows, summary.picture, words, _curves(summary))


def _strip(samples: Samples, steps: int, plan: Plan) -> Strip:
    rows = np.flatnonzero(samples["steps"][:] == steps)
    if len(rows) > IN_A_ROW:
        spread = np.linspace(0, len(rows) - 1, IN_A_ROW).round().astype(int)
        rows = rows[spread if plan.position is not None else slice(IN_A_ROW)]
    images = samples.image[rows]
    if plan.ends is not None:
        ends = plan.ends.read([0, 1])
        images = np.concatenate([ends[:1], images, ends[1:]])
    return Strip(f"{steps} steps", images)


def _curves(summary: GenerateSummary) -> list[Curve]:
    """FID and KID against calls, where several numbers of steps were measured."""
    walks = [walk for walk in summary.walks if walk.figures]
    if len(walks) < 2:
        return []
    return [
        Curve(
            walks[0].figures[name].label,
            np.array([walk.network_calls for walk in walks]),
            np.array([walk.figures[name].all.value for walk in walks], float),
            np.array([walk.figures[name].all.interval for walk in walks], float),
            _triple(walks[-1].figures[f"{name}_real"].all),
        )
        for name in ("fid", "kid")
    ]


def _triple(entry: object) -> tuple[float, float, float]:
    value, low, high = (getattr(entry, name) for name in ("value", "low", "high"))
    return float(value), float(low), float(high)
