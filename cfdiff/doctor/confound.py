"""Does an edit change what goes with the class without being it: a mark at the border, the brightness of the image?

No statistic of images can tell a cause from what goes with it, so this looks where causes seldom are. A figure of an
image (the mean of a place at the border, the median of all pixels) is suspect if in the data it tells the classes
apart, and trial edits move it, in the direction asked for, by a good part of what lies between the classes. Either
alone is harmless: a border that differs and is left alone is not used, and one that is changed and does not differ
is an artefact of the edit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import mannwhitneyu  # type: ignore[import-untyped]

from cfdiff.data.values import unit
from cfdiff.doctor.context import Context
from cfdiff.doctor.lines import Line
from cfdiff.doctor.trials import trial_edits

GRID = 6
"""Places a side: a mark in a corner fills a good part of one, and what is in the middle is in none at the border."""
CHANCE = 0.01
"""Chance at which one of the figures tells the classes apart by luck, over all of them together (Bonferroni)."""
MOVED = 0.25
"""Share of the way between the classes that edits must go. Those of the shipped models go none of it, on cells whose
brightness goes with the class (docs/supervision.md)."""
TOGETHER = 0.7
"""Share of the edits that must move it the right way; some images have the mark of the other class already."""
STRENGTH = 0.5
"""Of the mean change of a pixel: a spot elsewhere moves the median of an image a little too, and its tails a border."""
FEW = 8
"""Edits below which that share says nothing."""
BRIGHTNESS = "the brightness of the whole image (its median)"


@dataclass(frozen=True)
class Suspect:
    """A figure of an image that may be a confound.

    Attributes:
        name: in words.
        auroc: how well it tells positives from negatives, in [0, 1]; below .5 it is lower in positives.
        p: two-sided, Mann & Whitney (1947).
        moved: mean change by an edit, over the difference of the classes' means; 1 is all the way to the other class.
        together: share of the edits that move it towards the class asked for.
        strength: mean of that change over the mean |change| of a pixel of the whole image; 1 if all change alike.
    """

    name: str
    auroc: float
    p: float
    moved: float
    together: float
    strength: float

    def goes_with_the_class(self, figures: int) -> bool:
        """Whether that is no luck, of so many figures looked at."""
        return self.p < CHANCE / figures

    @property
    def changed(self) -> bool:
        """Whether the edits change it to what the other class has, and no less than the rest of the image."""
        return self.moved >= MOVED and self.together >= TOGETHER and self.strength >= STRENGTH


def confound(context: Context) -> list[Line]:
    """Whether edits, as they are before trimming, change what goes with the class at the border or in the brightness.

    Untrimmed, as a trimmed edit of the brightness changes no more of it than the classifier asks for.
    """
    if context.s.unguided:
        return []
    labels, edits = context.labels, len(context.path_rows)
    n = len(labels)
    if edits < FEW or min((labels == k).sum() for k in (0, 1)) < FEW:
        return [Line("confound", "ok", f"cannot be told from {n} images and {edits} edits: give a larger --limit")]
    rows, done = trial_edits(context, trim=0.0)
    found = suspects(unit(context.stored), labels, unit(context.stored[rows]), unit(done), labels[rows])
    if not found:
        return [Line("confound", "ok", "border and brightness are the same in all images")]
    telling = [one for one in found if one.goes_with_the_class(len(found))]
    guilty = sorted((one for one in telling if one.changed), key=lambda one: -one.moved)
    if not guilty:
        best = max(telling or found, key=lambda one: abs(one.auroc - 0.5))
        which = f"{len(telling)} of {len(found)} go with the class" if telling else "none goes with the class"
        figure = (
            f"{len(found) - 1} places at the border and the brightness, {which} (AUROC {best.auroc:.2f} at most, "
            f"{best.name}), edits move it {best.moved:.0%} of the way"
        )
        return [Line("confound", "ok", figure, values=_values(best))]
    first = guilty[0]
    more = f" (and {len(guilty) - 1} more)" if len(guilty) > 1 else ""
    figure = (
        f"{first.name}{more} goes with the class in {n} images (AUROC {first.auroc:.2f}), and edits move it "
        f"{first.moved:.0%} of the way to the other class"
    )
    advice = (
        "Is that what makes the class? If not, the classifiers that steer have learned a mark or the light: look at "
        "the maps (cfdiff translate --trim 0 --preview), train without it, or on pairs (cfdiff supervise)."
    )
    return [Line("confound", "warn", figure, advice, _values(first))]


def suspects(
    images: np.ndarray, labels: np.ndarray, before: np.ndarray, after: np.ndarray, sources: np.ndarray
) -> list[Suspect]:
    """Every figure that is looked at.

    Args:
        images: (N, H, W, C) in [0, 1], with `labels` (N,) 0 or 1, both there.
        before, after: (M, H, W, C) in [0, 1], trial edits, of images of the classes `sources` (M,) to the other.
    """
    of_all, of_before, of_after = (_figures(part) for part in (images, before, after))
    towards, mean_change = np.where(sources == 0, 1, -1), float(np.abs(after - before).mean())
    found = []
    for name, values in of_all.items():
        positive, negative = values[labels == 1], values[labels == 0]
        between = float(positive.mean() - negative.mean())
        if np.ptp(values) == 0 or between == 0:
            continue  # a black border
        u, p = mannwhitneyu(positive, negative, method="asymptotic")
        change = towards * (of_after[name] - of_before[name]) * np.sign(between)
        mean, together = float(change.mean()), float((change > 0).mean())
        auroc = float(u) / (len(positive) * len(negative))
        strength = mean / mean_change if mean_change else 0.0
        found.append(Suspect(name, auroc, float(p), mean / abs(between), together, strength))
    return found


def _figures(images: np.ndarray) -> dict[str, np.ndarray]:
    """Name -> (N,): the mean of each place at the border of images (N, H, W, C), and the median of all pixels."""
    gray = images.mean(axis=3)
    rows, columns = (np.linspace(0, side, min(GRID, side) + 1).round().astype(int) for side in gray.shape[1:])
    tall, wide = len(rows) - 1, len(columns) - 1
    places = {
        f"the place at rows {rows[i]}-{rows[i + 1] - 1}, columns {columns[j]}-{columns[j + 1] - 1}": gray[
            :, rows[i] : rows[i + 1], columns[j] : columns[j + 1]
        ].mean(axis=(1, 2))
        for i in range(tall)
        for j in range(wide)
        if i in (0, tall - 1) or j in (0, wide - 1)
    }
    return {**places, BRIGHTNESS: np.median(gray, axis=(1, 2))}


def _values(one: Suspect) -> dict[str, float]:
    return {"auroc": one.auroc, "p": one.p, "moved": one.moved, "together": one.together, "strength": one.strength}
