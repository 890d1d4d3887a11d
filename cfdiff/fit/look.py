"""A look at the data before any training: what cannot be fitted is refused, and what misleads is named."""

from __future__ import annotations

import math

import numpy as np

from cfdiff.data.source import Source, random_subset
from cfdiff.data.summary import summarise
from cfdiff.data.values import unit
from cfdiff.errors import UserError
from cfdiff.fit.space import multiple

MOST_PIXELS = {"pixel": 128 * 128, "latent": 512 * 512}
"""Larger images take days on two cores, in each space."""
LEAST_IMAGES = 40
"""Of a class in all: under it no split of a role has more than a handful."""
BRIGHTER = 0.65
"""AUC of the mean pixel between the classes above which brightness alone tells much of them."""
LOOKED_AT = 512


def look(source: Source, space: str = "pixel") -> list[str]:
    """A sentence about everything in a source that would mislead whoever uses what is fitted to it in that space.

    Raises:
        UserError: one class only, too few images, or images too large or of a size that no network here takes.
    """
    _refuse(source, space)
    seen = summarise(source)
    notes = list(source.notes)
    if source.groups is None:
        notes.append(
            "The data does not say which images belong together (a patient, a slide, a board): they are taken as "
            "independent, so if they are not, all that is said of unseen images flatters. Name a column with "
            "--group-key."
        )
    copies = seen.duplicates
    if copies.across_labels:
        notes.append(f"{copies.across_labels} images stand in both classes, byte for byte: one of the labels is wrong.")
    if copies.across_groups or (source.groups is None and copies.sets):
        n = copies.across_groups or copies.sets
        notes.append(
            f"{n} sets of images are copies of one another and may lie in several splits: see cfdiff data inspect."
        )
    auc = brightness_auc(source)
    if max(auc, 1 - auc) > BRIGHTER:
        word = "brighter" if auc > 0.5 else "darker"
        notes.append(
            f"{source.classes[1]!r} is {word} than {source.classes[0]!r} (AUC {max(auc, 1 - auc):.2f} of the mean "
            "pixel alone): an edit may change the brightness, and be right to."
        )
    return notes


def brightness_auc(source: Source) -> float:
    """AUC of an image's mean pixel as a score of the positive class, on at most `LOOKED_AT` images of each."""
    from sklearn.metrics import roc_auc_score

    parts = [random_subset(source.select(np.flatnonzero(source.labels == k)), LOOKED_AT, 0) for k in (0, 1)]
    means = [unit(part.read(np.arange(len(part)))).mean(axis=(1, 2, 3)) for part in parts]
    return float(roc_auc_score(np.repeat([0, 1], [len(m) for m in means]), np.concatenate(means)))


def _refuse(source: Source, space: str) -> None:
    for label, name in enumerate(source.classes):
        if (n := int(np.sum(source.labels == label))) < LEAST_IMAGES:
            raise UserError(
                f"{source.name} has {n} images of class {name!r}, and a fit needs {LEAST_IMAGES} of each at least"
                + (": give data that has both classes, or name them with --negative and --positive." if n == 0 else ".")
            )
    height, width, _ = source.shape
    most = MOST_PIXELS.get(space, MOST_PIXELS["pixel"])
    if height * width > most:
        raise UserError(
            f"The images of {source.name} are {height}x{width}, and a fit takes {math.isqrt(most)}x{math.isqrt(most)} "
            f"at most: make them smaller first, cfdiff data convert {source.name} small.npz --size 128."
        )
    step = multiple(space, source.shape)
    if height % step or width % step:
        near = step * math.ceil(max(height, width) / step)
        raise UserError(
            f"The images of {source.name} are {height}x{width}, and both sides must be multiples of {step}: "
            f"cfdiff data convert {source.name} fitting.npz --size {near}."
        )
