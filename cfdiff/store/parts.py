"""A run in parts: each finished batch is one file, so that a killed run loses one batch and can be shared.

    with RunParts(out, settings, n, part_size) as parts:
        for start, stop in parts.todo():
            parts.write(start, {...})
        parts.join(attrs)

Any number of processes may run this at once with the same arguments; each comes to the end when the file is
finished. The joined bytes do not depend on who computed what, in which order, or after which interruptions.

Whoever works on a run holds a claim for as long as its RunParts lives, so that `force` sees it; and each part says
of which run it is, so that one of another is computed anew and never joined.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Self

import h5py
import numpy as np

from cfdiff.errors import UserError
from cfdiff.files import atomic, parse_json, sync, temporary
from cfdiff.hdf5 import create, in_memory
from cfdiff.stopping import whole
from cfdiff.store.chunks import append
from cfdiff.store.claims import Claims
from cfdiff.store.output import check_output, parts_dir
from cfdiff.store.result import Result, RunFile, encode_settings, is_result_of, write_attributes
from cfdiff.store.schema import Layout, check_arrays, create_dataset
from cfdiff.version import __version__

POLL = 0.2  # seconds between looks at what other processes have finished
_DIGEST = hashlib.sha256().digest_size


class RunParts:
    """The parts of one run over `n` images, `part_size` a part, in `<out>.parts/`.

    `settings` (JSON values) is everything that the result depends on. Parts that lie there from the same
    settings are used; from other settings they raise a UserError that names what differs, or are thrown away
    with `force`. A finished `out` raises a UserError unless `force`; it is replaced at the very end.

    Attributes:
        kind: what is written: its layout says which data sets there are.
    """

    kind: ClassVar[type[RunFile]] = Result

    def __init__(
        self, out: str | Path, settings: dict[str, Any], n: int, part_size: int, *, force: bool = False
    ) -> None:
        self.out = Path(out)
        self.settings = settings
        self.n = n
        self.part_size = part_size
        self.folder = parts_dir(self.out)
        self.claims = Claims(self.folder)
        self._worker = f"worker-{os.getpid()}-{secrets.token_hex(4)}"
        self._good: set[int] = set()  # starts of the parts that were found whole
        self._record = {
            "settings": json.loads(encode_settings(settings)),
            "images": n,
            "part size": part_size,
            "cfdiff version": __version__,
            "format version": self.kind.layout.version,
        }
        self._run = hashlib.sha256(json.dumps(self._record, sort_keys=True).encode()).digest()
        check_output(self.out, force, resumes=True)
        self.finished = not force and self.joined()
        if self.out.exists() and not force and not self.finished:
            raise UserError(f"{self.out} exists already: choose another --out, or replace it with --force.")
        if self.finished and not self.folder.exists():  # killed later still, or simply given again
            self._bury()
            return
        try:
            self._enter(force)
            # Killed after the join and before the clearing up, or another process has just finished.
            self.finished = not force and self.joined()
            if self.finished:
                self._clear()
        except BaseException:
            self.claims.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.claims.close()

    def missing(self) -> list[tuple[int, int]]:
        """The (start, stop) ranges of images of which no whole part is there, in order."""
        try:
            present = set(os.listdir(self.folder))
        except FileNotFoundError:  # joined, by this process or another
            return []
        return [
            (start, min(start + self.part_size, self.n))
            for start in range(0, self.n, self.part_size)
            if _name(start) not in present or not self._whole(start)
        ]

    def todo(self) -> Iterator[tuple[int, int]]:
        """Claim and yield the missing ranges, one at a time, until none is missing.

        Waits for ranges that other processes have claimed and takes over those of processes that die.
        """
        while pending := self.missing():
            self._require_ours()
            idle = True
            for start, stop in pending:
                if not self.claims.take(_claim(start)):
                    continue
                try:
                    if not self._whole(start):  # or another process finished it between the look and the claim
                        idle = False
                        with whole():
                            yield start, stop
                finally:
                    self.claims.release(_claim(start))
            if idle:
                time.sleep(POLL)

    def write(self, start: int, arrays: dict[str, np.ndarray]) -> None:
        """Store the arrays of the images from `start` on (names, types and shapes of the layout)."""
        count = min(self.part_size, self.n - start)
        if start % self.part_size or count <= 0:
            raise ValueError(f"no part starts at {start} (parts of {self.part_size} images, {self.n} images)")
        checked = check_arrays(arrays, count, self.kind.layout)
        self._require_ours()
        content = in_memory(lambda file: _fill(file, checked, count, self.kind.layout))
        # HDF5 ignores what follows its own end: the run, then what tells a whole part from a damaged one.
        digest = hashlib.sha256(content + self._run).digest()
        try:
            with atomic(self.folder / _name(start)) as scratch:
                scratch.write_bytes(content + self._run + digest)
        except UserError:
            if self.folder.is_dir() or not self.joined():
                raise
            # Another process has finished the run, this part too, and cleared the folder away.
        self._good.add(start)

    def join(self, attrs: dict[str, Any]) -> Path:
        """Make `out` from the parts, in order and one part in memory at a time, and remove them.

        `attrs` are the further root attributes: `seed`, `models` (name -> sha256) and `direction` must be
        among them. Exactly one process joins; the others return when the file is there.
        """
        while self.folder.is_dir():
            if self.claims.take("join"):
                try:
                    self._join(attrs)
                finally:
                    self.claims.release("join")
            else:
                time.sleep(POLL)
        if not self.joined():
            raise UserError(f"{self.folder} was removed while the run was going on: run the command again.")
        self.finished = True
        return self.out

    def _join(self, attrs: dict[str, Any]) -> None:
        self._require_ours()
        if gaps := self.missing():
            raise ValueError(f"{len(gaps)} parts are missing, the first at image {gaps[0][0]}")
        if not self.folder.is_dir():
            return
        # The scratch file lies with the parts, so that nothing unfinished is ever seen beside `out`.
        with atomic(self.out, through=self.folder) as scratch, create(scratch) as file:
            write_attributes(file, self.settings, attrs, self.kind.layout)
            for start in range(0, self.n, self.part_size):
                with self._open_part(start) as part:
                    append(file, part, start, self.n, self.kind.layout)
            file.close()
            self._require_ours()
        self._clear()

    def _open_part(self, start: int) -> h5py.File:
        """The part as it was when its digest was looked at: another process may write it again meanwhile."""
        content = self._content(start)
        if content is None:
            self._good.discard(start)
            raise UserError(f"{self.folder / _name(start)} has changed while it was joined: run the command again.")
        return h5py.File(h5py.h5f.open_file_image(content))

    def _require_ours(self) -> None:
        """Raise UserError where the folder is another run's by now: this process was taken for dead."""
        if self.folder.is_dir() and not self.claims.holds(self._worker):
            raise UserError(f"{self.folder} was taken over while the run was going on: run the command again.")

    def joined(self) -> bool:
        """Whether `out` is the finished file of this very run."""
        return is_result_of(self.out, self.settings, self.n, self.kind)

    def _enter(self, force: bool) -> None:
        """Make the folder and state the settings in it, or find it there with the same ones."""
        record = self.folder / "settings.json"
        while True:
            try:
                self.folder.mkdir(exist_ok=True)
            except OSError as error:
                raise UserError(f"Cannot make {self.folder} ({error.strerror}): choose another --out.") from error
            if not self.claims.take("settings"):
                time.sleep(POLL)
                continue
            try:
                if not self.claims.take(self._worker):  # the folder was cleared away under this process
                    continue
                if not record.exists():
                    with atomic(record) as scratch:
                        scratch.write_text(json.dumps(self._record, indent=1, sort_keys=True) + "\n")
                    return
                if self._same(record, force):
                    return
                self._clear()
            except (UserError, FileNotFoundError):
                if self.claims.holds(self._worker):
                    raise
            finally:
                self.claims.release("settings")

    def _same(self, record: Path, force: bool) -> bool:
        """Whether the parts come from these settings; False if they are others and may be thrown away."""
        try:
            other = parse_json(record.read_text())
        except ValueError:
            other = {}
        if other == self._record:
            return True
        changes = "; ".join(_changes(other, self._record)) if other else "its settings.json is damaged"
        if not force:
            raise UserError(
                f"{self.folder} holds an unfinished run with other settings ({changes}): repeat those to "
                "finish it, start anew with --force, or choose another --out."
            )
        if self.claims.others():
            raise UserError(
                f"Another process is at work in {self.folder} with other settings ({changes}): stop it, "
                "or choose another --out."
            )
        return False

    def _clear(self) -> None:
        """Remove the folder, unless it is another run's by now; for other processes it is gone at one instant."""
        if not self.claims.holds(self._worker):
            return
        with suppress(FileNotFoundError):
            os.rename(self.folder, temporary(self.folder))
            sync(self.out.parent)
        self._bury()

    def _bury(self) -> None:
        """Remove what was cleared away: now, and by one that was killed at this very place."""
        for left in self.out.parent.glob(f"{glob.escape(self.folder.name)}.*.tmp"):
            shutil.rmtree(left, ignore_errors=True)

    def _whole(self, start: int) -> bool:
        """Whether the part is there, undamaged and of this run; each is read once a process."""
        if start not in self._good and self._content(start) is not None:
            self._good.add(start)
        return start in self._good

    def _content(self, start: int) -> bytes | None:
        """The part's HDF5 file, or None if it is missing, damaged or of another run."""
        try:
            data = (self.folder / _name(start)).read_bytes()
        except FileNotFoundError:
            return None
        content, run, digest = data[: -2 * _DIGEST], data[-2 * _DIGEST : -_DIGEST], data[-_DIGEST:]
        whole = run == self._run and hashlib.sha256(data[:-_DIGEST]).digest() == digest
        return content if whole else None


def _name(start: int) -> str:
    return f"part-{start:08d}.h5"


def _fill(file: h5py.File, arrays: dict[str, np.ndarray], count: int, layout: Layout) -> None:
    for name, array in arrays.items():
        create_dataset(file, name, array, count, layout)[:] = _storable(array)


def _claim(start: int) -> str:
    return f"part-{start:08d}"


def _storable(array: np.ndarray) -> np.ndarray:
    return array.astype(object) if array.dtype.kind == "U" else array


def _changes(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Each setting that differs: its dotted name, its value there and its value now."""
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _changes(before, after, "" if key == "settings" and not prefix else f"{prefix}{key}.")
        elif before != after:
            yield f"{prefix}{key} was {json.dumps(before)}, now {json.dumps(after)}"
