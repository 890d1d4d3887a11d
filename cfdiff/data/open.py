"""`open_source`: one door to every layout of images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from cfdiff.data.bundled import BUNDLED, bundled_file, card
from cfdiff.data.classes import BLANK, map_classes
from cfdiff.data.columns import check_storable
from cfdiff.data.distinct import distinct, repeated
from cfdiff.data.fetch import fetched
from cfdiff.data.fit import Fit
from cfdiff.data.limits import enough_memory
from cfdiff.data.names import fold, one_class_notes
from cfdiff.data.raw import Format, Raw
from cfdiff.data.readers.foreign import in_truth
from cfdiff.data.readers.medmnist import by_name
from cfdiff.data.readers.npz import read_npz
from cfdiff.data.readers.reading import parse_reading
from cfdiff.data.source import OTHER, Source
from cfdiff.data.split_file import read_splits
from cfdiff.errors import UserError
from cfdiff.files import is_there
from cfdiff.registry import READERS
from cfdiff.remote import is_url, shown


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
    splits: str | Path | None = None,
    layout: str | None = None,
    reading: str | None = None,
) -> Source:
    """Open images: a bundled name, a folder per class, a .csv manifest, a .npz, a .h5 or WebDataset's .tar; or any of
    these files and folders at an URL (s3://bucket/cells.h5), which is fetched once (`data.fetch`).

    `split` may join several ("train-guide+val"). `negative` and `positive` name the classes; images of other
    classes are dropped unless `keep_other`. `unlabelled` are the class names of data that need not say its labels:
    absent and blank ones are of neither class, and a flat folder of images will do. `group_key` is the column that
    says which images belong together. `from_label` keeps one class. `limit` takes a random part, spread over groups,
    that depends on `seed` and the ids only. `fit` changes size or channels while reading. `splits` is a .csv with
    `id,split` of every image (`cfdiff data split`) that stands in place of the data's own splits. `layout` is what the
    folders of a folder stand for (`readers.tree.LAYOUTS`). `reading` is how files that hold several images, or more
    values than a screen shows, become images (`readers.reading.KEYS`). Raises UserError for anything that cannot be
    read as asked.
    """
    raw = read_raw(spec, fit, unlabelled is not None, layout, reading)
    labels, classes = map_classes(raw.labels, negative, positive, raw.name, raw.stated_classes, unlabelled)
    check_storable(raw.ids, "id", raw.name)
    if (nameless := raw.ids == "").any():
        raise UserError(f"{raw.name} has an empty id, that of image {int(nameless.argmax()) + 1}: give each a name.")
    check_storable(np.array(classes), "class", raw.name)
    if raw.splits is not None:
        check_storable(raw.splits, "split", raw.name)
    if (twice := repeated(raw.ids)) is not None:
        raise UserError(f"{raw.name} has the id {twice!r} more than once: ids must be unique.")
    source = Source(
        name=raw.name,
        ids=raw.ids,
        labels=labels,
        classes=classes,
        groups=None,
        splits=raw.splits,
        shape=raw.shape,
        dtype=np.dtype(raw.dtype),
        reader=raw.reader,
        mask_reader=raw.mask_reader,
        digest=raw.digest,
        rows=np.arange(len(raw.ids)),
        columns=raw.columns,
        notes=(*raw.notes, *one_class_notes(raw.labels)),
        files=raw.files,
    )
    key = raw.default_group if group_key is None else group_key
    if key is not None:
        source = _grouped(source, key)
    if splits is not None:
        source = replace(source, splits=read_splits(Path(splits), source))
    every = keep_other or not (source.labels == OTHER).any()  # to select all of a million makes a copy of each
    kept = source if every else source.select(np.flatnonzero(source.labels != OTHER))
    return kept.narrow(split, from_label, limit, seed)


NO_GROUP = frozenset({*BLANK, "na", "n/a", "#n/a", "<na>", "nat", "none", "null"})
"""What programs of tables write, folded, where a value is missing (R, pandas, Excel, SQL)."""


def _grouped(source: Source, key: str) -> Source:
    """With the groups that a column says; what has none there stands for itself, and is no group with its like."""
    groups = source.column(key, "--group-key")
    unique, place = distinct(groups)
    lone = np.array([fold(name) in NO_GROUP for name in unique.tolist()], bool)[place]
    if not lone.any():
        return replace(source, groups=groups)
    n = int(lone.sum())
    note = f"{n:,} image{'s have' if n > 1 else ' has'} no {key!r}: each of them counts as a group of its own."
    return replace(source, groups=np.where(lone, source.ids, groups), notes=(*source.notes, note))


class Told(Protocol):
    """Of the settings of a command (settings.DataSettings), those that say which images."""

    @property
    def data(self) -> str: ...
    @property
    def layout(self) -> str | None: ...
    @property
    def reading(self) -> str | None: ...
    @property
    def negative(self) -> str | None: ...
    @property
    def positive(self) -> str | None: ...
    @property
    def group_key(self) -> str | None: ...
    @property
    def splits(self) -> Path | None: ...


def open_told(s: Told, *, keep_other: bool = False, unlabelled: tuple[str, str] | None = None) -> Source:
    """`open_source` of what the settings of a command say: all of them, so that none is asked for and not heeded."""
    return open_source(
        s.data,
        layout=s.layout,
        reading=s.reading,
        negative=s.negative,
        positive=s.positive,
        group_key=s.group_key,
        splits=s.splits,
        keep_other=keep_other,
        unlabelled=unlabelled,
    )


def read_raw(
    spec: str | Path,
    fit: Fit | None = None,
    unlabelled: bool = False,
    layout: str | None = None,
    reading: str | None = None,
) -> Raw:
    """Every row of a source, with class names as they stand there; "" where it may be and is `unlabelled`."""
    how = parse_reading(reading)
    if not str(spec).strip():  # which would be the folder that one is in, as of a variable of the shell that is not set
        raise UserError(f"The data has an empty name: give one of {', '.join(READERS)}, or a bundled name.")
    if str(spec) in BUNDLED:
        if layout is not None:
            raise _no_folder(str(spec))
        if how.said:
            raise _no_files(str(spec))
        return _fitted(read_npz(bundled_file(str(spec)), str(spec), card(str(spec))["classes"]), fit)
    url = is_url(str(spec))
    path = fetched(str(spec)) if url else by_name(str(spec)) or Path(spec)
    name = shown(str(spec)) if url else path.name or path.resolve().name
    if not is_there(path):
        raise UserError(
            f"There is no data at {str(spec)!r}: give one of {', '.join(READERS)}, "
            f"or a bundled name ({', '.join(BUNDLED)})."
        )
    if path.is_file() and path.stat().st_size == 0:
        raise UserError(f"{name} is empty (0 bytes): copy it again.")
    # The youngest first, so that what a user registers may take over a layout.
    for kind in reversed(READERS):
        format: Format = READERS[kind]
        if format.recognises(path):
            with enough_memory(name):
                if layout is not None and format.read_as is None:
                    raise _no_folder(name)
                if how.said and format.read_how is None:
                    raise _no_files(name)
                if format.read_how is not None:
                    return _fitted(format.read_how(path, name, fit, unlabelled, layout, how), fit)
                if format.read_as is not None:
                    return _fitted(format.read_as(path, name, fit, unlabelled, layout), fit)
                return _fitted(format.read(path, name, fit, unlabelled), fit)
    truth = in_truth(path) if path.is_file() else None
    what = "of no kind that can be read" if truth is None else f"of no kind that can be read but {truth.split(':')[0]}"
    raise UserError(f"{name} is {what}: give one of {', '.join(READERS)}.")


def _no_folder(name: str) -> UserError:
    return UserError(f"--layout says what the folders of a folder stand for, and {name} is none: leave it out.")


def _no_files(name: str) -> UserError:
    return UserError(f"--reading says how DICOM, NIfTI and slides become images, and {name} holds none: leave it out.")


def _fitted(raw: Raw, fit: Fit | None) -> Raw:
    """A source whose images pass through `fit`, unless its reader has seen to that."""
    if fit is None or fit.shape(raw.shape) == raw.shape:
        return raw
    masks = raw.mask_reader
    return replace(
        raw,
        shape=fit.shape(raw.shape),
        reader=lambda rows: np.stack([fit.image(image) for image in raw.reader(rows)]),
        mask_reader=None if masks is None else lambda rows: np.stack([fit.mask(m) for m in masks(rows)]),
    )
