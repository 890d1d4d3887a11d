"""A run in parts: each finished batch is one file, so that a killed run loses the batch at work and can be shared.

    with RunParts(out, settings, n, part_size) as run:
        for start, stop in run.todo():
            run.write(start, {...})
        run.join(attrs)

One process owns a run. It may have others compute parts, which it sends `run.files`; or many own a shard of it each, on
whatever machines, and another joins them. The joined bytes do not depend on who computed what, in which order, or after
which interruptions: the parts are the truth, and one of another run is computed anew and never joined.
"""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from cfdiff.errors import UserError
from cfdiff.files import atomic, sync, temporary
from cfdiff.hdf5 import create, open_to_read
from cfdiff.progress import Progress, silent
from cfdiff.shard import Shard
from cfdiff.stopping import whole
from cfdiff.store.chunks import append
from cfdiff.store.output import check_output, parts_dir
from cfdiff.store.owner import Lock
from cfdiff.store.part_files import PartFiles, Range
from cfdiff.store.record import BATCH, SETTINGS, as_text, changes, other_batch, read_settings, record_of, run_digest
from cfdiff.store.remote import RemoteParts
from cfdiff.store.result import Result, RunFile, is_result_of, write_attributes
from cfdiff.store.shards import NEEDED, write_manifest
from cfdiff.store.volumes import FORMAT as VOLUME
from cfdiff.store.volumes import NAMED, OF, Volume, cut, in_volumes, put_together, remove_others

_POLL = 0.1  # seconds between looks at a folder that another shard clears
_PATIENCE = 10.0  # seconds in which a shard with --force has cleared a folder


class RunParts:
    """The parts of one run over `n` images, `part_size` a part, in `<out>.parts/`, owned while this object lives.

    `settings` (JSON values) is everything that the result depends on. Parts that lie there from the same
    settings are used; from other settings they raise a UserError that names what differs, or are thrown away
    with `force`. A finished `out` raises a UserError unless `force`; it is replaced at the very end. With a `shard`
    other shards may be at work beside this one, and this one sees its own parts only. `patience` is for how many
    seconds to wait for an owner that is about to end. Parts that lie at `remote` are taken from there and those that
    get whole here are copied there; where it holds another run, it is as for a folder that does.

    `adopts`: the batch size of the settings was found and not asked for, so where the folder states the same run of
    another, that one is taken: shards on different machines find different ones at once.

    Attributes:
        kind: what is written: its layout says which data sets there are.
        settings, part_size: as given, or with the batch size that was taken.

    Raises:
        UserError: another process owns the run or this shard of it, or `out` cannot be written.
    """

    kind: ClassVar[type[RunFile]] = Result

    def __init__(
        self,
        out: str | Path,
        settings: dict[str, Any],
        n: int,
        part_size: int,
        *,
        force: bool = False,
        shard: Shard | None = None,
        patience: float = 0.0,
        remote: RemoteParts | None = None,
        adopts: bool = False,
    ) -> None:
        self.out = Path(out)
        self.remote = remote
        self.n = n
        self.shard = shard
        self.adopts = adopts
        self.folder = parts_dir(self.out)
        self._lock = Lock(self.folder)
        self._shard_lock = None if shard is None else Lock(self.folder, f"shard-{shard.number}-of-{shard.of}")
        self._good: set[int] = set()  # starts of the parts that were found whole
        self._be(settings, part_size)
        check_output(self.out, force, resumes=True)
        self.finished = not force and self.joined()
        if self.out.exists() and not force and not self.finished:
            raise UserError(f"{self.out} exists already: choose another --out, or replace it with --force.")
        if self.finished and (shard is not None or not self.folder.exists()):
            self._bury()  # killed later still, or simply given again; a folder that lies there is for who joins
            if shard is None:
                self._clear_remote()
            return
        try:
            self._enter(force, _PATIENCE if shard is not None else patience)
            # Killed after the join and before the clearing up.
            self.finished = shard is None and not force and self.joined()
            if self.finished:
                self._clear()
                self._clear_remote()
            elif self.remote is not None:
                self.remote.agree(self._record, self.folder, force)
        except BaseException:
            self.close()
            raise

    def _be(self, settings: dict[str, Any], part_size: int) -> None:
        self.settings, self.part_size, layout = settings, part_size, self.kind.layout
        self._record = record_of(settings, self.n, part_size, layout)
        self.files = PartFiles(self.folder, run_digest(self._record), self.n, part_size, layout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the run up, so that another process may go on with it."""
        for lock in (self._shard_lock, self._lock):
            if lock is not None:
                lock.release()

    @property
    def ranges(self) -> list[Range]:
        """The images of every part of this run, or of its shard, in order."""
        return self.files.ranges if self.shard is None else self.shard.share(self.files.ranges)

    def missing(self, progress: Progress = silent) -> list[Range]:
        """The (start, stop) ranges of images of which no whole part is there, in order; each part is read once.

        Those that lie at the remote are brought here before.
        """
        if self.finished:
            return []
        there = self.files.there()
        gaps = [(start, stop) for start, stop in self.ranges if start not in there or not self._whole(start)]
        if self.remote is not None and gaps:
            got = self.remote.fetch(self.files, [start for start, _ in gaps], progress)
            self._good |= got
            gaps = [(start, stop) for start, stop in gaps if start not in got]
        return gaps

    def there(self) -> set[int]:
        """Starts of the parts that lie here or at the remote by name, whole or not."""
        found = self.files.there()
        if self.remote is not None:
            names = self.remote.sizes()
            found |= {start for start, _ in self.files.ranges if self.files.path(start).name in names}
        return found

    def push(self) -> None:
        """Have all parts that are known to be whole, of this run or its shard, at the remote as well.

        Raises:
            UserError: they could not be copied; they stay here.
        """
        if self.remote is not None and not self.finished:
            self.remote.put_all([self.files.path(start) for start, _ in self.ranges if start in self._good])

    def todo(self) -> Iterator[Range]:
        """The missing ranges, while the run is this process's."""
        for piece in self.missing():
            self._require_ours()
            with whole():
                yield piece

    def write(self, start: int, arrays: dict[str, np.ndarray]) -> None:
        """Store the arrays of the images from `start` on (names, types and shapes of the layout)."""
        self._require_ours()
        self.files.write(start, arrays)
        self._note(start)

    def wrote(self, start: int, patience: float = 60.0) -> None:
        """Take note of a part that another process says it has written; copy it to the remote.

        Raises:
            UserError: it does not lie here, `patience` seconds later (a folder on the net may be late); or it cannot be
                copied.
        """
        self._require_ours()
        wait_for(self.files.path(start), patience)
        self._note(start)

    def _note(self, start: int) -> None:
        self._good.add(start)
        if self.remote is not None:
            self.remote.put(self.files.path(start))

    def trust(self) -> None:
        """Take the parts that lie there for whole without reading them: a join looks at each as it copies it."""
        self._good |= self.files.there()

    def finish_shard(self) -> Path:
        """State that the shard's parts are all there; the file that says so."""
        assert self.shard is not None
        if gaps := self.missing():
            raise ValueError(f"{len(gaps)} parts are missing, the first at image {gaps[0][0]}")
        self.push()
        return self._manifest([self.files.path(start).name for start, _ in self.ranges])

    def _manifest(self, pieces: Sequence[str]) -> Path:
        """State here and at the remote that the shard is finished, and what a join needs of it."""
        assert self.shard is not None
        self._require_ours()
        if self.remote is not None:
            self.remote.check()
        path = write_manifest(self.folder, self.shard, pieces)
        if self.remote is not None:
            told = [self.folder / name for name in NEEDED]
            for one in [*filter(Path.exists, told), path]:
                self.remote.put(one)
        return path

    def join(self, attrs: dict[str, Any], volume: int | None = None) -> Path:
        """Make `out` from the parts, in order and two parts in memory at a time, and remove them.

        `attrs` are the further root attributes: `seed`, `models` (name -> sha256) and `direction` must be
        among them. Of more than `volume` images the pixels lie in further files beside `out` (`volumes.py`).
        """
        if not self.finished:
            self._join(attrs, volume)
        if not self.joined():
            raise UserError(f"{self.out} was replaced while the run was going on: run the command again.")
        self.finished = True
        return self.out

    def _join(self, attrs: dict[str, Any], volume: int | None) -> None:
        self._require_ours()
        if gaps := self.missing():
            raise ValueError(f"{len(gaps)} parts are missing, the first at image {gaps[0][0]}")
        join_parts(self.files, self.out, self.settings, attrs, self._require_ours, volume)
        self._clear()
        self._clear_remote()

    def _require_ours(self) -> None:
        """Raise UserError where the folder is gone or another run's by now: somebody removed it under this process."""
        if not self.finished and not self._lock.holds():
            raise UserError(f"{self.folder} was removed while the run was going on: run the command again.")

    def joined(self) -> bool:
        """Whether `out` is the finished file of this very run."""
        return is_result_of(self.out, self.settings, self.n, self.kind)

    def _enter(self, force: bool, patience: float) -> None:
        """Own the folder, or a shard of it, and state the settings in it, or find them there to be the same."""
        record = self.folder / SETTINGS
        late = time.monotonic() + patience
        while True:
            try:
                self.folder.mkdir(exist_ok=True)
            except OSError as error:
                raise UserError(f"Cannot make {self.folder} ({error.strerror}): choose another --out.") from error
            if not self._lock.take(shared=self.shard is not None):
                if self.folder.is_dir() and time.monotonic() >= late:
                    raise self._refused(self._lock)
                time.sleep(_POLL)
                continue
            self._state(record)
            if self._same(record, force):
                break
            self._lock.release()  # only alone may it be cleared
            if not self._lock.take():
                raise UserError(
                    f"Another process is at work in {self.folder} with other settings ({self._differences(record)}): "
                    "stop it, or choose another --out."
                )
            if not self._same(record, force=True):
                self._clear()
            self._lock.release()
        if self._shard_lock is not None and not self._shard_lock.take():
            raise self._refused(self._shard_lock)

    def _clear_remote(self) -> None:
        if self.remote is not None:
            self.remote.clear_made(self._record, self.out)

    def _refused(self, lock: Lock) -> UserError:
        who = f" ({owner})" if (owner := lock.owner()) else ""
        what = "the same shard of " if lock is self._shard_lock else ""
        return UserError(
            f"Another process{who} is at work on {what}{self.out}: wait until it has ended, stop it, or choose another "
            "--out (--workers and --shard share a run)."
        )

    def _state(self, record: Path) -> None:
        """State the settings where none are stated; of shards that do so at once the first has its way."""
        if not record.exists():
            if self.adopts and self.remote is not None:
                self._adopt(self.remote.record(self._record))
            with atomic(record, first=True) as scratch:
                scratch.write_text(as_text(self._record))

    def _same(self, record: Path, force: bool) -> bool:
        """Whether the parts come from these settings; False if they are others and may be thrown away."""
        stated = read_settings(record)
        if self.adopts:
            self._adopt(stated)
        if stated == self._record:
            return True
        if not force:
            raise UserError(
                f"{self.folder} holds an unfinished run with other settings ({self._differences(record)}): repeat "
                "those to finish it, start anew with --force, or choose another --out."
            )
        return False

    def _adopt(self, stated: dict[str, Any] | None) -> None:
        """Take the batch size of a stated record that says the same of everything else."""
        if stated is not None and (number := other_batch(stated, self._record)) is not None:
            self._be({**self.settings, BATCH: number}, stated["part size"])

    def _differences(self, record: Path) -> str:
        other = read_settings(record)
        return "; ".join(changes(other, self._record)) if other else f"its {SETTINGS} is damaged"

    def _clear(self) -> None:
        """Remove the folder, unless it is another run's by now; for other processes it is gone at one instant."""
        if not self._lock.holds():
            return
        with suppress(FileNotFoundError):
            os.rename(self.folder, temporary(self.folder))
            sync(self.out.parent)
        self._bury()

    def _bury(self) -> None:
        """Remove what was cleared away, now, and by one that was killed at this very place; and volumes of others."""
        for left in self.out.parent.glob(f"{glob.escape(self.folder.name)}.*.tmp"):
            shutil.rmtree(left, ignore_errors=True)
        remove_others(self.out)

    def _whole(self, start: int) -> bool:
        """Whether the part is there, undamaged and of this run; each is read once a process."""
        if start not in self._good and self.files.content(start) is not None:
            self._good.add(start)
        return start in self._good


def wait_for(path: Path, patience: float = 60.0) -> None:
    """Wait for a file that another process says it has written; UserError where it is not here then."""
    late = time.monotonic() + patience
    while not path.exists():
        os.listdir(path.parent)  # what makes a client of NFS ask its server again
        if time.monotonic() > late:
            raise UserError(
                f"A worker wrote {path} and it is not here: give an --out on storage that all machines share."
            )
        time.sleep(_POLL)


def join_parts(
    files: PartFiles,
    out: Path,
    settings: dict[str, Any],
    attrs: dict[str, Any],
    still_ours: Callable[[], None],
    volume: int | None = None,
) -> None:
    """Make `out` of all parts, two in memory at a time; `still_ours` may refuse before it takes its place. Volumes take
    theirs before it, under names that no other result has."""
    volumes = [] if volume is None or files.n <= volume else cut(out, files.n, volume, _volumes_of(files, volume))
    for part in volumes:
        _write_volume(files, out.with_name(part.name), part)
    # The scratch file lies with the parts, so that nothing unfinished is ever seen beside `out`.
    with atomic(out, through=files.folder) as scratch, create(scratch) as file:
        named = {NAMED: [[part.name, part.last - part.first] for part in volumes], OF: files.run.hex()}
        write_attributes(file, settings, {**attrs, **(named if volumes else {})}, files.layout)
        if volumes:
            with open_to_read(out.with_name(volumes[0].name), volumes[0].name, "run the command again") as first:
                put_together(file, first, volumes, files.layout)
        for start, piece in files.opened(start for start, _ in files.ranges):
            append(file, piece, start, files.n, files.layout, lambda field: not (volumes and in_volumes(field)))
        file.close()
        still_ours()


def _volumes_of(files: PartFiles, volume: int) -> str:
    """What keeps the volumes of one run, cut one way, apart from all others."""
    return hashlib.sha256(files.run + str(volume).encode()).hexdigest()


def _write_volume(files: PartFiles, path: Path, volume: Volume) -> None:
    """The images of the rows of one volume."""
    with atomic(path, through=files.folder) as scratch, create(scratch) as file:
        file.attrs.update({"format": VOLUME, OF: files.run.hex()})
        within = [start for start, stop in files.ranges if start < volume.last and volume.first < stop]
        for start, part in files.opened(within):
            rows = volume.last - volume.first
            append(file, part, start - volume.first, rows, files.layout, in_volumes)
