"""Files by their names in a table: as many paths as it has rows, none of them made before it is asked for.

A million objects of Path take 400 MB, and a million looks whether each is there take minutes over a net: of many files
the folders are listed instead, each once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import overload

import numpy as np

MANY = 20_000
"""From more files than these on, none is looked at by itself for no other reason than to see what it is."""
_ROWS = 1 << 14
"""Entries that are looked at at once."""
_ODD = tuple(map("".join, product("/\n", ("", ".", ".."), "/\n")))
"""In paths that lie between line ends: a part that is empty, . or .., so that the path has another spelling."""


class Listed(Sequence[Path]):
    """`entries` (N,) str, paths relative to `folder`, as paths."""

    def __init__(self, folder: Path, entries: np.ndarray) -> None:
        self.folder, self.entries = folder, entries

    def __len__(self) -> int:
        return len(self.entries)

    @overload
    def __getitem__(self, place: int) -> Path: ...
    @overload
    def __getitem__(self, place: slice) -> Listed: ...
    def __getitem__(self, place: int | slice) -> Path | Listed:
        if isinstance(place, slice):
            return Listed(self.folder, self.entries[place])
        return self.folder / str(self.entries[place])

    def endings(self) -> dict[str, Path]:
        """Each ending that a file's name has, in small letters and with its point -> one such file."""
        last = {entry.rpartition(".")[2]: entry for some in self._parts() for entry in some}
        return {(path := self.folder / entry).suffix.lower(): path for entry in last.values()}

    def ids(self) -> np.ndarray:
        """(N,) str, each path relative to the folder in one spelling: `a/./b.png` is `a/b.png`."""
        if all(map(_in_one_spelling, self._parts())):
            return self.entries
        return np.array([Path(os.path.relpath(path, self.folder)).as_posix() for path in self])

    def missing(self) -> np.ndarray:
        """(M,) int, the rows whose file is not there, in order; "" names none."""
        if len(self) <= MANY:
            return self._missing_of(range(len(self)))
        folders = {"".join(entry.rpartition("/")[:2]) for some in self._parts() for entry in some}
        # By hashes: a million names take 8 MB. That two share one is as likely as a disk that lies.
        found = np.fromiter((hash(name) for folder in folders for name in _files_in(self.folder, folder)), np.int64)
        named = np.fromiter((hash(entry) for some in self._parts() for entry in some), np.int64, len(self))
        found.sort()
        order = np.argsort(named)  # in order they are looked up near one another
        place = np.searchsorted(found, named[order])
        there = np.append(found, 0)[place] == named[order]
        return self._missing_of(np.sort(order[~(there & (place < len(found)))]))

    def _parts(self) -> Iterator[list[str]]:
        """The entries, some at a time: as objects all of a million take 80 MB."""
        for start in range(0, len(self), _ROWS):
            yield self.entries[start : start + _ROWS].tolist()

    def _missing_of(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Those of `rows` whose file is not there, each looked for."""
        return np.array([row for row in rows if self.entries[row] and not self[row].is_file()], int)


def _in_one_spelling(entries: list[str]) -> bool:
    together = "\n".join(("", *entries, ""))
    return together.count("\n") == len(entries) + 1 and not any(odd in together for odd in _ODD)


def _files_in(root: Path, folder: str) -> Iterator[str]:
    """The files of a folder below `root`, as a table names them; none of one that may not be listed."""
    with suppress(OSError), os.scandir(root / folder) as there:
        for entry in there:
            if entry.is_file():
                yield folder + entry.name


class OneEach(Sequence[tuple[Path, ...]]):
    """The paths of `files`, each alone in a tuple, which is empty where the table names none."""

    def __init__(self, files: Listed) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    @overload
    def __getitem__(self, place: int) -> tuple[Path, ...]: ...
    @overload
    def __getitem__(self, place: slice) -> list[tuple[Path, ...]]: ...
    def __getitem__(self, place: int | slice) -> tuple[Path, ...] | list[tuple[Path, ...]]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        return (self.files[place],) if self.files.entries[place] else ()
