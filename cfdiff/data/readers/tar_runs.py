"""Runs of plain headers in a .tar, many at a time: what a million images are mostly found by.

A header is plain where it is of ustar or GNU, its name and size stand in it in the usual way, and it is of a file or a
folder, or a header of pax that says no more than when the file was changed (what WebDataset writes). The first header
that is not ends a run: `tar_index` goes on from there with care.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

BLOCK = 512
WINDOW = 4 << 20
"""Bytes that are read at once: few enough to stay near the processor while they are looked at."""
APART = 8 << 10
"""Bytes from header to header above which only the headers are read."""
FEW = 32
"""A run of fewer is not worth its window: whoever gets one had better go on one by one for a while."""
_OCTAL = 8.0 ** np.arange(10, -1, -1)  # exact: 8^11 is far below 2^53
_FILE, _NO_FILE, _SPARE = (np.isin(np.arange(256), list(of)) for of in (b"\x0007", b"3456", b"\0 "))
_PAX = ord("x")


class Run(NamedTuple):
    """N files of which one follows another in an archive.

    Attributes:
        blocks: (B, 512) uint8, what was read; another run takes its place.
        heads: (N,) int64, the rows of `blocks` with the headers; the row behind holds the first bytes of the file.
        bodies: (N,) int64, where the bytes of each file start in the archive.
        sizes: (N,) int64, how many there are.
    """

    blocks: np.ndarray
    heads: np.ndarray
    bodies: np.ndarray
    sizes: np.ndarray

    def member(self, i: int) -> tuple[str, int, int, bytes]:
        """One of the files, as `tar_index.members` has it."""
        head, size = int(self.heads[i]), int(self.sizes[i])
        name = text(self.blocks[head, :100].tobytes()).removeprefix("./")
        return name, int(self.bodies[i]), size, self.blocks[head + 1, :size].tobytes()

    def members(self) -> Iterator[tuple[str, int, int, bytes]]:
        """The files one by one."""
        return map(self.member, range(len(self.heads)))


class Runs:
    """Finds runs in one open archive of `end` bytes."""

    def __init__(self, file: int, end: int) -> None:
        self._file, self._end = file, end
        self._buffer = bytearray(WINDOW)
        self._blocks = np.frombuffer(self._buffer, np.uint8).reshape(-1, BLOCK)
        self._apart = False

    @property
    def worth(self) -> int:
        """Bytes to go on one by one before the next run is looked for, where one was short."""
        return WINDOW // (2 * BLOCK) * APART if self._apart else WINDOW

    def at(self, place: int) -> tuple[Run, int, int]:
        """The run from a header at `place` on, the place behind it, and how many headers it took."""
        rows, starts = (self._some_apart if self._apart else self._all_near)(place)
        sizes, kinds, plain = _looked_at(self._blocks, rows, starts, self._end)
        ends = starts + BLOCK + -(-sizes // BLOCK) * BLOCK
        chain = _chain(place, starts, ends, plain)
        if not len(chain):
            self._apart = False
            return Run(self._blocks, chain, chain, chain), place, 0
        behind = int(ends[chain[-1]])
        self._apart = behind - place > len(chain) * APART
        files = chain[_FILE[kinds[chain]]]
        return Run(self._blocks, rows[files], starts[files] + BLOCK, sizes[files]), behind, len(chain)

    def _all_near(self, place: int) -> tuple[np.ndarray, np.ndarray]:
        """What looks like a header in one window: rows (K,) of its blocks, and their places in the archive."""
        read = os.preadv(self._file, [self._buffer], place) // BLOCK
        words = self._blocks[:read].view("<u4")
        marked = (words[:, 64] >> 8 == 0x747375) & (words[:, 65] & 0xFFFF == 0x7261)  # "ustar" from byte 257 on
        rows = np.flatnonzero(marked[:-1])  # the block behind is to be there too
        return rows, place + rows * BLOCK

    def _some_apart(self, place: int) -> tuple[np.ndarray, np.ndarray]:
        """The same of headers that lie far apart, each of which says where the next one is."""
        starts, view = list[int](), memoryview(self._buffer)
        for at in range(0, WINDOW, 2 * BLOCK):
            if os.preadv(self._file, [view[at : at + 2 * BLOCK]], place) < 2 * BLOCK:
                break
            try:
                size = int(self._buffer[at + 124 : at + 135], 8)
            except ValueError:
                break
            starts.append(place)
            place += BLOCK + -(-size // BLOCK) * BLOCK
        rows = np.arange(len(starts)) * 2
        words = self._blocks[rows].view("<u4")
        marked = (words[:, 64] >> 8 == 0x747375) & (words[:, 65] & 0xFFFF == 0x7261)
        good = len(rows) if marked.all() else int(marked.argmin())
        return rows[:good], np.array(starts[:good], np.int64)


def text(field: bytes) -> str:
    """A name in a header: up to the first NUL."""
    return field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _looked_at(
    blocks: np.ndarray, rows: np.ndarray, starts: np.ndarray, end: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of headers: sizes (K,) int64, kinds (K,) uint8, and (K,) whether each is plain and its file whole."""
    digits = blocks[rows, 124:136]
    values = digits[:, :11] - 0x30  # wraps below 0, and is then more than 7 too
    sizes = (values @ _OCTAL).astype(np.int64)
    kinds = blocks[rows, 156]
    plain = (values < 8).all(1) & _SPARE[digits[:, 11]] & (starts + BLOCK + sizes <= end)
    # A prefix of ustar is put before the name; in GNU's headers other things stand there.
    named = (blocks[rows, 345] == 0) | (blocks[rows, 262] != 0)
    known = named & (_FILE | _NO_FILE)[kinds]
    if (pax := np.flatnonzero(kinds == _PAX)).size:
        known[pax] = _says_only_when(blocks[rows[pax] + 1], sizes[pax])
    return sizes, kinds, plain & known


def _says_only_when(bodies: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Whether each header of pax (K, 512) is one record "LENGTH mtime=SECONDS\\n" of two digits of length."""
    tens, ones = bodies[:, 0] - 0x30, bodies[:, 1] - 0x30
    length = tens.astype(np.int64) * 10 + ones
    right = (tens < 10) & (ones < 10) & (length == sizes) & (length > 9)
    right &= (bodies[:, 2:9] == np.frombuffer(b" mtime=", np.uint8)).all(1) & ((bodies == 0x0A).sum(1) == 1)
    return right & (bodies[np.arange(len(bodies)), np.where(right, length - 1, 0)] == 0x0A)


def _chain(place: int, starts: np.ndarray, ends: np.ndarray, plain: np.ndarray) -> np.ndarray:
    """Which (N,) headers are plain and start where the one before ends, the first at `place`.

    What only looks like a header lies within a file (an archive in an archive), and is jumped over.
    """
    at, found = int(np.searchsorted(starts, place)), [np.empty(0, np.int64)]
    stops = np.flatnonzero(~plain | (np.append(starts[1:], -1) != ends))
    while at < len(starts) and starts[at] == place and plain[at]:
        last = int(stops[np.searchsorted(stops, at)])
        found.append(np.arange(at, last + bool(plain[last])))
        if not plain[last]:
            break
        place = int(ends[last])
        at = int(np.searchsorted(starts, place))
    return np.concatenate(found)
