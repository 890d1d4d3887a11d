"""A figure as evaluate reports it: over all images and, beside it, over the flipped ones, each with its interval."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from cfdiff.metrics.intervals import ANYWHERE, Interval, Z, bootstrap_rows, mean_interval, over, share_interval


@dataclass(frozen=True)
class Entry:
    """One number.

    Attributes:
        value: None where there is none.
        low, high: of its 95 % interval; None where there is none.
        n: images (or pairs of a bag and a mix) that it is of.
        by: how the interval was made, "Student over groups" for one; None where there is none.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    by: str | None

    @property
    def interval(self) -> Interval | None:
        """Low and high."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    def __str__(self) -> str:
        if self.value is None:
            return f"not known (n = {self.n})"
        between = "" if self.low is None else f" [{self.low:.4g}, {self.high:.4g}]"
        return f"{self.value:.4g}{between} (n = {self.n}{'' if self.by is None else f', {self.by}'})"


@dataclass(frozen=True)
class Figure:
    """What one figure is over all images and over the flipped ones (None: it has no such column, nobody can tell).

    Attributes:
        better: "higher", "lower" or None.
        unit: "share" where it is a share of something.
    """

    label: str
    better: str | None
    all: Entry
    flipped: Entry | None = None
    unit: str | None = None

    def __str__(self) -> str:
        flipped = "" if self.flipped is None else f"; of the flipped {self.flipped}"
        return f"{self.label}: {self.all}{flipped}"

    def as_json(self) -> dict[str, Any]:
        """As docs/evaluate.md lists it: `unit` only where there is one."""
        plain_ = asdict(self)
        return plain_ if self.unit is not None else {k: v for k, v in plain_.items() if k != "unit"}


class Columns:
    """Makes figures of per-image values (N,); NaN marks an image that has no such value and is left out.

    Intervals are over groups where there are at least two, else over images (`metrics.intervals`).
    """

    def __init__(
        self, n: int, groups: np.ndarray | None, flipped: np.ndarray | None, n_boot: int = 2000, seed: int = 0
    ) -> None:
        self.n, self.groups, self.flipped = n, groups, flipped
        self.n_boot, self.seed = n_boot, seed

    def mean(
        self, label: str, values: np.ndarray, better: str | None = None, unit: str | None = None,
        within: Interval = ANYWHERE,
    ) -> Figure:  # fmt: skip
        """The mean of values (N,); its interval is cut to the range `within` that it can have."""

        def entry(rows: np.ndarray) -> Entry:
            part = values[rows].astype(np.float64)
            groups = self.groups_of(rows)
            value = part.mean() if len(part) else None
            return entry_of(value, mean_interval(part, groups, within), len(part), f"Student over {over(groups)}")

        return replace(self._figure(label, better, ~np.isnan(values), entry), unit=unit)

    def share(self, label: str, hits: np.ndarray, better: str | None = None) -> Figure:
        """The share of hits (N,): bool, or floats 0, 1 and NaN."""
        hits = hits.astype(np.float64)

        def entry(rows: np.ndarray) -> Entry:
            part = hits[rows]
            if not len(part):
                return entry_of(None, None, 0, None)
            groups = self.groups_of(rows)
            return entry_of(part.mean(), share_interval(part, groups), len(part), f"Wilson over {over(groups)}")

        return replace(self._figure(label, better, ~np.isnan(hits), entry), unit="share")

    def of_rows(self, label: str, entry: Callable[[np.ndarray], Entry], better: str | None = None) -> Figure:
        """Any figure: `entry` makes it of row numbers."""
        return self._figure(label, better, np.ones(self.n, bool), entry)

    def statistic(self, label: str, statistic: Callable[[np.ndarray], float], better: str | None = None) -> Figure:
        """Any statistic of row numbers, over all images alone, with a bootstrap interval."""
        rows = np.arange(self.n)
        interval = bootstrap_rows(self.n, self.groups, statistic, self.n_boot, self.seed)
        entry = entry_of(statistic(rows), interval, self.n, f"bootstrap over {over(self.groups)}")
        return Figure(label, better, entry)

    def groups_of(self, rows: np.ndarray) -> np.ndarray | None:
        """The groups of some rows."""
        return None if self.groups is None else self.groups[rows]

    def _figure(
        self, label: str, better: str | None, known: np.ndarray, entry: Callable[[np.ndarray], Entry]
    ) -> Figure:
        flipped = None if self.flipped is None else entry(np.flatnonzero(known & self.flipped))
        return Figure(label, better, entry(np.flatnonzero(known)), flipped)


def entry_of(value: float | None, interval: Interval | None, n: int, by: str | None) -> Entry:
    """One number with its 95 % interval, the images it is of, and how the interval was made; NaN becomes None."""
    low, high = interval or (None, None)
    return Entry(plain(value), plain(low), plain(high), n, by if interval else None)


def entry_of_draws(mean: float, std: float, n: int, lowest: float) -> Entry:
    """A figure over random draws of n images: the interval is where 95 % of single draws lie, cut at `lowest`."""
    half = Z * std
    return entry_of(mean, (max(lowest, mean - half), mean + half), n, "draws")


def plain(value: Any) -> float | None:
    """A float that JSON can hold, or None."""
    return None if value is None or not math.isfinite(value) else float(value)
