"""A figure as evaluate reports it: over all images and, beside it, over the flipped ones, each with its interval."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from cfdiff.metrics.intervals import Interval, bootstrap, wilson

Figure = dict[str, Any]
Entry = dict[str, Any]


class Columns:
    """Makes figures of per-image values (N,); NaN marks an image that has no such value and is left out.

    Means: bootstrap over groups, else over images. Shares: Wilson over images and, where there are groups, the
    bootstrap over them, whichever reaches further on each side; the bootstrap alone would give a share of 100 % an
    interval without width, Wilson alone would take the cells of one patient as independent.
    """

    def __init__(
        self, n: int, groups: np.ndarray | None, flipped: np.ndarray | None, n_boot: int = 2000, seed: int = 0
    ) -> None:
        self.n, self.groups, self.flipped = n, groups, flipped
        self.n_boot, self.seed = n_boot, seed

    def mean(self, label: str, values: np.ndarray, better: str | None = None) -> Figure:
        """The mean of values (N,)."""
        known = ~np.isnan(values)

        def entry(rows: np.ndarray) -> Entry:
            part = values[rows].astype(np.float64)
            groups, by = self.groups_of(rows)
            found = bootstrap(part, groups, n_boot=self.n_boot, seed=self.seed)
            return entry_of(part.mean() if len(part) else None, found, len(part), by)

        return self._figure(label, better, known, entry)

    def share(self, label: str, hits: np.ndarray, better: str | None = None) -> Figure:
        """The share of hits (N,): bool, or floats 0, 1 and NaN."""
        hits = hits.astype(np.float64)

        def entry(rows: np.ndarray) -> Entry:
            part = hits[rows]
            if not len(part):
                return entry_of(None, None, 0, None)
            low, high = wilson(int(part.sum()), len(part))
            groups, by = self.groups_of(rows)
            if groups is None:
                return entry_of(part.mean(), (low, high), len(part), "Wilson")
            drawn = bootstrap(part, groups, n_boot=self.n_boot, seed=self.seed) or (low, high)
            return entry_of(part.mean(), (min(low, drawn[0]), max(high, drawn[1])), len(part), f"{by}, Wilson")

        return {**self._figure(label, better, ~np.isnan(hits), entry), "unit": "share"}

    def of_rows(self, label: str, entry: Callable[[np.ndarray], Entry], better: str | None = None) -> Figure:
        """Any statistic: `entry` makes it of row numbers."""
        return self._figure(label, better, np.ones(self.n, bool), entry)

    def groups_of(self, rows: np.ndarray) -> tuple[np.ndarray | None, str | None]:
        """Groups of some rows for the bootstrap, and what it resamples in words; None and images for fewer than two."""
        groups = None if self.groups is None else self.groups[rows]
        if groups is not None and len(np.unique(groups)) > 1:
            return groups, "groups"
        return None, "images" if len(rows) > 1 else None

    def _figure(
        self, label: str, better: str | None, known: np.ndarray, entry: Callable[[np.ndarray], Entry]
    ) -> Figure:
        return {
            "label": label,
            "better": better,
            "all": entry(np.flatnonzero(known)),
            "flipped": None if self.flipped is None else entry(np.flatnonzero(known & self.flipped)),
        }


def entry_of(value: float | None, interval: Interval | None, n: int, by: str | None) -> Entry:
    """One number with its 95 % interval, the images it is of, and what the interval resamples; NaN becomes None."""
    low, high = interval or (None, None)
    return {"value": plain(value), "low": plain(low), "high": plain(high), "n": n, "by": by if interval else None}


def plain(value: Any) -> float | None:
    """A float that JSON can hold, or None."""
    return None if value is None or not math.isfinite(value) else float(value)
