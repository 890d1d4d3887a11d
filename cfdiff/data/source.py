"""A source of labelled images: what every reader returns and what every workflow takes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from cfdiff.errors import UserError

Reader = Callable[[np.ndarray], np.ndarray]
NEGATIVE, POSITIVE, OTHER = 0, 1, -1


@dataclass(frozen=True, eq=False)
class Source:
    """N images of one size with a label each; the pixels are read on demand.

    `labels` are int8: 0 negative, 1 positive, -1 any other class. `groups` (patient, slide) and `splits` are
    None where the source does not say. A source is a list of rows of its backend: `select` makes a view.
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
    digest: Callable[[], str]
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) over the content of the backing files and over the ids and labels of this view.

        Computed when first asked for: it reads every file once.
        """
        h = hashlib.sha256(self.digest().encode())
        for sample_id, label in zip(self.ids, self.labels, strict=True):
            h.update(f"{sample_id}\0{int(label)}\n".encode())
        return h.hexdigest()

    def read(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """The images (B, H, W, C) in the source's dtype: uint8, uint16, or float32 in [0, 1]."""
        images = self.reader(self.rows[np.asarray(indices, dtype=np.int64)])
        if images.dtype.kind == "f":
            check_float_range(images, self.name)
        return images

    def read_masks(self, indices: Sequence[int] | np.ndarray) -> np.ndarray | None:
        """The masks (B, H, W) bool, or None where the source has none."""
        if self.mask_reader is None:
            return None
        return self.mask_reader(self.rows[np.asarray(indices, dtype=np.int64)])

    def check(self, batch: int = 64, masks: bool = False) -> None:
        """Read every image (and mask) once: a damaged one is a UserError now and not after hours of computation."""
        for start in range(0, len(self), batch):
            rows = np.arange(start, min(start + batch, len(self)))
            self.read(rows)
            if masks:
                self.read_masks(rows)

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


def class_index(name: str, source: Source, option: str) -> int:
    """0 or 1 for "negative", "positive" or one of the data's class names."""
    known = ("negative", "positive", *source.classes)
    if name not in known:
        raise UserError(
            f"{option} {name!r} is no class of {source.name}: the known ones are {', '.join(dict.fromkeys(known))}."
        )
    return known.index(name) % 2


def require_masks(source: Source, option: str) -> None:
    """Raise UserError where `option` asks for masks that the source has not."""
    if source.mask_reader is None:
        raise UserError(f"{source.name} has no masks, which {option} needs: use --mask auto or none.")


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
            f"{where} has float pixels from {low:.4g} to {high:.4g}, outside [0, 1]: "
            f"scale them to [0, 1] or save them as uint8 or uint16."
        )


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
    strata = source.labels.astype(str)
    if source.groups is not None:
        strata = np.char.add(np.char.add(strata, "\0"), source.groups.astype(str))
    # Round k takes the k-th image of every stratum, so that no patient with many images crowds out the rest.
    rank = np.empty(len(source), dtype=np.int64)
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        rank[members[np.argsort(draw[members])]] = np.arange(len(members))
    return source.select(np.sort(np.lexsort((draw, rank))[:limit]))


def _uniform(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48
