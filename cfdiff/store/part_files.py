"""The part files of one run: what a process needs to know that computes some of them, on whatever machine.

A part says of which run it is and has a digest, so that a damaged one and one of another run count as missing. To write
one asks for no lock: it appears whole under its name, and whoever computes it again writes the same bytes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path

import h5py
import numpy as np

from cfdiff.errors import UserError
from cfdiff.files import atomic
from cfdiff.hdf5 import in_memory
from cfdiff.stopping import whole
from cfdiff.store.schema import RESULT, Layout, check_arrays, create_dataset

Range = tuple[int, int]
"""(first, behind the last) of the images of a part."""
_DIGEST = hashlib.sha256().digest_size


class DamagedPart(UserError):
    """A part from image `start` on that is missing, damaged or of another run when it is needed."""

    def __init__(self, path: Path, start: int, hint: str = "run the command again") -> None:
        super().__init__(f"{path} is damaged, of another run or gone: {hint}.")
        self.path, self.start = path, start


@dataclass(frozen=True)
class PartFiles:
    """Parts of `part_size` of `n` images in `folder`, of the run whose sha256 is `run`; others may be sent it.

    `layout` says which data sets a part may have.
    """

    folder: Path
    run: bytes
    n: int
    part_size: int
    layout: Layout = RESULT

    @property
    def ranges(self) -> list[Range]:
        """The images of every part, in order."""
        return [(start, min(start + self.part_size, self.n)) for start in range(0, self.n, self.part_size)]

    def path(self, start: int) -> Path:
        """Where the part of the images from `start` on lies."""
        return self.folder / f"part-{start:08d}.h5"

    def there(self) -> set[int]:
        """Starts of the parts that lie there by name, whole or not; nothing is read."""
        try:
            names = set(os.listdir(self.folder))
        except FileNotFoundError:
            return set()
        return {start for start, _ in self.ranges if self.path(start).name in names}

    def write(self, start: int, arrays: dict[str, np.ndarray]) -> None:
        """Store the arrays of the images from `start` on (names, types and shapes of the layout).

        Raises:
            ValueError, TypeError: no part starts there, or the arrays are not those of the layout.
            UserError: the folder is gone, or cannot be written.
        """
        count = min(self.part_size, self.n - start)
        if start % self.part_size or count <= 0:
            raise ValueError(f"no part starts at {start} (parts of {self.part_size} images, {self.n} images)")
        checked = check_arrays(arrays, count, self.layout)
        content = in_memory(lambda file: _fill(file, checked, count, self.layout))
        # HDF5 ignores what follows its own end: the run, then what tells a whole part from a damaged one.
        digest = hashlib.sha256(content + self.run).digest()
        with atomic(self.path(start)) as scratch:
            scratch.write_bytes(content + self.run + digest)

    def fill(self, start: int, compute: Callable[[], dict[str, np.ndarray]]) -> None:
        """Compute and store the part from image `start` on, unless it is there whole.

        A process that is told to end does so after it. Raises as `write` does.
        """
        if self.content(start) is None:
            with whole():
                self.write(start, compute())  # no name: one batch alive at a time

    def begin(self, start: int, compute: Callable[[], dict[str, np.ndarray]]) -> Callable[[], None]:
        """Compute the part from image `start` on, unless it is there whole; what is given back stores it.

        That may be done in another thread. Until then the part's arrays are alive. Raises as `write` does.
        """
        if self.content(start) is not None:
            return _nothing
        return partial(self.write, start, compute())

    def content(self, start: int) -> bytes | None:
        """The part's HDF5 file and what follows it, or None if it is missing, damaged or of another run."""
        try:
            data = self.path(start).read_bytes()
        except FileNotFoundError:
            return None
        return data if self.sound(data) else None

    def keep(self, start: int, data: bytes) -> bool:
        """Store the bytes of a part that come from elsewhere; False where they are damaged or of another run."""
        if not self.sound(data):
            return False
        with atomic(self.path(start)) as scratch:
            scratch.write_bytes(data)
        return True

    def sound(self, data: bytes) -> bool:
        """Whether these are the bytes of a part, neither damaged nor of another run."""
        run, digest = data[-2 * _DIGEST : -_DIGEST], data[-_DIGEST:]
        return run == self.run and hashlib.sha256(memoryview(data)[:-_DIGEST]).digest() == digest

    def opened(self, starts: Iterable[int]) -> Iterator[tuple[int, h5py.File]]:
        """Each part as it was when its digest was looked at: another process may write it again meanwhile.

        The next one is read beside the work on one, so two are in memory. A file is closed when the next is asked for.

        Raises:
            DamagedPart: one is missing, damaged or of another run.
        """
        with ThreadPoolExecutor(1, "reader") as reader:
            coming = ((start, reader.submit(self.content, start)) for start in starts)
            one = next(coming, None)
            while one is not None:
                (start, found), one = one, next(coming, None)
                content = found.result()
                if content is None:
                    raise DamagedPart(self.path(start), start)
                with h5py.File(BytesIO(content), "r") as file:  # unlike a file image it is not copied once more
                    yield start, file


def _nothing() -> None:
    """A part that is there needs no more."""


def _fill(file: h5py.File, arrays: dict[str, np.ndarray], count: int, layout: Layout) -> None:
    for name, array in arrays.items():
        create_dataset(file, name, array, count, layout)[:] = _storable(array)


def _storable(array: np.ndarray) -> np.ndarray:
    return array.astype(object) if array.dtype.kind == "U" else array
