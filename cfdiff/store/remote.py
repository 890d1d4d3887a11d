"""The parts of a run at an URL too, so that machines without a shared folder do shards of it and go on with it.

The folder of parts stays the truth of whoever works: what lies at the URL is copied from there when it is whole and of
this run, and whatever gets whole here is copied back. All files lie in one folder, as many stores know no others, and
nothing is removed there but files of these names.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cfdiff import remote
from cfdiff.errors import UserError
from cfdiff.files import atomic, parse_json
from cfdiff.progress import Progress
from cfdiff.remote import Store
from cfdiff.store.part_files import PartFiles
from cfdiff.store.record import SETTINGS, as_text, changes, is_record, other_batch
from cfdiff.store.shards import NEEDED

_MANIFEST = re.compile(r"shard-(\d{5,})-of-(\d{5,})\.json")
_PIECES = re.compile(r"((round-\d{4,}-[0-9a-f]{32}\.)?part-\d{8,}|joint-[0-9a-f]{32})\.h5")
_DIGEST = hashlib.sha256().digest_size


@dataclass
class _Agreed:
    """What this process has agreed on with the others, for the run and its rounds."""

    record: dict[str, Any] | None = None
    folder: Path = Path()
    puts: int = 0


class _NotWholeError(Exception):
    """A file that was fetched is not what it should be."""


class RemoteParts:
    """The parts of a run at an URL, or of one of its rounds, whose names begin with `prefix`.

    Attributes:
        name: the URL, for messages.
    """

    def __init__(self, store: Store, prefix: str = "", agreed: _Agreed | None = None) -> None:
        self.store, self.prefix, self.name = store, prefix, store.name
        self._agreed = agreed or _Agreed()

    @classmethod
    def at(cls, url: str | None) -> RemoteParts | None:
        """That of --remote; None where it is not given. Nothing is asked of the store yet."""
        return None if url is None else cls(Store(url))

    def of_round(self, path: Path) -> RemoteParts:
        """The parts of the round whose file is `path`."""
        return RemoteParts(self.store, f"{path.stem}.", self._agreed)

    def record(self, mine: dict[str, Any] | None = None) -> dict[str, Any] | None:
        """What is stated there of the run; None where nothing is, or `mine` that was cut short on its way.

        Raises:
            UserError: a file of that name lies there that is somebody else's, and stays as it is.
        """
        data = self.store.read(SETTINGS)
        if not data or (mine is not None and data != (whole := as_text(mine).encode()) and whole.startswith(data)):
            return None
        with suppress(ValueError):
            if is_record(found := parse_json(data)):
                return found
        raise UserError(
            f"{self.name} has a {SETTINGS} that states no run of cfdiff, or one that was cut short: give another "
            "--remote, or move that file away."
        )

    def state(self, record: dict[str, Any]) -> None:
        """State what the run is."""
        self.store.write(SETTINGS, as_text(record).encode())

    def agree(self, record: dict[str, Any], folder: Path, force: bool) -> None:
        """State the run there, or find it stated; a round is of a run that has. `folder` has its parts here.

        Raises:
            UserError: another run is stated there, unless `force`, which removes it; or one was at the same moment.
        """
        if self.prefix:
            return
        self._agreed.record, self._agreed.folder = record, folder
        other = self.record(record)
        if other == record:
            return
        if other is not None:
            if not force:
                batch = other_batch(other, record)
                advice = "give another --remote, or start anew there with --force"
                if batch is not None:  # the others are at work on it
                    advice = f"remove {folder}, and give the command again with --batch-size {batch} or none"
                raise UserError(f"{self.name} holds another run ({'; '.join(changes(other, record))}): {advice}.")
            self.clear()
        self.state(record)
        self._require(self.record(record))

    def check(self) -> None:
        """That the run is still stated there as it was agreed on.

        There are no locks at an URL. Of two machines that find nothing there and state a run each, one may do so after
        the other has read its own; then only a second look shows that to the other.

        Raises:
            UserError: another is.
        """
        record = self._agreed.record
        if record is None:
            return
        other = self.record(record)
        self._require(other)
        if other is None:  # cut short, or cleared by a join of shards that were done twice
            self.state(record)

    def _require(self, other: dict[str, Any] | None) -> None:
        if other not in (None, self._agreed.record):  # of another batch size, if two machines found one at once
            raise UserError(
                f"Another machine began this run at {self.name} at the same moment: remove {self._agreed.folder}, and "
                "give the command again."
            )

    def at_rest(self, parts: Sequence[str]) -> bool:
        """Whether no shard can be at work on the run: all of an array have left their manifests, or all of its `parts`
        lie there, or no piece does; so it is too where who cleared it was killed (see `clear`)."""
        there = self.store.sizes()
        shards = {(int(found[1]), int(found[2])) for name in there if (found := _MANIFEST.fullmatch(name))}
        of = max((of for _, of in shards), default=0)
        if of and all((number, of) in shards for number in range(1, of + 1)):
            return True
        return (bool(parts) and there.keys() >= set(parts)) or not any(map(_PIECES.fullmatch, there))

    def clear_made(self, record: dict[str, Any], out: Path) -> None:
        """Remove the run of which `out` is made by now, and no other; what is of a round goes with its run."""
        if self.prefix:
            return
        try:
            if self.record(record) == record:
                self.clear()
        except UserError as error:
            raise UserError(f"{out} is made, but its parts at the remote are still there, as {error}") from None

    def fetch_records(self, folder: Path) -> None:
        """Copy what is stated there of the run and of its shards."""
        for name in filter(_is_record_file, self.store.sizes()):
            if (data := self.store.read(name)) is not None:
                with atomic(folder / name) as scratch:
                    scratch.write_bytes(data)

    def sizes(self) -> dict[str, int]:
        """Name -> bytes of what lies there, of a round by its names here."""
        there = self.store.sizes().items()
        return {name.removeprefix(self.prefix): size for name, size in there if name.startswith(self.prefix)}

    def fetch(self, files: PartFiles, starts: Iterable[int], progress: Progress) -> set[int]:
        """Copy parts that lie there, whole and of this run; their starts."""
        there = self.sizes()
        wanted = [start for start in starts if files.path(start).name in there]
        got = set()
        for done, start in enumerate(wanted):
            progress("fetching parts", done, len(wanted))
            if self._take(files.path(start).name, partial(files.keep, start)):
                got.add(start)
        return got

    def fetch_file(self, path: Path, whole: Callable[[Path], bool]) -> bool:
        """Copy a finished file of the run from there; False where it is not there, or not `whole`."""

        def keep(data: bytes) -> bool:
            content, digest = data[:-_DIGEST], data[-_DIGEST:]
            if hashlib.sha256(content).digest() != digest:
                return False
            try:
                with atomic(path) as scratch:
                    scratch.write_bytes(content)
                    if not whole(scratch):
                        raise _NotWholeError
            except _NotWholeError:
                return False
            return True

        return self._take(path.name, keep)

    def _take(self, name: str, keep: Callable[[bytes], bool]) -> bool:
        """Read a file until `keep` takes it. What it does not take the second time either is removed there, so that who
        has it whole, and looks only at names and sizes, copies it anew."""
        for _ in range(2):
            data = self.store.read(self.prefix + name)
            if data is None:
                return False
            if keep(data):
                return True
        self.store.remove([self.prefix + name])
        return False

    def put(self, path: Path) -> None:
        """Copy a file there. Before the first, second, fourth, eighth ... it looks whether the run is still the one.

        Raises:
            UserError: it could not be copied, several times, or another run is there by now; the file stays here.
        """
        self._agreed.puts += 1
        if self._agreed.puts & (self._agreed.puts - 1) == 0:
            self.check()
        try:
            self.store.write(self.prefix + path.name, _content(path))
        except UserError as error:
            why = str(error).rstrip(".")
            raise UserError(f"{why}; {path.name} stays in {path.parent}, and the same command again goes on.") from None

    def put_all(self, paths: Sequence[Path]) -> None:
        """Copy those files that do not lie there by name and size, until all do.

        Raises:
            UserError: they do not, several times.
        """
        pause = remote.PAUSE
        for attempt in range(remote.TRIES):
            there = self.sizes()
            lacking = [path for path in paths if there.get(path.name) != _size(path)]
            if not lacking:
                return
            if attempt:
                time.sleep(pause)
                pause *= 2
            for path in lacking:
                self.put(path)
        raise UserError(
            f"{self.name} does not list {lacking[0].name}, which was written there: look at the store; the same "
            "command again goes on."
        )

    def clear(self) -> None:
        """Remove what is of a run: the pieces, then what shards have left, the settings last. Who is killed meanwhile
        finds them, and removes the rest."""
        there = self.store.sizes()
        ours = [name for name in there if _is_record_file(name) or _PIECES.fullmatch(name)]
        self.store.remove(sorted(ours, key=lambda name: (name == SETTINGS, _is_record_file(name))))


def _is_record_file(name: str) -> bool:
    return name in (SETTINGS, *NEEDED) or _MANIFEST.fullmatch(name) is not None


def _signed(path: Path) -> bool:
    """Whether it gets a digest on its way: a finished file has none of its own, as parts do."""
    return path.name.startswith("joint-")


def _content(path: Path) -> bytes:
    data = path.read_bytes()
    return data + hashlib.sha256(data).digest() if _signed(path) else data


def _size(path: Path) -> int:
    return path.stat().st_size + (_DIGEST if _signed(path) else 0)
