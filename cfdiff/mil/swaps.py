"""Mixes by exchange of real instances: the same bag with instances of others in place of its own (HIPPO's necessity and
sufficiency tests, Kaczmarzyk et al. 2024). No image is edited, so what a model learns or says of them is a control."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cfdiff.engine import seed_of
from cfdiff.mil.series import BagSet, Series, class_of

GRID = tuple(i / 10 for i in range(11))


def swap_series(one: Series, donors: Donors, counts: Sequence[int], seed: int, draw: int = 0) -> Series | None:
    """A bag as found, and with `counts` of positives, by real instances of other groups; None without donors.

    Which instances are exchanged, and for which, depends on (seed, name, draw): a larger count keeps all that a smaller
    one took, and an instance has the same stand-in at every mix.
    """
    rng = np.random.default_rng(seed_of(seed, f"swap/{one.name}/{draw}"))
    rows, labels, order = one.rows[0], one.labels[0], rng.permutation(one.size)
    other = donors.stand_ins(one.group, labels, rng)
    if other is None:
        return None
    versions, told = [rows], [labels]
    have = int((labels == 1).sum())
    for k in sorted(set(counts)):
        target = int(k > have)
        chosen = order[labels[order] != target][: abs(k - have)]
        version, label = rows.copy(), labels.copy()
        version[chosen], label[chosen] = other[chosen], target
        versions.append(version)
        told.append(label)
    classes = class_of(np.stack(told))
    return Series(one.name, one.group, np.stack(versions), np.stack(told), classes, True, one.split)


def like_edits(one: Series, donors: Donors, seed: int) -> Series | None:
    """The same versions as a bag that was edited, with a real instance of another group wherever a class was changed.

    What is of the class it had is as in the first version, so that a sham does not stand in for a real one.
    """
    rng = np.random.default_rng(seed_of(seed, f"swap/{one.name}"))
    other = donors.stand_ins(one.group, one.labels[0], rng)
    if other is None:
        return None
    rows = np.where(one.labels == one.labels[0], one.rows[0], other)
    return Series(one.name, one.group, rows, one.labels, one.classes, one.real, one.split)


def swap_counts(n: int) -> list[int]:
    """0, 1 and 2 positives, and every tenth of n."""
    return sorted({min(k, n) for k in (0, 1, 2, *(int(g * n + 0.5) for g in GRID))})


class Donors:
    """Real instances by class and group, of bags as they were found."""

    def __init__(self, bags: BagSet) -> None:
        real = [one for one in bags.series if one.real and one.known]
        rows = [np.concatenate([one.rows[0] for one in real])] if real else [np.empty(0, np.int64)]
        labels = np.concatenate([one.labels[0] for one in real]) if real else np.empty(0, np.int8)
        groups = np.concatenate([np.full(one.size, one.group) for one in real]) if real else np.empty(0, str)
        self.rows = [rows[0][labels == k] for k in (0, 1)]
        self.groups = [groups[labels == k] for k in (0, 1)]

    def stand_ins(self, group: str, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
        """(n,) a row of the other class, and of another group, for each instance; each once, while there are enough.

        None where another group has no instance of a class that is needed.
        """
        found = np.empty(len(labels), np.int64)
        for target in (0, 1):
            needed = np.flatnonzero(labels != target)
            pool = self.rows[target][self.groups[target] != group]
            if len(needed) and not len(pool):
                return None
            if len(needed):
                times = -(-len(needed) // len(pool))
                deck = np.concatenate([rng.permutation(pool) for _ in range(times)])
                found[needed] = deck[: len(needed)]
        return found
