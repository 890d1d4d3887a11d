"""`open_source`: one door to every layout of images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from cfdiff.data.bundled import BUNDLED, bundled_file, card
from cfdiff.data.classes import map_classes
from cfdiff.data.fit import Fit
from cfdiff.data.raw import Raw
from cfdiff.data.readers.folder import read_folder
from cfdiff.data.readers.hdf5 import read_h5
from cfdiff.data.readers.manifest import read_manifest
from cfdiff.data.readers.npz import read_npz
from cfdiff.data.source import OTHER, Source, random_subset
from cfdiff.errors import UserError


def open_source(
    spec: str | Path,
    *,
    split: str | None = None,
    negative: str | None = None,
    positive: str | None = None,
    group_key: str | None = None,
    limit: int | None = None,
    from_label: int | None = None,
    seed: int = 0,
    keep_other: bool = False,
    unlabelled: tuple[str, str] | None = None,
    fit: Fit | None = None,
) -> Source:
    """Open images: a bundled name, a folder per class, a .csv manifest, a .npz or a .h5.

    `split` may join several ("train-guide+val"). `negative` and `positive` name the classes; images of other
    classes are dropped unless `keep_other`. `unlabelled` are the class names of data that need not say its labels:
    absent and blank ones are of neither class, and a flat folder of images will do. `group_key` is the column that
    says which images belong together. `from_label` keeps one class. `limit` takes a random part, spread over groups,
    that depends on `seed` and the ids only. `fit` changes size or channels while reading. Raises UserError for
    anything that cannot be read as asked.
    """
    raw = read_raw(spec, fit, unlabelled is not None)
    labels, classes = map_classes(raw.labels, negative, positive, raw.name, raw.stated_classes, unlabelled)
    unique, counts = np.unique(raw.ids, return_counts=True)
    if len(unique) != len(raw.ids):
        raise UserError(f"{raw.name} has the id {str(unique[counts.argmax()])!r} more than once: ids must be unique.")
    source = Source(
        name=raw.name,
        ids=raw.ids,
        labels=labels,
        classes=classes,
        groups=_groups(raw, group_key),
        splits=raw.splits,
        shape=raw.shape,
        dtype=np.dtype(raw.dtype),
        reader=raw.reader,
        mask_reader=raw.mask_reader,
        digest=raw.digest,
        rows=np.arange(len(raw.ids)),
    )
    if split is not None:
        source = source.select(_in_splits(source, split))
    if not keep_other:
        source = source.select(np.flatnonzero(source.labels != OTHER))
    if from_label is not None:
        source = source.select(np.flatnonzero(source.labels == from_label))
    if len(source) == 0:
        wanted = "" if from_label is None else f" of class {classes[from_label]!r}"
        where = "" if split is None else f" in split {split!r}"
        raise UserError(f"{raw.name} has no image{wanted}{where}: choose another split or class.")
    return source if limit is None else random_subset(source, limit, seed)


def read_raw(spec: str | Path, fit: Fit | None = None, unlabelled: bool = False) -> Raw:
    """Every row of a source, with class names as they stand there; "" where it may be and is `unlabelled`."""
    if str(spec) in BUNDLED:
        return _fitted(read_npz(bundled_file(str(spec)), str(spec), card(str(spec))["classes"]), fit)
    path = Path(spec)
    name = path.name or path.resolve().name
    if not path.exists():
        raise UserError(
            f"There is no data at {str(spec)!r}: give a folder, a .csv, .npz or .h5 file, "
            f"or a bundled name ({', '.join(BUNDLED)})."
        )
    if path.is_dir():
        return read_folder(path, name, fit, unlabelled)
    if path.stat().st_size == 0:
        raise UserError(f"{name} is empty (0 bytes): copy it again.")
    kind = path.suffix.lower()
    if kind == ".csv":
        return read_manifest(path, name, fit, unlabelled)
    if kind == ".npz":
        return _fitted(read_npz(path, name, unlabelled=unlabelled), fit)
    if kind in (".h5", ".hdf5"):
        return _fitted(read_h5(path, name, unlabelled), fit)
    raise UserError(f"{name} is of no kind that can be read: give a folder, a .csv, .npz or .h5 file.")


def _fitted(raw: Raw, fit: Fit | None) -> Raw:
    """A source of one array, whose images pass through `fit`. (Files do so while they are read.)"""
    if fit is None:
        return raw
    masks = raw.mask_reader
    return replace(
        raw,
        shape=fit.shape(raw.shape),
        reader=lambda rows: np.stack([fit.image(image) for image in raw.reader(rows)]),
        mask_reader=None if masks is None else lambda rows: np.stack([fit.mask(m) for m in masks(rows)]),
    )


def _groups(raw: Raw, key: str | None) -> np.ndarray | None:
    if key is None:
        return None if raw.default_group is None else raw.columns[raw.default_group]
    if key not in raw.columns:
        known = ", ".join(raw.columns) or "none"
        raise UserError(f"{raw.name} has no column {key!r} to group by: the known ones are {known}.")
    return raw.columns[key]


def _in_splits(source: Source, split: str) -> np.ndarray:
    if source.splits is None:
        raise UserError(f"{source.name} has no splits, so split {split!r} cannot be chosen: leave --split out.")
    known = [str(s) for s in np.unique(source.splits)]
    wanted = split.split("+")
    for one in wanted:
        if one not in known:
            raise UserError(f"{source.name} has no split {one!r}: the known ones are {', '.join(known)}.")
    return np.flatnonzero(np.isin(source.splits, wanted))
