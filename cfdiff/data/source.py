"""A source of labelled images: what every reader returns and what every workflow takes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from cfdiff.data.columns import check_storable
from cfdiff.data.distinct import distinct
from cfdiff.data.limits import check_memory, enough_memory
from cfdiff.data.names import same
from cfdiff.errors import UserError

Reader = Callable[[np.ndarray], np.ndarray]
"""Rows (B,) int64 -> images (B, H, W, C), or masks (B, H, W) bool."""
Digest = Callable[[np.ndarray], str]
"""Rows (B,) int64 -> a hash (hex) of the content that they stand on."""
Files = Callable[[np.ndarray], Sequence[Path | None]]
"""Rows (B,) int64 -> the files that their digest is of, in its order; None stands for one that is not there."""
NEGATIVE, POSITIVE, OTHER = 0, 1, -1


class Kind(Protocol):
    """What images are like, of a source or to be drawn: what messages call them, (H, W, C), (negative, positive)."""

    @property
    def name(self) -> str: ...

    @property
    def shape(self) -> tuple[int, int, int]: ...

    @property
    def classes(self) -> tuple[str, str]: ...


class Places(NamedTuple):
    """Where images lie in their slides.

    Attributes:
        x, y: (N,) int64, the upper left corner, in pixels of the slide.
        side: (N,) float64, the length of a side in the same pixels.
        slide: (N,) str.
    """

    x: np.ndarray
    y: np.ndarray
    side: np.ndarray
    slide: np.ndarray


@dataclass(frozen=True, eq=False)
class Source:
    """N images of one size with a label each; the pixels are read on demand.

    `labels` are int8: 0 negative, 1 positive, -1 any other class. `groups` (patient, slide) and `splits` are
    None where the source does not say. A source is a list of rows of its backend: `select` makes a view.

    Attributes:
        columns: name -> (all rows of the backend,) str, what else may serve as groups.
        notes: sentences about what was taken how, for whoever looks at the source.
        files: which files the digest is of; None where the backend cannot say.
    """

    name: str
    ids: np.ndarray
    labels: np.ndarray
    classes: tuple[str, str]
    groups: np.ndarray | None
    splits: np.ndarray | None
    shape: tuple[int, int, int]
    dtype: np.dtype
    reader: Reader
    mask_reader: Reader | None
    digest: Digest
    rows: np.ndarray
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    files: Files | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) over all of this view that a result may depend on.

        That is ids, labels, groups, splits and pairs as they are used, the names of the classes, and the content of the
        files behind the images and masks. Computed when first asked for: it reads every file once.
        """
        h = hashlib.sha256()

        def add(*texts: str) -> None:
            for text in texts:
                data = text.encode("utf-8", "surrogateescape")
                h.update(len(data).to_bytes(8, "little") + data)

        add(*self.classes, str(self.shape), str(self.dtype), str(self.mask_reader is not None), self.digest(self.rows))
        for column in (self.ids, self.labels, self.groups, self.splits):
            add("none" if column is None else f"{len(column)}", *([] if column is None else map(str, column.tolist())))
        if self.pairs is not None:  # data without pairs has the fingerprint that it had before there were any
            add("pairs", *self.pairs.tolist())
        if self.places is not None:
            add("places", *(str(value) for column in self.places for value in column.tolist()))
        return h.hexdigest()

    @cached_property
    def pairs(self) -> np.ndarray | None:
        """(N,) str, the column `pair`: images of one name are the same place in both classes, "" is none; or None."""
        return self.column("pair") if "pair" in self.columns else None

    @cached_property
    def places(self) -> Places | None:
        """Where the images lie in their slides, by the columns `x`, `y`, `side` and `slide`; None without x and y.

        Without `side` an image is as long as its own pixels; without `slide` all are of one.
        """
        if not {"x", "y"} <= set(self.columns):
            return None
        try:
            x, y = (np.rint(self.column(key).astype(np.float64)).astype(np.int64) for key in ("x", "y"))
            side = self.column("side").astype(np.float64) if "side" in self.columns else np.float64(self.shape[1])
        except (ValueError, OverflowError):  # columns of that name that say something else
            return None
        sides = np.broadcast_to(side, len(self)).copy()
        if not (np.isfinite(sides).all() and (sides > 0).all()):
            return None
        return Places(x, y, sides, self.column("slide") if "slide" in self.columns else np.full(len(self), ""))

    def read(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """The images (B, H, W, C) in the source's dtype: uint8, uint16, or float32 in [0, 1]."""
        rows = self.rows[np.asarray(indices, dtype=np.int64)]
        what = f"Reading {len(rows):,} images of {self.name}"
        check_memory(len(rows) * math.prod(self.shape) * self.dtype.itemsize, what)
        with enough_memory(what):
            images = self.reader(rows)
        if images.dtype.kind == "f":
            check_float_range(images, self.name)
        return images

    def read_masks(self, indices: Sequence[int] | np.ndarray) -> np.ndarray | None:
        """The masks (B, H, W) bool, or None where the source has none."""
        if self.mask_reader is None:
            return None
        with enough_memory(f"Reading masks of {self.name}"):
            return self.mask_reader(self.rows[np.asarray(indices, dtype=np.int64)])

    def check(self, batch: int = 64) -> None:
        """Read every image once, and keep none: a damaged one is a UserError."""
        for start in range(0, len(self), batch):
            self.read(np.arange(start, min(start + batch, len(self))))

    def in_memory(self, most: int) -> Source:
        """The same images, read once now (so a damaged one is a UserError) and kept, where they are `most` bytes or
        less; otherwise they are only checked."""
        if len(self) * math.prod(self.shape) * self.dtype.itemsize > most:
            self.check()
            return self
        images, place = self.read(np.arange(len(self))), np.argsort(self.rows)
        images.flags.writeable = False

        def kept(rows: np.ndarray) -> np.ndarray:
            if np.array_equal(rows, self.rows):
                return images  # no second copy for whoever wants all
            return images[place[np.searchsorted(self.rows, rows, sorter=place)]]

        return replace(self, reader=kept)

    def select(self, indices: Sequence[int] | np.ndarray) -> Source:
        """A view on some of the images, in the order given."""
        chosen = np.asarray(indices, dtype=np.int64)
        return replace(
            self,
            ids=self.ids[chosen],
            labels=self.labels[chosen],
            groups=None if self.groups is None else self.groups[chosen],
            splits=None if self.splits is None else self.splits[chosen],
            rows=self.rows[chosen],
        )

    def narrow(
        self, split: str | None = None, label: int | None = None, limit: int | None = None, seed: int = 0
    ) -> Source:
        """A view on one split (or several, "train-guide+val"), one class, and a random part of at most `limit`.

        Raises:
            UserError: there is no such split, or nothing is left.
        """
        found = self if split is None else self.select(_in_splits(self, split))
        if label is not None:
            found = found.select(np.flatnonzero(found.labels == label))
        if len(found) == 0:
            wanted = "" if label is None else f" of class {self.classes[label]!r}"
            where = "" if split is None else f" in split {split!r}"
            raise UserError(f"{self.name} has no image{wanted}{where}: choose another split or class.")
        return found if limit is None else random_subset(found, limit, seed)

    def column(self, key: str, option: str | None = None) -> np.ndarray:
        """(N,) str, what a column of the data says of each image; UserError, which names the `option` that asked,
        where there is no such column."""
        if key not in self.columns:
            asks = "" if option is None else f", which {option} asks for"
            known = ", ".join(self.columns)
            there = f"the known ones are {known}" if known else "it has none"
            raise UserError(f"{self.name} has no column {key!r}{asks}: {there}.")
        found = self.columns[key]
        check_storable(found, key, self.name)
        return found[self.rows]


def class_index(name: str, source: Kind, option: str) -> int:
    """0 or 1 for "negative", "positive" or one of the data's class names, compared folded (`names.fold`)."""
    known = ("negative", "positive", *source.classes)
    found = next((place for place, other in enumerate(known) if same(name, other)), None)
    if found is None:
        raise UserError(
            f"{option} {name!r} is no class of {source.name}: the known ones are {', '.join(dict.fromkeys(known))}."
        )
    return found % 2


def _in_splits(source: Source, split: str) -> np.ndarray:
    if source.splits is None:
        raise UserError(f"{source.name} has no splits, so split {split!r} cannot be chosen: leave --split out.")
    known = [str(s) for s in np.unique(source.splits)]
    wanted = split.split("+")
    for one in wanted:
        if one not in known:
            raise UserError(f"{source.name} has no split {one!r}: the known ones are {', '.join(known)}.")
    return np.flatnonzero(np.isin(source.splits, wanted))


def require_masks(source: Source, option: str, instead: str = "--mask auto or none") -> None:
    """Raise UserError where `option` asks for masks that the source has not; `instead` is what does without."""
    if source.mask_reader is None:
        raise UserError(f"{source.name} has no masks, which {option} needs: use {instead}.")


def require_both_classes(source: Source) -> None:
    """Raise UserError unless the source holds negatives and positives (training and judging need both)."""
    for label, name in enumerate(source.classes):
        if not np.any(source.labels == label):
            raise UserError(
                f"{source.name} has no image of class {name!r}, but both classes are needed: "
                f"choose another split or name the classes with --negative and --positive."
            )


def check_float_range(images: np.ndarray, where: str) -> None:
    """Raise UserError for float images that are not finite or not in [0, 1]."""
    if not np.isfinite(images).all():
        raise UserError(f"{where} has pixels that are NaN or infinite: clean them, values must be in [0, 1].")
    low, high = float(images.min()), float(images.max())
    if low < 0 or high > 1:
        raise UserError(
            f"{where} has float pixels from {_beside_1(low)} to {_beside_1(high)}, outside [0, 1]: "
            f"scale them to [0, 1] or save them as uint8 or uint16."
        )


def _beside_1(value: float) -> str:
    """A number in four digits, or in all where four would move it to 0 or 1."""
    short = f"{value:.4g}"
    return short if (0 <= float(short) <= 1) == (0 <= value <= 1) else repr(value)


def random_subset(source: Source, limit: int, seed: int) -> Source:
    """At most `limit` images, spread evenly over groups and labels, in the source's order.

    Which images are taken depends on (seed, id) only, not on the order of files, and a smaller limit takes a
    subset of a larger one.
    """
    if limit < 1:
        raise UserError(f"A limit of {limit} images leaves nothing to do: ask for at least 1.")
    if limit >= len(source):
        return source
    draw = np.array([_uniform(f"{seed}/{sample_id}") for sample_id in source.ids])
    strata = source.labels.astype(np.int64) - OTHER
    if source.groups is not None:
        strata += 3 * distinct(source.groups.astype(str))[1]
    # Round k takes the k-th image of every stratum, so that no patient with many images crowds out the rest.
    by_stratum = np.lexsort((draw, strata))
    first = np.flatnonzero(np.diff(strata[by_stratum], prepend=-1))
    rank = np.empty(len(source), dtype=np.int64)
    rank[by_stratum] = np.arange(len(source)) - np.repeat(first, np.diff(first, append=len(source)))
    return source.select(np.sort(np.lexsort((draw, rank))[:limit]))


def _uniform(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48
