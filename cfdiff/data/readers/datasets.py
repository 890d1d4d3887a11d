"""The data sets of an HDF5 file: what they claim to be, and their values, from this file alone.

HDF5 can take values from other files: by external links, external storage (any file's bytes as pixels) and virtual data
sets. All three are refused where the data set is used: a file that somebody sent could read whatever its reader may
read, and a change in the other file would go unseen.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from cfdiff.data.columns import KNOWN
from cfdiff.data.limits import check_memory
from cfdiff.errors import UserError


@dataclass(frozen=True)
class Dataset:
    """Where a data set is and what it claims to be.

    Attributes:
        where: the file, as messages call it.
        text: the values are strings of any length, which numpy calls objects.
    """

    path: Path
    where: str
    key: str
    shape: tuple[int, ...]
    dtype: np.dtype
    text: bool


USED = (*KNOWN, "images", "x", "labels", "y", "masks", "classes", "wsi")
"""Keys that are used wherever they stand."""


def list_datasets(path: Path, where: str) -> dict[str, Dataset]:
    """The data sets at the top of a file; those that cannot be used and are not among `USED` are left out.

    Raises:
        UserError: the file cannot be read, or one of `USED` takes its values from another file.
    """
    found = {}
    with _open(path, where) as file:
        for key in file:
            try:
                item = _own(file, key, where)
                if item is None or item.shape is None:  # a group, a link to nothing, or h5py.Empty
                    continue
                text = h5py.check_string_dtype(item.dtype) is not None
                found[key] = Dataset(path, where, key, tuple(item.shape), item.dtype, text)
            except (UserError, TypeError, KeyError):  # TypeError: a type that numpy has not
                if key in USED:
                    raise
    return found


def read_whole(dataset: Dataset) -> np.ndarray:
    """All values; text as str or objects that are str.

    Raises:
        UserError: the file cannot be read, names are not UTF-8, or the values would not fit the memory.
    """
    item = f"The data set {dataset.key!r} of {dataset.where}, of shape {dataset.shape},"
    check_memory(int(np.prod(dataset.shape, dtype=object)) * dataset.dtype.itemsize, item)
    with _open(dataset.path, dataset.where) as file:
        values = _own(file, dataset.key, dataset.where)
        assert values is not None
        try:
            return values.asstr()[...] if dataset.text else values[...]
        except UnicodeDecodeError as error:
            raise UserError(
                f"{dataset.where} has a name that is not UTF-8 ({error.object!r}): save names as UTF-8."
            ) from error


def rows_of(dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    """Rows in any order, repeated ones too. The file is opened anew: safe across processes."""
    increasing, back = np.unique(rows, return_inverse=True)
    with _open(dataset.path, dataset.where) as file:
        values = _own(file, dataset.key, dataset.where)
        assert values is not None
        return values[increasing][back]


def _own(file: h5py.File, key: str, where: str) -> h5py.Dataset | None:
    """The data set of that key, None for anything else; UserError where its values are in another file."""
    link = file.get(key, getlink=True)
    if isinstance(link, h5py.ExternalLink):  # not followed at all
        raise _elsewhere(where, key, f"a link into {_file(link.filename)}")
    item = file.get(key)
    if not isinstance(item, h5py.Dataset):
        return None
    if h5py.h5f.get_name(item.id) != h5py.h5f.get_name(file.id):  # a link to a link
        raise _elsewhere(where, key, "a link into another file")
    if item.external:
        raise _elsewhere(where, key, f"stored in {_file(item.external[0][0])}")
    if item.is_virtual:
        raise _elsewhere(where, key, "a virtual data set, put together from others")
    return item


def _file(name: str | bytes) -> str:
    return repr(os.path.basename(os.fsdecode(name)))


def _elsewhere(where: str, key: str, how: str) -> UserError:
    return UserError(f"{key!r} of {where} is {how}, which is not followed: copy the values into {where} itself.")


@contextmanager
def _open(path: Path, where: str) -> Iterator[h5py.File]:
    try:
        with h5py.File(path, "r") as file:
            yield file
    # What h5py raises for damaged files; a MemoryError is said where the size is known.
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        if isinstance(error, UnicodeDecodeError):
            raise
        raise UserError(
            f"{where} is not a readable HDF5 file: it may be truncated or corrupt, copy it again."
        ) from error
