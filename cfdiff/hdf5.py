"""HDF5 files as they are met: locked, cut short, packed by a filter that is not here, on a disk that is full.

What h5py says of these is either a trace of C functions or nothing at all, so the true reason is found here, once, for
the readers of data and for the store of results. Values come from the file itself and from no other: external links,
external storage (any file's bytes as pixels) and virtual data sets are refused, as a file that somebody sent could read
whatever its reader may read, and a change in the other file would go unseen. (Of our own results the volumes beside
them are the one exception: store/volumes.py.)
"""

from __future__ import annotations

import errno
import importlib
import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cfdiff.errors import UserError
from cfdiff.files import far, guarded

DAMAGED = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, NotImplementedError)
"""What h5py and numpy raise for damaged files."""


def open_to_read(path: Path, where: str, again: str, *, whole: bool = False) -> h5py.File:
    """Open a file for reading. `where` is what a message calls it, `again` how one gets a sound one ("copy it again").

    `whole` says that such files are renamed to their place when they are finished, as ours are: then nobody writes to
    one, and no lock is asked for. Others are read under a lock where the file system has locks, and without one where
    it has none (many network file systems): there a writer cannot be seen by anyone.

    Raises:
        UserError: it cannot be opened, and why.
    """
    try:
        if whole:
            return h5py.File(path, "r", locking=False)
        try:
            return h5py.File(path, "r")
        except OSError as error:
            if "lock" not in str(error) or error.errno in (errno.EAGAIN, errno.EWOULDBLOCK):
                raise
            return h5py.File(path, "r", locking=False)
    except DAMAGED as error:
        raise UserError(f"{where} {reason(error, again)}.") from error


def reason(error: BaseException, again: str) -> str:
    """What an error of h5py means and what to do, in words that go on after the name of the file."""
    said, number = str(error), getattr(error, "errno", None)
    if number in (errno.EAGAIN, errno.EWOULDBLOCK):
        return "is open for writing in another program: close it there, or wait until that has ended"
    if "already open" in said or "consistency flags" in said:
        return "was not closed by the program that wrote it: close it there, or clear its mark with h5clear -s"
    if (found := re.search(r"required filter '([^']*)'", said)) is not None:
        return _filter_missing(found[1])
    if isinstance(error, FileNotFoundError):
        return "does not exist: correct its path"
    if number in (errno.EACCES, errno.EPERM):
        return f"may not be read ({os.strerror(number)}): change its permissions"
    if (away := far(error)) is not None:
        return away
    if "signature not found" in said:
        return f"is not a readable HDF5 file, or its beginning is damaged: {again}"
    if "truncated" in said:
        return f"is not a readable HDF5 file, it is truncated and so damaged: {again}"
    return f"is not a readable HDF5 file, it may be truncated or corrupt: {again}"


def _filter_missing(name: str) -> str:
    return f"is packed by the HDF5 filter {name!r}, which is not here: pip install hdf5plugin, or pack it with gzip"


def format_of(path: Path) -> str | None:
    """What format a file says it has; None where it cannot be read or says nothing."""
    try:
        with open_to_read(path, str(path), "", whole=True) as file:
            found = file.attrs.get("format")
    except (UserError, *DAMAGED):
        return None
    return found if isinstance(found, str) else None


def own_dataset(file: h5py.File, name: str, where: str, virtual: bool = False) -> h5py.Dataset | None:
    """The data set of that name; None where there is none: nothing, a group, a link to nothing. With `virtual` it may
    be put together from others, which the caller looks at.

    Raises:
        UserError: its values are in another file, or packed by a filter that is not here.
    """
    link = file.get(name, getlink=True) if is_link(file, name) else None
    if isinstance(link, h5py.ExternalLink):  # not followed at all
        raise _elsewhere(where, name, f"a link into {_shown(link.filename)}")
    item = file.get(name)
    if not isinstance(item, h5py.Dataset):
        return None
    if h5py.h5f.get_name(item.id) != h5py.h5f.get_name(file.id):  # a link to a link
        raise _elsewhere(where, name, "a link into another file")
    if item.external:
        raise _elsewhere(where, name, f"stored in {_shown(item.external[0][0])}")
    if item.is_virtual and not virtual:
        raise _elsewhere(where, name, "a virtual data set, put together from others")
    _check_filters(item, f"{name!r} of {where}")
    return item


def is_link(file: h5py.File, name: str) -> bool:
    """Whether something is called so, wherever it leads."""
    with suppress(*DAMAGED):
        return file.get(name, getlink=True) is not None
    return False


def _check_filters(item: h5py.Dataset, what: str) -> None:
    """Raise UserError for a filter that this HDF5 has not, also after hdf5plugin, which brings many, was looked for."""
    plist = item.id.get_create_plist()
    filters = [plist.get_filter(i) for i in range(plist.get_nfilters())]
    missing = [(code, name) for code, _, _, name in filters if not h5py.h5z.filter_avail(code)]
    if missing:
        with suppress(Exception):  # not installed, or of another HDF5
            importlib.import_module("hdf5plugin")
    for code, name in missing:
        if not h5py.h5z.filter_avail(code):
            raise UserError(f"{what} {_filter_missing(name.decode('utf-8', 'replace') or f'number {code}')}.")


def _shown(name: str | bytes) -> str:
    return repr(os.path.basename(os.fsdecode(name)))


def _elsewhere(where: str, name: str, how: str) -> UserError:
    return UserError(f"{name!r} of {where} is {how}, which is not followed: copy the values into {where} itself.")


@contextmanager
def create(path: Path) -> Iterator[h5py.File]:
    """Make a file. That the disk is full is an OSError at the end: HDF5 cannot bear it, and ends in a RuntimeError when
    the file is closed, or in a segmentation fault."""
    with guarded(path) as raw, h5py.File(raw, "w") as file:
        yield file


def in_memory(fill: Callable[[h5py.File], None]) -> bytes:
    """The bytes of a small file, made without a disk."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        fill(file)
    return buffer.getvalue()


class Stored:
    """A data set of a file that is read, which is damaged in one sentence.

    Behaves as an h5py.Dataset does to numpy: `shape`, `dtype`, `len`, indexing. Text comes as str. `finite` says that
    NaN and infinity in it are damage, too.
    """

    def __init__(self, item: h5py.Dataset, name: str, where: str, again: str, finite: bool = False) -> None:
        self._item, self.name, self._where, self._again = item, name, where, again
        self._finite = finite and item.dtype.kind == "f"
        self.text = h5py.check_string_dtype(item.dtype) is not None
        self.shape: Any = tuple(item.shape)
        self.dtype: np.dtype = item.dtype

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def attrs(self) -> dict[str, Any]:
        """What the file says of it (units, description); UserError where that cannot be read."""
        try:
            return dict(self._item.attrs)
        except DAMAGED as error:
            raise UserError(
                f"The attributes of {self.name!r} of {self._where} {reason(error, self._again)}."
            ) from error

    def __getitem__(self, which: Any) -> Any:
        """UserError where what is stored there cannot be read."""
        try:
            values = self._item.asstr("utf-8")[which] if self.text else self._item[which]
        except IndexError:
            raise
        except MemoryError as error:
            raise UserError(
                f"The data set {self.name!r} of {self._where}, of shape {self.shape}, does not fit the memory: read it "
                "on a larger machine."
            ) from error
        except UnicodeDecodeError as error:
            raise UserError(
                f"The data set {self.name!r} of {self._where} has a name that is not UTF-8: {self._again}."
            ) from error
        except DAMAGED as error:
            raise UserError(f"The data set {self.name!r} of {self._where} {reason(error, self._again)}.") from error
        if self._finite and not np.isfinite(values).all():
            raise UserError(
                f"The data set {self.name!r} of {self._where} has pixels that are no numbers: {self._again}."
            )
        return values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values = self[...]
        return values if dtype is None else values.astype(dtype)
