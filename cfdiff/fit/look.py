"""A look at the data before any training: what cannot be fitted is refused, and what misleads is named."""

from __future__ import annotations

import math

import numpy as np

from cfdiff.data.pairs import twins
from cfdiff.data.source import Source, random_subset
from cfdiff.data.summary import Summary, summarise
from cfdiff.data.values import unit
from cfdiff.errors import UserError
from cfdiff.fit.space import multiple

MOST_PIXELS = {"pixel": 128 * 128, "latent": 512 * 512}
"""Larger images take days on two cores, in each space."""
LEAST_IMAGES = 40
"""Of a class in all: under it no split of a role has more than a handful."""
BRIGHTER = 0.65
"""AUC of the mean pixel between the classes above which brightness alone tells much of them."""
DARK = 1 / 8
"""Of full scale: where no pixel is brighter, noise drowns the images at the first levels. 12 bits in 16 are at 1/16."""
LOOKED_AT = 512
MOST_VALUES = 1 << 26
"""Values of the images that are looked at, at once; in float64 they take half a GiB."""
BATCH = 256


def look(source: Source, space: str = "pixel", told: str | None = None) -> list[str]:
    """A sentence about everything in a source that would mislead whoever uses what is fitted to it in that space.

    Args:
        told: how its user names it, for what to do; else its name.

    Raises:
        UserError: one class only, too few images, images too large, too dark or of a size that no network here takes,
            or masks that cannot be read.
    """
    _refuse(source, space, told or source.name)
    seen = summarise(source)
    _refuse_dark(source, seen)
    if source.mask_reader is not None:
        for start in range(0, len(source), BATCH):
            source.read_masks(np.arange(start, min(start + BATCH, len(source))))
    notes = list(source.notes)
    if source.pairs is not None:
        try:
            twins(source)
        except UserError as error:
            notes.append(f"Nothing is measured against true twins. {error}")
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
    """AUC of an image's mean pixel as a score of the positive class, on `few` images of each."""
    from sklearn.metrics import roc_auc_score

    n = few(source)
    parts = [random_subset(source.select(np.flatnonzero(source.labels == k)), n, 0) for k in (0, 1)]
    means = [unit(part.read(np.arange(len(part)))).mean(axis=(1, 2, 3)) for part in parts]
    return float(roc_auc_score(np.repeat([0, 1], [len(m) for m in means]), np.concatenate(means)))


def few(source: Source) -> int:
    """How many images to look at, at once: `LOOKED_AT`, or as many as have `MOST_VALUES`."""
    return max(LEAST_IMAGES, min(LOOKED_AT, MOST_VALUES // math.prod(source.shape)))


def _refuse_dark(source: Source, seen: Summary) -> None:
    highest = float(unit(np.array(max(values.range[1] for values in seen.values.values()), source.dtype)))
    if highest < DARK:
        raise UserError(
            f"The brightest pixel of {source.name} is at {highest:.1%} of the full scale of {source.dtype} (12 bits "
            "stored as 16, or values divided by 255 twice?): noise would drown the images. Scale them up first."
        )


def _refuse(source: Source, space: str, told: str) -> None:
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
            f"at most: make them smaller first, cfdiff data convert {told} small.npz --size 128."
        )
    step = multiple(space, source.shape)
    if height % step or width % step:
        near = step * math.ceil(max(height, width) / step)
        raise UserError(
            f"The images of {source.name} are {height}x{width}, and both sides must be multiples of {step}: "
            f"cfdiff data convert {told} fitting.npz --size {near}"
            + (" (which cuts the centre square; to keep all, scale or pad them first)." if height != width else ".")
        )
