"""What is known of every image of a result, without its pixels; and which of them to show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cfdiff.data.values import mean_change
from cfdiff.roles import WITNESSES
from cfdiff.store import Result

EXTREMES = 24
"""So many images at most are the best, the worst and the random ones."""
_BATCH = 256


@dataclass(frozen=True, eq=False)
class Rows:
    """Columns of N images.

    Attributes:
        ids: (N,) str.
        groups: (N,) str, or None where the data has none.
        prob: those of roles.WITNESSES that the run had -> (N, 2) p(target) before and after.
        change: (N,) mean |counterfactual - source| of the saved images, in [0, 1] units.
        flipped: (N,) bool, the decider's verdict after; None without a decider.
        retries: (N,) int, or None.
    """

    ids: np.ndarray
    groups: np.ndarray | None
    prob: dict[str, np.ndarray]
    change: np.ndarray
    flipped: np.ndarray | None
    retries: np.ndarray | None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def decider(self) -> str | None:
        """The first of roles.WITNESSES that the run had, or None."""
        return next(iter(self.prob), None)

    @property
    def gain(self) -> np.ndarray | None:
        """(N,) p(target) after - before, by the decider."""
        return None if self.decider is None else self.prob[self.decider][:, 1] - self.prob[self.decider][:, 0]

    def best(self, count: int) -> np.ndarray:
        """The rows with the highest gain, highest first; none without a decider."""
        return self.worst(len(self))[::-1][:count]

    def worst(self, count: int) -> np.ndarray:
        """The rows with the lowest gain, lowest first; none without a decider."""
        return np.empty(0, np.int64) if self.gain is None else np.argsort(self.gain, kind="stable")[:count]

    def failed(self) -> np.ndarray:
        """The rows that are not flipped, in file order."""
        return np.empty(0, np.int64) if self.flipped is None else np.flatnonzero(~self.flipped)


def read_rows(result: Result) -> Rows:
    """Read the columns, and compute the change from the saved images in batches."""
    n, target = len(result), result["target"][:].astype(np.int64)
    names = [who for who in WITNESSES if f"prob/{who}" in result]
    prob = {who: result.prob(who)[np.arange(n), :, target] for who in names}
    batches = [slice(i, i + _BATCH) for i in range(0, n, _BATCH)]
    return Rows(
        ids=result["id"][:],
        groups=result["group"][:] if "group" in result else None,
        prob=prob,
        change=np.concatenate([mean_change(result.source[b], result.counterfactual[b]) for b in batches]),
        flipped=(prob[names[0]][:, 1] > 0.5) & ~result.quarantined if names else None,
        retries=result["guidance/retries"][:] if "guidance/retries" in result else None,
    )


@dataclass(frozen=True, eq=False)
class Selection:
    """Which images a page shows, in file order; which were drawn at random from all; how many are best and worst."""

    shown: np.ndarray
    random: np.ndarray
    extremes: int


def select(rows: Rows, limit: int, seed: int = 0) -> Selection:
    """All images, or `limit` >= 3 of them: the random draw, the best, the worst, the failures, then more of the draw.

    The random ones are drawn from all images, so that they are what one would see by chance, failures as they fall.
    Failures, of which there may be more than the limit, come after the extremes, and a third of the limit each is
    for these, so that the best and the worst on the page are those of the run.
    """
    extremes = min(EXTREMES, limit // 3, max(1, len(rows) // 2))  # so that no image is among the best and the worst
    order = np.random.default_rng(seed).permutation(len(rows))
    wanted = np.concatenate([order[:extremes], rows.best(extremes), rows.worst(extremes), rows.failed(), order])
    _, first = np.unique(wanted, return_index=True)
    return Selection(np.sort(wanted[np.sort(first)[:limit]]), order[:extremes], extremes)
