"""Rows of one HDF5 file into another: compressed chunks as they are where they fit, else value by value."""

from __future__ import annotations

from collections.abc import Callable

import h5py

from cfdiff.store.schema import RESULT, Field, Layout, create_dataset


def append(
    file: h5py.File,
    part: h5py.File,
    start: int,
    n: int,
    layout: Layout = RESULT,
    which: Callable[[Field], bool] = lambda field: True,
) -> None:
    """Copy data sets of `part`, those of `which`, to their rows from `start` on in `file`, which is made for `n`
    images; rows that would lie before or beyond them are left out."""
    names: list[str] = []
    part.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    for name in names:
        if not which(layout.fields[name]):
            continue
        source = part[name]
        target = file[name] if name in file else create_dataset(file, name, source, n, layout)
        rows = range(max(0, -start), min(len(source), n - start))
        if _same_chunks(source, target):
            _copy_chunks(source, target, start, rows)
        else:
            # Strings stay bytes: neither decoded nor encoded.
            target[start + rows.start : start + rows.stop] = source[rows.start : rows.stop]


def _same_chunks(source: h5py.Dataset, target: h5py.Dataset) -> bool:
    """Whether both have a chunk a row, packed alike, with the values in it: strings lie elsewhere in a file."""
    one_row = (1, *source.shape[1:])
    if source.dtype.kind == "O":
        return False
    if not source.chunks == target.chunks == one_row or source.dtype != target.dtype:
        return False
    return _filters(source) == _filters(target)


def _filters(dataset: h5py.Dataset) -> list[tuple[int, tuple[int, ...]]]:
    """Number and parameters of each filter, in order."""
    plist = dataset.id.get_create_plist()
    filters = [plist.get_filter(i) for i in range(plist.get_nfilters())]
    return [(code, values) for code, _, values, _ in filters]


def _copy_chunks(source: h5py.Dataset, target: h5py.Dataset, start: int, rows: range) -> None:
    rest = (0,) * (source.ndim - 1)
    read, write = source.id.read_direct_chunk, target.id.write_direct_chunk
    for row in rows:
        mask, packed = read((row, *rest))
        write((start + row, *rest), packed, mask)
