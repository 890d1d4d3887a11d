"""The arrays of a .npz: their headers at once, each array when it is asked for. Nothing is ever unpickled."""

from __future__ import annotations

import lzma
import math
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from cfdiff.data.limits import check_memory
from cfdiff.errors import UserError

HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
    (3, 0): np.lib.format.read_array_header_2_0,  # another encoding of names of fields, which no image has
}

CUT = (OSError, EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
"""What the streams of a damaged archive raise."""


class Header(NamedTuple):
    """What an array says of itself."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        """The size of the array in memory."""
        return math.prod(self.shape) * self.dtype.itemsize


class Archive:
    """A .npz, of which only the headers have been read.

    Attributes:
        headers: key -> shape and dtype. Arrays whose header this numpy cannot read are not there.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        self.headers: dict[str, Header] = {}
        with self._open() as archive:
            entries = archive.namelist()
            if twice := [entry for entry, n in Counter(entries).items() if n > 1]:
                key = twice[0].removesuffix(".npy")
                raise UserError(f"{name} holds the array {key!r} twice: save it again with np.savez_compressed.")
            for entry in entries:
                key = entry.removesuffix(".npy")
                if key != entry and (header := _header(archive, entry)) is not None:
                    self.headers[key] = header

    def load(self, key: str) -> np.ndarray:
        """The array; UserError where it holds Python objects, claims more than the memory, or is damaged."""
        header, entry = self.headers[key], f"{key}.npy"
        if header.dtype.hasobject:
            raise UserError(
                f"{self.name} holds pickled Python objects, which are refused because they can run code: "
                f"save plain arrays with np.savez_compressed."
            )
        check_memory(header.nbytes, f"The array {key!r} of {self.name}, of shape {header.shape},")
        with self._open() as archive:
            if header.nbytes > archive.getinfo(entry).file_size:
                raise _unreadable(self.name, f"{key!r} is cut short")
            with archive.open(entry) as file:
                return np.lib.format.read_array(file, allow_pickle=False)

    @contextmanager
    def _open(self) -> Iterator[zipfile.ZipFile]:
        try:
            with self.path.open("rb") as file:
                if file.read(6) == b"\x93NUMPY":
                    raise UserError(
                        f"{self.name} is a single .npy array: save images and labels with np.savez_compressed."
                    )
            with zipfile.ZipFile(self.path) as archive:
                yield archive
        except (ValueError, SyntaxError) as error:
            raise _unreadable(self.name, str(error)) from error
        # NotImplementedError and RuntimeError: a compression that zipfile does not know, and an encrypted member.
        except (*CUT, KeyError, RuntimeError) as error:
            raise _unreadable(self.name) from error


def _header(archive: zipfile.ZipFile, entry: str) -> Header | None:
    """The header of a member; None for what is no array or of a kind that cannot be an image or a column."""
    with archive.open(entry) as file:
        magic = file.read(len(np.lib.format.MAGIC_PREFIX) + 2)
        if magic[:-2] != np.lib.format.MAGIC_PREFIX or (magic[-2], magic[-1]) not in HEADERS:
            return None
        return _parsed(file, (magic[-2], magic[-1]))


def _parsed(file: IO[bytes], version: tuple[int, int]) -> Header | None:
    try:
        shape, _, dtype = HEADERS[version](file)
    except CUT:
        raise
    except Exception:  # a type that numpy does not know, a header too long to be trusted, or one that is no Python
        return None
    return Header(tuple(int(side) for side in shape), dtype)


def _unreadable(name: str, why: str = "") -> UserError:
    what = f"{name} is not a readable .npz" + (f" ({why})" if why else "")
    return UserError(f"{what}: it may be truncated or corrupt, copy it again.")
