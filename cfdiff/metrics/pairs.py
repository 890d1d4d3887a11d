"""Near the true twin: where the same place is known in the other class, what a perfect counterfactual would be.

Images (B, H, W, C) in [0, 1]. A pixel differs where some channel does by more than CHANGED. The true difference is
where source and twin differ: the pixels of the defect, and of whatever else two photographs of one place differ in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cfdiff.metrics.localisation import dice
from cfdiff.metrics.minimality import changed, mean_abs

CHANGED = 16 / 255
"""Above the noise of a camera, below what an eye takes for a change in a nearly binary image."""


@dataclass(frozen=True, eq=False)
class TwinScores:
    """One value an image, (B,) float64; NaN where it has none.

    Attributes:
        error_before: mean |source - twin|, in [0, 1].
        error_after: mean |counterfactual - twin|, in [0, 1]; lower is better.
        restored: share of the true difference where the counterfactual is within CHANGED of the twin; higher is better.
            NaN where source and twin do not differ.
        sound_changed: share of the other pixels where the counterfactual differs from the source; lower is better.
        dice: of where the counterfactual differs from the source against the true difference; higher is better.
    """

    error_before: np.ndarray
    error_after: np.ndarray
    restored: np.ndarray
    sound_changed: np.ndarray
    dice: np.ndarray


def against_twin(source: np.ndarray, cf: np.ndarray, twin: np.ndarray) -> TwinScores:
    """Hold counterfactuals against the true images of the class that was asked for."""
    true, made = changed(source, twin, CHANGED), changed(source, cf, CHANGED)
    return TwinScores(
        error_before=mean_abs(source, twin),
        error_after=mean_abs(cf, twin),
        restored=_share(true & ~changed(cf, twin, CHANGED), true),
        sound_changed=_share(made & ~true, ~true),
        dice=dice(made, true),
    )


def restored_inside(source: np.ndarray, cf: np.ndarray, twin: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """`TwinScores.restored` of the true difference inside masks (B, H, W) alone, (B,)."""
    true = changed(source, twin, CHANGED) & masks
    return _share(true & ~changed(cf, twin, CHANGED), true)


def error_inside(images: np.ndarray, twin: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """(B,) what pixels inside masks (B, H, W) have of mean |x - twin|: a mean over the whole image.

    Of sources outside what masks mark it is the error that a perfect edit would leave: two photographs of one place
    differ there too.
    """
    return mean_abs(np.where(masks[..., None], images, twin), twin)


def error_removed(before: np.ndarray, after: np.ndarray) -> float:
    """1 - sum of `error_after` / sum of `error_before`, (B,) each: 1 is the twin, 0 no better than the source.

    Below 0 the edits led away from the twins. NaN where sources and twins are equal.
    """
    total = float(before.sum())
    return 1 - float(after.sum()) / total if total > 0 else float("nan")


def _share(hits: np.ndarray, of: np.ndarray) -> np.ndarray:
    """(B,) share of pixels (B, H, W) bool; NaN of none."""
    n = of.sum(axis=(1, 2)).astype(np.float64)
    return hits.sum(axis=(1, 2)) / np.where(n > 0, n, np.nan)
