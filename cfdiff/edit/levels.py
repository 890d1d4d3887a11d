"""What a guide's accuracy by noise level says: how far up it can steer, and how deep an edit should go."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

CHANCE = 0.65
"""Validation accuracy under which a guide is taken to be at chance: it is off beyond that level."""
KEPT = 0.6
"""Share of its excess over a coin's accuracy that the guide still has at the depth of an edit. On the malaria cells,
where depth 0.3 was found best by search, it has that at 0.29."""
DEPTHS = (0.2, 0.7)
"""Under the first there is no room for another shape, beyond the second nothing of the source is left in the path."""

SMOOTH = (0.25, 0.5, 0.75)
"""Of the depth of an edit: there the guide still sees the class, and what only fools a clean classifier has drowned. On
chest radiographs an independent judge took 73 % of the edits that the verifier accepted for pneumonia without it, and
92 to 96 % with it (validation images, n = 64 and 48); on circuit boards 21 and 23 of 24 for a defect."""


def reach(by_level: Mapping[str, float]) -> int | None:
    """The noisiest level at which a guide's accuracy is above `CHANCE`; None for all that were measured, 0 for none."""
    good = [int(level) for level, accuracy in by_level.items() if accuracy >= CHANCE]
    return None if len(good) == len(by_level) else max(good, default=0)


def fitting_smooth(depth: float) -> tuple[float, ...]:
    """Where the guide is asked besides the verifier before an edit is accepted: at `SMOOTH` of the edit's depth."""
    return tuple(round(share * depth, 3) for share in SMOOTH)


def fitting_depth(by_level: Mapping[str, float], T: int) -> float | None:
    """The depth, a fraction of T in `DEPTHS`, up to which a guide still sees the class; None where it never did.

    A class that is a speck drowns in the first noise, and a deeper path only loses the image; a class that is a shape
    is still seen high up, and only there can be drawn anew. So: the first level at which accuracy has lost so much that
    `KEPT` of its excess over a coin is left, in a straight line between the measured levels, to 0.05.

    Args:
        by_level: level (as text) -> balanced accuracy in validation.
    """
    levels, accuracy = np.array(sorted((int(level), value) for level, value in by_level.items())).reshape(-1, 2).T
    if not len(levels) or reach(by_level) == 0 or accuracy[0] < CHANCE:
        return None
    excess = np.minimum.accumulate(accuracy - 0.5)  # a level that is luckier than a cleaner one tells nothing
    wanted = KEPT * excess[0]
    low = int(np.flatnonzero(excess >= wanted)[-1])
    level = levels[low]
    if low + 1 < len(levels):
        lost = (excess[low] - wanted) / (excess[low] - excess[low + 1])
        level += lost * (levels[low + 1] - levels[low])
    return float(np.clip(round(level / T / 0.05) * 0.05, *DEPTHS).round(2))
