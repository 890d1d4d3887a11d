"""Whole units (groups, pairs, images) to splits of given sizes, so that every split has both classes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from cfdiff.data.source import NEGATIVE, POSITIVE

Kinds = tuple[int, int, int]
"""How many units hold images of both classes, of the negative class only, of the positive class only."""
NUMBER = 0.25
"""What the number of units weighs beside the images of a class, which weigh 1."""


def place(labels: np.ndarray, units: np.ndarray, shares: Mapping[str, float], seed: int) -> np.ndarray | None:
    """(N,) str, the split of each image; None where the units are too few for both classes in every split.

    Greedy, large units first: each goes where it lowers sum over splits r and columns k of (x_rk - s_r)^2 / s_r most,
    where x_rk is the share of column k that r has, s_r the share that it should have, and the columns are the classes
    and, with the weight NUMBER, the units themselves, so that small splits get several small ones rather than one
    large. A place is passed over where the units left could then no longer give every split both classes. Ties go by
    hash(seed, name): the order of rows changes nothing.

    Args:
        labels: (N,) 0 negative, 1 positive, -1 other.
        units: (N,) str, which images stay together.
        shares: split -> share above 0; they need not sum to 1.
    """
    names, unit = np.unique(units, return_inverse=True)
    by_class = [np.bincount(unit[labels == label], minlength=len(names)) for label in np.unique(labels)]
    sizes = np.bincount(unit)
    neg, pos = (np.bincount(unit[labels == label], minlength=len(names)) > 0 for label in (NEGATIVE, POSITIVE))
    left = [int(n.sum()) for n in (neg & pos, neg & ~pos, pos & ~neg)]
    lacks = [(True, True)] * len(shares)
    if not can_fill(left, lacks):
        return None
    draw = [hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogateescape")).digest() for name in names.tolist()]
    order = sorted(range(len(names)), key=lambda k: (-int(sizes[k]), draw[k]))
    columns = np.stack([*by_class, np.ones(len(names))], axis=1)
    parts = (columns / columns.sum(axis=0))[order].tolist()
    target = [share / sum(shares.values()) for share in shares.values()]
    weights = [1.0] * len(by_class) + [NUMBER]
    have = [[0.0] * columns.shape[1] for _ in target]
    split_of = np.empty(len(names), np.int64)
    for k, part in zip(order, parts, strict=True):
        costs = [
            sum(w * f * (f + 2 * (x - share)) for w, f, x in zip(weights, part, row, strict=True)) / share
            for row, share in zip(have, target, strict=True)
        ]
        by_cost = sorted(range(len(costs)), key=costs.__getitem__)
        here = by_cost[0]
        if any(a or b for a, b in lacks):
            if neg[k] or pos[k]:
                left[0 if neg[k] and pos[k] else 1 if neg[k] else 2] -= 1
            given = [(a and not neg[k], b and not pos[k]) for a, b in lacks]
            # There is always one: what could be filled with this unit among those left can be filled by placing it.
            here = next(r for r in by_cost if can_fill(left, [*lacks[:r], given[r], *lacks[r + 1 :]]))
            lacks[here] = given[here]
        have[here] = [x + f for x, f in zip(have[here], part, strict=True)]
        split_of[k] = here
    return np.array(list(shares))[split_of[unit]]


def can_fill(left: Sequence[int], lacks: Sequence[tuple[bool, bool]]) -> bool:
    """Whether units, so many of them left (`Kinds`), can give splits the classes (negative, positive) that they lack.

    Units of one class go first where only that is lacking, then in pairs where both are; those of both classes do the
    rest. A unit of one class spent so always saves one of both, so no other way needs fewer of those.
    """
    both, neg, pos = left
    for_neg, for_pos, for_both = (lacks.count(kind) for kind in ((True, False), (False, True), (True, True)))
    pairs = min(max(0, neg - for_neg), max(0, pos - for_pos), for_both)
    return max(0, for_neg - neg) + max(0, for_pos - pos) + for_both - pairs <= both
