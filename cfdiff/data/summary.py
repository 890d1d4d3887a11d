"""What is in a source: counts, groups, pixel values and exact copies, found in one pass over the images."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cfdiff.data.source import NEGATIVE, OTHER, POSITIVE, Source

BATCH = 256
Counts = Mapping[str, int]
"""Class -> images."""


@dataclass(frozen=True)
class Groups:
    """How many groups, of how many images; how many are of one class only or stand in more than one split."""

    n: int
    smallest: int
    median: float
    largest: int
    only_negative: int
    only_positive: int
    in_several_splits: int
    counts: Mapping[str, Counts]


@dataclass(frozen=True)
class Values:
    """The pixels of a class: `range` as stored, mean and standard deviation in [0, 1] units."""

    range: tuple[float, float]
    mean: float
    std: float


@dataclass(frozen=True)
class Copies:
    """Images with an exact copy, sets of such images, and how many sets cross splits, labels or groups."""

    images: int
    sets: int
    across_splits: int
    across_labels: int
    across_groups: int


@dataclass(frozen=True)
class Summary:
    """What is in a source. `dataclasses.asdict` gives what `cfdiff data inspect --json` prints.

    Attributes:
        counts: split -> class -> images; a source without splits has the one split "all".
        values: by class.
    """

    name: str
    n: int
    shape: tuple[int, int, int]
    dtype: str
    classes: tuple[str, str]
    counts: Mapping[str, Counts]
    groups: Groups | None
    values: Mapping[str, Values]
    duplicates: Copies
    masks: bool
    fingerprint: str


def summarise(source: Source) -> Summary:
    """Count, and read every image once."""
    values, duplicates = _scan(source)
    return Summary(
        name=source.name,
        n=len(source),
        shape=source.shape,
        dtype=str(source.dtype),
        classes=source.classes,
        counts=_counts(source),
        groups=_groups(source),
        values=values,
        duplicates=duplicates,
        masks=source.mask_reader is not None,
        fingerprint=source.fingerprint,
    )


def class_of(source: Source, label: int) -> str:
    """The name of a label: one of the two classes, or "other"."""
    return "other" if label == OTHER else source.classes[label]


def _present(source: Source) -> list[int]:
    """Both labels, and "other" where it occurs."""
    return [NEGATIVE, POSITIVE] + ([OTHER] if np.any(source.labels == OTHER) else [])


def _counts(source: Source) -> dict[str, dict[str, int]]:
    """Split -> class -> images; a source without splits has the one split "all"."""
    splits = np.full(len(source), "all") if source.splits is None else source.splits
    return {
        split: {
            class_of(source, label): int(np.sum((splits == split) & (source.labels == label)))
            for label in _present(source)
        }
        for split in sorted(set(splits.tolist()), key=_split_order)
    }


def count_splits(source: Source) -> dict[str, dict[str, int | None]]:
    """Split -> class -> images, and "images" and "groups" (None where there are none) of each."""
    counts: dict[str, dict[str, int | None]] = {}
    for split, row in _counts(source).items():
        here = slice(None) if source.splits is None else source.splits == split
        groups = None if source.groups is None else len(np.unique(source.groups[here]))
        counts[split] = {**row, "images": sum(row.values()), "groups": groups}
    return counts


def _split_order(split: str) -> tuple[int, str]:
    """Training splits first, then validation, then the rest."""
    return (0 if split.startswith("train") else 1 if split.startswith("val") else 2), split


def _groups(source: Source) -> Groups | None:
    if source.groups is None:
        return None
    classes_of: dict[str, set[int]] = defaultdict(set)
    for group, label in zip(source.groups.tolist(), source.labels.tolist(), strict=True):
        classes_of[group].add(label)
    sizes = list(Counter(source.groups.tolist()).values())
    splits_of: dict[str, set[str]] = defaultdict(set)
    if source.splits is not None:
        for group, split in zip(source.groups.tolist(), source.splits.tolist(), strict=True):
            splits_of[group].add(split)
    return Groups(
        n=len(sizes),
        smallest=min(sizes),
        median=float(np.median(sizes)),
        largest=max(sizes),
        only_negative=sum(labels == {NEGATIVE} for labels in classes_of.values()),
        only_positive=sum(labels == {POSITIVE} for labels in classes_of.values()),
        in_several_splits=sum(len(splits) > 1 for splits in splits_of.values()),
        counts=_group_counts(source, source.groups),
    )


def _group_counts(source: Source, groups: np.ndarray) -> dict[str, dict[str, int]]:
    """Group -> class -> images, in the order of the groups' names."""
    names, index = np.unique(groups.astype(str), return_inverse=True)
    counts = {
        class_of(source, k): np.bincount(index[source.labels == k], minlength=len(names)) for k in _present(source)
    }
    return {name: {c: int(counts[c][i]) for c in counts} for i, name in enumerate(names.tolist())}


def _scan(source: Source) -> tuple[dict[str, Values], Copies]:
    """Per class the range, mean and standard deviation of all pixels; and the exact copies."""
    full = np.iinfo(source.dtype).max if source.dtype.kind == "u" else 1
    sums: dict[int, np.ndarray] = defaultdict(lambda: np.zeros(3))
    ranges: dict[int, tuple[float, float]] = {}
    rows_of: dict[bytes, list[int]] = defaultdict(list)
    for start in range(0, len(source), BATCH):
        rows = np.arange(start, min(start + BATCH, len(source)))
        images = source.read(rows)
        for row, image in zip(rows.tolist(), images, strict=True):
            rows_of[hashlib.sha256(image.tobytes()).digest()[:16]].append(row)
        for label in np.unique(source.labels[rows]).tolist():
            pixels = images[source.labels[rows] == label].astype(np.float64)
            sums[label] += (pixels.size, pixels.sum() / full, np.square(pixels / full).sum())
            low, high = ranges.get(label, (np.inf, -np.inf))
            ranges[label] = min(low, float(pixels.min())), max(high, float(pixels.max()))
    values = {}
    for label in (label for label in _present(source) if label in ranges):
        count, total, squares = sums[label]
        mean = total / count
        std = float(np.sqrt(max(squares / count - mean**2, 0.0)))
        values[class_of(source, label)] = Values(ranges[label], float(mean), std)
    return values, _copies(source, [rows for rows in rows_of.values() if len(rows) > 1])


def _copies(source: Source, sets: list[list[int]]) -> Copies:
    def crossing(values: np.ndarray | None) -> int:
        return 0 if values is None else sum(len(np.unique(values[rows])) > 1 for rows in sets)

    return Copies(
        images=sum(len(rows) for rows in sets),
        sets=len(sets),
        across_splits=crossing(source.splits),
        across_labels=crossing(source.labels),
        across_groups=crossing(source.groups),
    )
