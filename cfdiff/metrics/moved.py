"""How far did the set of edited images move towards the target class? A ratio of kernel distances."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from cfdiff.metrics.intervals import Interval, jackknife_interval, over

MOST = 1000
"""Images on each side at most, as in the subsets of KID (Binkowski et al. 2018): kernels are n x n."""


class Moved(NamedTuple):
    """A share of the way, its 95 % interval, the images on each side, and what the interval is over."""

    value: float | None
    interval: Interval | None
    n: int
    over: Literal["groups", "images"]


class _Side(NamedTuple):
    """Features (n, D) of a set, and the number of each row's group (n,)."""

    features: np.ndarray
    group: np.ndarray


def moved(
    source: np.ndarray,
    real: np.ndarray,
    edited: np.ndarray | None,
    *,
    groups: np.ndarray | None = None,
    real_groups: np.ndarray | None = None,
    repeats: int = 10,
    seed: int = 0,
) -> Moved:
    """1 - KID(edited, target) / KID(source, target): 0 for no change, 1 for a set as near as real images are.

    In each of `repeats` draws the real images of the target class are cut into two random halves of n; the second is
    the target, and n random pairs of source and edited image stand against it. With `edited` None the first half
    stands in place of the edited images: the same figure for real images, at the same n, with the same draws. KID here
    is the unbiased MMD^2 with the kernel (x.y / D + 1)^3 over all n (Binkowski et al. 2018, eq. 4 and section 4); it is
    averaged over the draws above and below the line, and divided then, as the mean of ratios is biased.

    It may be below 0 (moved away) and above 1 (nearer than real images are, by chance or because the features were
    attacked). The interval is a jackknife over groups (Arvesen 1969, U-statistics): each group, with its sources, edits
    and real images, is left out in turn. A bootstrap would draw groups twice, and the copies, alike within their set,
    would inflate every distance. Random halves share groups, so of real images they look nearer than those of other
    patients would: both figures have that in common. There is no interval where that of KID(source, target) holds 0,
    as the ratio then has no end (Fieller 1954), and no value where that KID is not above 0: between classes that the
    features cannot tell apart there is no way.

    Args:
        source, edited: (N, D) features, in pairs.
        real: (M, D) features of real images of the target class.
        groups, real_groups: (N,) and (M,) names; equal names are one group. None: each image is its own.
    """
    n = min(len(source), len(real) // 2, MOST)
    by: Literal["groups", "images"] = "images" if over(groups) == over(real_groups) == "images" else "groups"
    if n < 2:
        return Moved(None, None, n, by)
    names = np.concatenate([_names(groups, len(source), "s"), _names(real_groups, len(real), "r")])
    group = np.unique(names, return_inverse=True)[1]
    mine, theirs = group[: len(source)], group[len(source) :]
    count = int(group.max()) + 1
    above, below = np.zeros(count + 1), np.zeros(count + 1)
    for i in range(repeats):
        g = np.random.default_rng([seed, i])
        order, rows = g.permutation(len(real)), g.permutation(len(source))[:n]
        first, second = order[:n], order[n : 2 * n]
        target, start = _Side(real[second], theirs[second]), _Side(source[rows], mine[rows])
        there = _Side(real[first], theirs[first]) if edited is None else _Side(edited[rows], mine[rows])
        within = _within(target, count)
        above += _mmd2(there, target, within, count) / repeats
        below += _mmd2(start, target, within, count) / repeats
    sizes = np.bincount(group)
    if below[0] <= 0:
        return Moved(None, None, n, by)
    value = 1 - above[0] / below[0]
    distance = jackknife_interval(float(below[0]), below[1:], sizes)
    sure = distance is not None and distance[0] > 0 and (below[1:] > 0).all()
    interval = jackknife_interval(float(value), 1 - above[1:] / below[1:], sizes) if sure else None
    return Moved(float(value), interval, n, by)


def _names(groups: np.ndarray | None, n: int, prefix: str) -> np.ndarray:
    """The names (n,) of groups; of images that are their own group where there are no two."""
    if groups is None or over(groups) == "images":
        return np.array([f"{prefix}\0{i}" for i in range(n)])
    return np.asarray(groups).astype(str)


def _mmd2(a: _Side, b: _Side, within_b: np.ndarray, count: int) -> np.ndarray:
    """(1 + groups,) unbiased MMD^2 of all rows, then without each group; NaN where a side is left with no pair."""
    kernel = _kernel(a.features, b.features)
    whole, sides = kernel.sum(), (kernel.sum(axis=1), kernel.sum(axis=0))
    same = (kernel * (a.group[:, None] == b.group)).sum(axis=1)
    of_a, of_b, of_both = (
        _by_group(side, values, count) for side, values in ((a.group, sides[0]), (b.group, sides[1]), (a.group, same))
    )
    left = _without(a, count) * _without(b, count)
    cross = np.divide(whole - of_a - of_b + of_both, left, out=np.full(count + 1, np.nan), where=left > 0)
    return _within(a, count) + within_b - 2 * cross


def _within(side: _Side, count: int) -> np.ndarray:
    """(1 + groups,) mean kernel of the pairs of a set, none with itself: of all rows, then without each group."""
    kernel = _kernel(side.features, side.features)
    np.fill_diagonal(kernel, 0)
    rows = kernel.sum(axis=1)
    same = (kernel * (side.group[:, None] == side.group)).sum(axis=1)
    n = _without(side, count)
    pairs = n * (n - 1)
    sums = rows.sum() - 2 * _by_group(side.group, rows, count) + _by_group(side.group, same, count)
    return np.divide(sums, pairs, out=np.full(count + 1, np.nan), where=pairs > 0)


def _without(side: _Side, count: int) -> np.ndarray:
    """(1 + groups,) rows of all, then without each group."""
    return len(side.group) - _by_group(side.group, np.ones(len(side.group)), count)


def _by_group(group: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """(1 + groups,) sums of values by group, behind a 0."""
    return np.concatenate([[0.0], np.bincount(group, weights=values, minlength=count)])


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (np.asarray(a, np.float64) @ np.asarray(b, np.float64).T / a.shape[1] + 1) ** 3
