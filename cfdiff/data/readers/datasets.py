"""The data sets of an HDF5 file of images: what they claim to be, and their values, from this file alone.

What takes its values from another file (`hdf5.own_dataset`) is refused where it is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from cfdiff.data.columns import KNOWN, decoded
from cfdiff.data.limits import check_memory
from cfdiff.errors import UserError
from cfdiff.hdf5 import DAMAGED, open_to_read, own_dataset, reason


@dataclass(frozen=True)
class Dataset:
    """Where a data set is and what it claims to be.

    Attributes:
        where: the file, as messages call it.
        text: the values are text, of fixed or of any length; then read as UTF-8, whatever the file calls it.
        encoded: the values are bytes of any length: images as the JPEG or PNG that they were.
    """

    path: Path
    where: str
    key: str
    shape: tuple[int, ...]
    dtype: np.dtype
    text: bool
    encoded: bool = False


AGAIN = "copy it again"
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
                item = own_dataset(file, key, where)
                if item is None or item.shape is None:
                    if key in USED and (item is not None or file.get(key) is None):  # a group may be anything
                        raise UserError(
                            f"{key!r} of {where} is a link to nothing or empty, and no data set: store its values "
                            "under that name."
                        )
                    continue
                text = h5py.check_string_dtype(item.dtype) is not None
                encoded = h5py.check_vlen_dtype(item.dtype) in (np.uint8, np.int8)
                found[key] = Dataset(path, where, key, tuple(item.shape), item.dtype, text, encoded)
            except (UserError, *DAMAGED):  # a type that numpy has not, among others
                if key in USED:
                    raise
    return found


def read_whole(dataset: Dataset) -> np.ndarray:
    """All values; text as str or objects that are str, and numbers that have names (HDF5's enumerations) as these.

    Raises:
        UserError: the file cannot be read, names are not UTF-8, or the values would not fit the memory.
    """
    item = f"The data set {dataset.key!r} of {dataset.where}, of shape {dataset.shape},"
    check_memory(int(np.prod(dataset.shape, dtype=object)) * dataset.dtype.itemsize, item)
    with _open(dataset.path, dataset.where) as file:
        values = own_dataset(file, dataset.key, dataset.where)
        assert values is not None
        try:
            if dataset.text:
                return decoded(values[...]) if dataset.dtype.kind == "S" else values.asstr("utf-8")[...]
            names = h5py.check_enum_dtype(dataset.dtype)
            return values[...] if names is None else _named(values[...], names)
        except UnicodeDecodeError as error:
            raise UserError(
                f"{dataset.where} has a name that is not UTF-8 ({error.object!r}): save names as UTF-8."
            ) from error


def _named(values: np.ndarray, names: dict[str, int]) -> np.ndarray:
    """Numbers as the names that their type gives them; those that it does not name stay numbers."""
    unique, place = np.unique(values, return_inverse=True)
    name_of = {number: name for name, number in names.items()}
    return np.array([name_of.get(number, str(number)) for number in unique.tolist()])[place.reshape(values.shape)]


def rows_of(dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    """Rows in any order, repeated ones too. The file is opened anew: safe across processes."""
    increasing, back = np.unique(rows, return_inverse=True)
    with _open(dataset.path, dataset.where) as file:
        values = own_dataset(file, dataset.key, dataset.where)
        assert values is not None
        return values[increasing][back]


@contextmanager
def _open(path: Path, where: str) -> Iterator[h5py.File]:
    with open_to_read(path, where, AGAIN) as file:
        try:
            yield file
        except UnicodeDecodeError:
            raise
        except DAMAGED as error:  # a MemoryError is said where the size is known
            raise UserError(f"{where} {reason(error, AGAIN)}.") from error
