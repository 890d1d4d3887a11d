"""What can be measured of a pair of images, a source and its counterfactual, and the five that come along.

To add one: a `Metric` in a file of its own, and a line in `METRICS` (cfdiff/registry.py), or from outside
`METRICS["mine"] = Metric(...)`. `cfdiff evaluate` measures every entry and reports it under its name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from cfdiff.metrics import minimality
from cfdiff.metrics.intervals import ANYWHERE, Interval


class PairSettings(Protocol):
    """Of the settings of `cfdiff evaluate`, what a metric may go by."""

    @property
    def eps(self) -> float:
        """Grey levels of 255 that a pixel must differ by more than to count as changed."""
        ...


@dataclass(frozen=True)
class Metric:
    """One value for each pair of a batch.

    Attributes:
        label: what the figure is called; "{eps:g}" in it stands for that setting, so double any other brace.
        of: source and counterfactual (B, H, W, C) floats in [0, 1], and the settings -> (B,) numbers.
        better: which way is good, or None.
        unit: "share" where it is one, else None.
        section: of evaluate's sections, the one that the figure stands in; another word makes a new one.
        within: the range that a mean of it can have, to which its interval is cut.
    """

    label: str
    of: Callable[[np.ndarray, np.ndarray, PairSettings], np.ndarray]
    better: Literal["higher", "lower"] | None = None
    unit: Literal["share"] | None = None
    section: str = "minimal"
    within: Interval = ANYWHERE


MEAN_ABS = Metric(
    "mean |difference|, 1 is the full range",
    lambda source, cf, s: minimality.mean_abs(source, cf),
    "lower",
    within=(0, 1),
)
L2 = Metric(
    "L2: root of the sum of squares", lambda source, cf, s: minimality.l2(source, cf), "lower", within=(0, np.inf)
)
SSIM = Metric("SSIM with the source", lambda source, cf, s: minimality.ssim(source, cf), "higher", within=(-1, 1))
CHANGED_SHARE = Metric(
    "pixels that changed by more than {eps:g}/255",
    lambda source, cf, s: minimality.changed_share(source, cf, s.eps / 255),
    "lower",
    "share",
    within=(0, 1),
)
CHANGED_REGIONS = Metric(
    "regions of such pixels",
    lambda source, cf, s: minimality.changed_regions(source, cf, s.eps / 255),
    "lower",
    within=(0, np.inf),
)
