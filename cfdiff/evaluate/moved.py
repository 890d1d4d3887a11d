"""How far the edited set moved towards real images of the target class, beside the same of real images."""

from __future__ import annotations

import numpy as np

from cfdiff.evaluate.realism import LEAST, Space
from cfdiff.metrics.columns import Columns, Entry, Figure, entry_of
from cfdiff.metrics.moved import moved


def moved_figures(
    real: np.ndarray,
    real_groups: np.ndarray | None,
    features: tuple[np.ndarray, np.ndarray],
    space: Space,
    columns: Columns,
    repeats: int,
    seed: int,
) -> dict[str, Figure]:
    """`metrics.moved` of sources and counterfactuals (N, D), and of one half of the real images (M, D), at one n."""
    source, cf = features

    def entry(rows: np.ndarray, edited: np.ndarray | None) -> Entry:
        n = min(len(rows), len(real) // 2)
        if n < LEAST:
            return entry_of(None, None, n, None)
        found = moved(
            source[rows],
            real,
            None if edited is None else edited[rows],
            groups=columns.groups_of(rows),
            real_groups=real_groups,
            repeats=repeats,
            seed=seed,
        )
        return entry_of(found.value, found.interval, found.n, f"jackknife over {found.over}")

    title = f"moved to the target: 1 - KID / KID of the sources (features of {space.name})"
    return {
        "moved": columns.of_rows(title, lambda rows: entry(rows, cf), "higher"),
        "moved_real": columns.of_rows(f"{title}, real against real", lambda rows: entry(rows, None)),
    }
