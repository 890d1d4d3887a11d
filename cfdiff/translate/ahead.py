"""The images of the next part are read while those of this one are edited.

Only one part is read ahead, in one thread, and one thing is read at a time: readers need not know of threads. What
fails there is forgotten and read again when its turn comes, so that an error is met where it would have been.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from cfdiff.data.source import Reader, Source
from cfdiff.store.part_files import Range


class Ahead:
    """A `Reader` of rows that are known before: `parts`, (B,) each, in the order in which they will be asked for."""

    def __init__(self, reader: Reader, parts: Sequence[np.ndarray], turn: threading.Lock) -> None:
        self._reader, self._parts, self._turn = reader, parts, turn
        self._place = {part.tobytes(): place for place, part in enumerate(parts)}
        self._thread: threading.Thread | None = None
        self._read: tuple[bytes, np.ndarray] | None = None

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """The images or masks of some rows; of other rows than those of a part they are simply read."""
        asked = np.asarray(rows, np.int64).tobytes()
        self.wait()
        read, self._read = self._read, None
        if read is not None and read[0] == asked:
            found = read[1]
        else:
            with self._turn:
                found = self._reader(rows)
        place = self._place.get(asked, len(self._parts)) + 1
        if place < len(self._parts):
            self._thread = threading.Thread(target=self._fetch, args=(self._parts[place],), name="reads ahead")
            self._thread.start()
        return found

    def wait(self) -> None:
        """Until nothing is being read: no library may be left in the middle of a file when the process ends."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _fetch(self, rows: np.ndarray) -> None:
        try:
            with self._turn:
                self._read = rows.tobytes(), self._reader(rows)
        except Exception:  # its turn will come, and the error with it
            self._read = None


@contextmanager
def reading_ahead(source: Source, pieces: Sequence[Range]) -> Iterator[Source]:
    """The same images, for who asks for those of `pieces` in their order."""
    parts, turn = [np.ascontiguousarray(source.rows[start:stop], np.int64) for start, stop in pieces], threading.Lock()
    images = Ahead(source.reader, parts, turn)
    masks = None if source.mask_reader is None else Ahead(source.mask_reader, parts, turn)
    try:
        yield replace(source, reader=images, mask_reader=masks)
    finally:
        for reader in (images, masks):
            if reader is not None:
                reader.wait()
