"""Pairs: the same place in both classes, one image each. The other one is what a perfect counterfactual would be."""

from __future__ import annotations

import numpy as np

from cfdiff.data.source import OTHER, Source
from cfdiff.errors import UserError


def twins(source: Source) -> np.ndarray:
    """(N,) int64, for each image the row of its pair's image of the other class; -1 where there is none.

    Raises:
        UserError: the source has no column `pair`, or a pair has two images of one class.
    """
    if source.pairs is None:
        raise UserError(
            f"{source.name} has no pairs: an array or column `pair` says which two images are the same place in both "
            "classes."
        )
    found = np.full(len(source), -1, dtype=np.int64)
    rows = np.flatnonzero((source.pairs != "") & (source.labels != OTHER))
    place: dict[tuple[str, int], int] = {}
    for row, pair, label in zip(rows.tolist(), source.pairs[rows].tolist(), source.labels[rows].tolist(), strict=True):
        if place.setdefault((pair, label), row) != row:
            raise UserError(
                f"The pair {pair!r} of {source.name} has two images of class {source.classes[label]!r} "
                f"({source.ids[place[pair, label]]!s} and {source.ids[row]!s}): a pair is one image of each class."
            )
    for (pair, label), row in place.items():
        found[row] = place.get((pair, 1 - label), -1)
    return found
