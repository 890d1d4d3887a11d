"""95 % intervals, one path for all of them: over groups where there are two or more, else over images.

The images of one group (a patient, a slide) look alike, so n images of g groups tell less than n images would. How
much less is estimated from the groups themselves and put into two textbook intervals: Wilson's for a share, Student's
for a mean. Any other statistic is bootstrapped over groups, or jackknifed where it is of pairs of images. What was
tried and what each covers is in benchmarks/intervals.py and its results; docs/evaluate.md has the formulas.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from scipy.special import stdtrit  # type: ignore[import-untyped]

Interval = tuple[float, float]
Groups = np.ndarray | Sequence[str] | None
Z = 1.959964
ANYWHERE = (-math.inf, math.inf)
ASSUMED, FADING = 0.2, 10
"""The intraclass correlation that a share of 0 or 1 is taken to have, which cannot show any, and the number of the
rarer outcome at which half of that assumption has faded. Chosen by simulation: benchmarks/intervals.py."""


def over(groups: Groups) -> Literal["groups", "images"]:
    """What an interval is over, in a word: "groups" where there are at least two, else "images"."""
    return "images" if groups is None or len(np.unique(np.asarray(groups))) < 2 else "groups"


def share_interval(hits: np.ndarray, groups: Groups = None) -> Interval:
    """95 % interval of the share of hits (N,), bool or 0 and 1, in [0, 1]; (0, 1) for no rows.

    groups (N,): names of the groups. Wilson's interval (1927) with z^2 + t^2 (deff - 1) in place of z^2: the variance
    of independent images is known from the share, what groups add to it is estimated, hence Student's t. deff, the
    design effect (Kish 1965), is the variance with groups (`Sample.variance`) over that of independent images. What is
    added is at least z^2 (deff' - 1), where deff' is what an intraclass correlation of ASSUMED, fading with the number
    of the rarer outcome, would make: so a share of 100 % has an interval with the width of its groups. Without groups,
    or with groups of one: Wilson's own.
    """
    hits = np.asarray(hits, np.float64)
    n = len(hits)
    if over(groups) == "images":
        return wilson(float(hits.sum()), n)
    sample = Sample(hits, groups)
    share = sample.mean
    rarer = float(min(hits.sum(), n - hits.sum()))
    assumed = (sample.mates - 1) * ASSUMED * FADING / (FADING + rarer)
    independent = share * (1 - share) / n
    added = max(0.0, sample.variance / independent - 1) if independent > 0 else 0.0
    return wilson(float(hits.sum()), n, math.sqrt(Z**2 + max(Z**2 * assumed, sample.t**2 * added)))


def mean_interval(values: np.ndarray, groups: Groups = None, within: Interval = ANYWHERE) -> Interval | None:
    """95 % interval of the mean of values (N,), cut to the range `within` that it can have; None for fewer than two.

    Student's, with the standard error of a mean of groups of any sizes (`Sample.variance`), or that of independent
    images where that is the larger. Without groups: Student's own.
    """
    values = np.asarray(values, np.float64)
    if len(values) < 2:
        return None
    sample = _sample(values, groups)
    half = sample.t * mean_error(values, groups)
    return max(within[0], sample.mean - half), min(within[1], sample.mean + half)


def mean_error(values: np.ndarray, groups: Groups = None) -> float:
    """Standard error of the mean of values (N,), that of `mean_interval`; infinite for fewer than two."""
    values = np.asarray(values, np.float64)
    if len(values) < 2:
        return math.inf
    return math.sqrt(max(_sample(values, groups).variance, Sample(values, None).variance))


def mean_bound(values: np.ndarray, groups: Groups, level: float) -> float:
    """The upper end of a one-sided interval of the mean of values (N,) at `level`, Student's as `mean_interval`."""
    values = np.asarray(values, np.float64)
    sample = _sample(values, groups)
    return sample.mean + float(stdtrit(max(1.0, sample.count - 1.0), level)) * mean_error(values, groups)


def bootstrap_rows(
    n: int,
    groups: Groups,
    statistic: Callable[[np.ndarray], float],
    n_boot: int = 2000,
    seed: int = 0,
    within: Interval = ANYWHERE,
) -> Interval | None:
    """95 % interval of any statistic, which gets row numbers of 0..n-1; for shares and means take the others.

    Percentile bootstrap (Efron 1979) over whole groups (Davison and Hinkley 1997, section 3.8), or rows where there are
    no two groups, widened as `widened` says. None for fewer than two rows. The same seed gives the same draws whatever
    the statistic.
    """
    member = _members(n, groups)
    if n < 2:
        return None
    order, sizes = np.argsort(member, kind="stable"), np.bincount(member)
    rows = np.split(order, np.cumsum(sizes)[:-1])
    alone = len(rows) == n  # then a draw is quicker to take as a whole
    draws = (order[d] if alone else np.concatenate([rows[g] for g in d]) for d in _draws(len(rows), n_boot, seed))
    drawn = [float(statistic(d)) for d in draws]
    return widened(float(statistic(np.arange(n))), drawn, n, groups, within)


def jackknife_interval(
    value: float, without: np.ndarray, sizes: np.ndarray, within: Interval = ANYWHERE
) -> Interval | None:
    """95 % interval of a smooth statistic from what it is without each of g groups (or images), `without` (g,).

    Student's, with the variance (g - 1) / g sum (without - its mean)^2 (Tukey 1958; Efron and Tibshirani 1993, eq.
    11.5) and the degrees of freedom that groups of `sizes` (g,) images have. For statistics of pairs of images, which
    a bootstrap would pair with their own copies. None for fewer than two groups, or where it is not known without one.
    """
    g = len(without)
    if g < 2 or not np.isfinite(without).all():
        return None
    error = math.sqrt((g - 1) / g * float(((without - without.mean()) ** 2).sum()))
    half = Sample(np.zeros(int(sizes.sum())), np.repeat(np.arange(g), sizes)).resampled_t * error
    return max(within[0], value - half), min(within[1], value + half)


def widened(
    value: float, drawn: Sequence[float] | np.ndarray, n: int, groups: Groups, within: Interval = ANYWHERE
) -> Interval:
    """The 2.5 % and 97.5 % quantiles of bootstrap draws, moved away from the value by what few groups hide.

    Draws of g groups spread by sqrt((g - 1) / g) of what they should, and a normal quantile stands where Student's
    belongs: both factors are put back. Draws in which the statistic is undefined (NaN) are left out.
    """
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    sample = Sample(np.zeros(n), groups if over(groups) == "groups" else None)
    factor = sample.resampled_t / Z * math.sqrt(sample.count / (sample.count - 1))
    return (
        float(max(within[0], value - factor * max(0.0, value - low))),
        float(min(within[1], value + factor * max(0.0, high - value))),
    )


def group_weights(n: int, groups: Groups, n_boot: int = 2000, seed: int = 0) -> Iterator[np.ndarray]:
    """How often each of n rows (n,) is in each of the draws of `bootstrap_rows`, for statistics of weighted counts."""
    member = _members(n, groups)
    size = int(member.max()) + 1 if n else 0
    return (np.bincount(d, minlength=size)[member] for d in _draws(size, n_boot, seed))


def wilson(hits: float, n: float, z: float = Z) -> Interval:
    """95 % interval of a proportion of independent trials (Wilson 1927), in [0, 1]; (0, 1) for none."""
    if n == 0:
        return 0.0, 1.0
    p, z2n = hits / n, z * z / n
    centre = (p + z2n / 2) / (1 + z2n)
    half = z / (1 + z2n) * math.sqrt(p * (1 - p) / n + z2n / (4 * n))
    # At the ends the formula is exact, and its rounding is not.
    return 0.0 if hits == 0 else max(0.0, centre - half), 1.0 if hits == n else min(1.0, centre + half)


@dataclass(frozen=True, eq=False)
class Sample:
    """Values (N,) in groups of any sizes; each row a group of its own where there are none."""

    values: np.ndarray
    groups: Groups

    @cached_property
    def mean(self) -> float:
        """The mean over rows."""
        return float(self.values.mean())

    @cached_property
    def sizes(self) -> np.ndarray:
        """(g,) rows of each group."""
        return np.bincount(self._member)

    @property
    def count(self) -> int:
        """Groups."""
        return len(self.sizes)

    @cached_property
    def mates(self) -> float:
        """Mean size of the group that a row is in, itself counted."""
        return float((self.sizes**2).sum() / len(self.values))

    @cached_property
    def variance(self) -> float:
        """Of the mean, with an effect of each group: the analysis-of-variance estimate (Searle et al. 1992, chapter 3).

        A residual of a group that holds most images says little of its own effect. So the effects are taken to be of
        one spread, which all groups tell of, the small ones too; and what it makes of the mean depends on the sizes.
        """
        n, sizes = len(self.values), self.sizes
        squares = float(((self.values - self.mean) ** 2).sum())
        means = np.bincount(self._member, weights=self.values - self.mean) / sizes
        among = float((sizes * means**2).sum())
        if self.count == n:
            return squares / (n - 1) / n
        share = self.mates * (self.count - 1) / (n - self.mates)  # the mates of a row over those in a mean square
        within = max(0.0, squares - among) / (n - self.count)
        return max(0.0, share * among / (self.count - 1) + (1 - share) * within) / n

    @cached_property
    def resampled_t(self) -> float:
        """The same for as many groups of equal size as tell as much as these (n^2 / sum of n_g^2; Kish 1965), less 1.

        For statistics whose spread is seen by resampling, where one large group hides that of the others.
        """
        return float(stdtrit(max(1.0, len(self.values) / self.mates - 1), 0.975))

    @cached_property
    def t(self) -> float:
        """Student's quantile for the number of groups less 1."""
        return float(stdtrit(max(1.0, self.count - 1.0), 0.975))

    @cached_property
    def _member(self) -> np.ndarray:
        return (
            np.unique(np.asarray(self.groups), return_inverse=True)[1]
            if self.groups is not None
            else np.arange(len(self.values))
        )


def _sample(values: np.ndarray, groups: Groups) -> Sample:
    """In groups where there are two or more, else each value for itself."""
    return Sample(values, None if over(groups) == "images" else groups)


def _members(n: int, groups: Groups) -> np.ndarray:
    """(n,) number of each row's group; rows are their own groups where there are no two."""
    return np.arange(n) if over(groups) == "images" else np.unique(np.asarray(groups), return_inverse=True)[1]


def _draws(size: int, n_boot: int, seed: int) -> Iterator[np.ndarray]:
    g = np.random.default_rng(seed)
    return (g.integers(0, size, size) for _ in range(n_boot))
