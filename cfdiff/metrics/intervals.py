"""95 % intervals: of a proportion, of a mean, and of any statistic by the bootstrap over groups."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

Interval = tuple[float, float]


def wilson(hits: int, n: int, z: float = 1.959964) -> Interval:
    """95 % interval of a proportion (Wilson 1927), in [0, 1]."""
    if n == 0:
        return 0.0, 1.0
    p, z2n = hits / n, z * z / n
    centre = (p + z2n / 2) / (1 + z2n)
    half = z / (1 + z2n) * math.sqrt(p * (1 - p) / n + z2n / (4 * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def mean_interval(values: np.ndarray, z: float = 1.959964) -> Interval | None:
    """Normal 95 % interval of a mean; None for a single value."""
    if len(values) < 2:
        return None
    half = z * float(values.std(ddof=1)) / math.sqrt(len(values))
    return float(values.mean()) - half, float(values.mean()) + half


def bootstrap(
    values: np.ndarray,
    groups: np.ndarray | Sequence[str] | None = None,
    statistic: Callable[[np.ndarray], float] = np.mean,
    n_boot: int = 2000,
    seed: int = 0,
) -> Interval | None:
    """Percentile 95 % interval of `statistic(values)` (Efron 1979), resampling whole groups where they are given.

    values (N, ...); groups (N,): the rows of one group (a patient, a slide) are drawn together, because they are not
    independent; then the interval is that of the cluster bootstrap (Davison and Hinkley 1997, section 3.8). None for
    fewer than two groups (or rows), for which nothing can be said. The same seed gives the same draws whatever the
    statistic. The interval of a proportion of 0 or 1 has no width: take `wilson` there if rows are independent.
    """
    if statistic is not np.mean or values.ndim > 1:
        return bootstrap_rows(len(values), groups, lambda rows: statistic(values[rows]), n_boot, seed)
    member = _members(len(values), groups)
    counts = np.bincount(member)
    sums = np.bincount(member, weights=values)
    if len(counts) < 2:
        return None
    # A mean needs only each group's sum and size, which makes 2,000 draws of many rows a matter of milliseconds.
    return _percentiles([float(sums[d].sum() / counts[d].sum()) for d in _draws(len(counts), n_boot, seed)])


def bootstrap_rows(
    n: int,
    groups: np.ndarray | Sequence[str] | None,
    statistic: Callable[[np.ndarray], float],
    n_boot: int = 2000,
    seed: int = 0,
) -> Interval | None:
    """As `bootstrap`, for a statistic of several arrays: it gets the drawn row numbers, of 0..n-1 with repetition."""
    member = _members(n, groups)
    if n == 0 or member.max() < 1:
        return None
    rows = np.split(np.argsort(member, kind="stable"), np.cumsum(np.bincount(member))[:-1])
    drawn = (np.concatenate([rows[g] for g in d]) for d in _draws(len(rows), n_boot, seed))
    return _percentiles([float(statistic(r)) for r in drawn])


def group_weights(
    n: int, groups: np.ndarray | Sequence[str] | None, n_boot: int = 2000, seed: int = 0
) -> Iterator[np.ndarray]:
    """How often each of n rows (n,) is in each of the draws of `bootstrap`, for statistics of weighted counts."""
    member = _members(n, groups)
    size = int(member.max()) + 1 if n else 0
    return (np.bincount(d, minlength=size)[member] for d in _draws(size, n_boot, seed))


def percentile_interval(drawn: Sequence[float] | np.ndarray) -> Interval:
    """The 2.5 % and 97.5 % quantiles of the drawn values; draws in which the statistic is undefined (NaN) are left."""
    return _percentiles(drawn)


def _members(n: int, groups: np.ndarray | Sequence[str] | None) -> np.ndarray:
    return np.arange(n) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]


def _draws(size: int, n_boot: int, seed: int) -> Iterator[np.ndarray]:
    g = np.random.default_rng(seed)
    return (g.integers(0, size, size) for _ in range(n_boot))


def _percentiles(drawn: Sequence[float] | np.ndarray) -> Interval:
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return float(low), float(high)
