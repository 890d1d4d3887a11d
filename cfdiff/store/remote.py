"""The parts of a run at an URL too, so that machines without a shared folder do shards of it and go on with it.

The folder of parts stays the truth of whoever works: what lies at the URL is copied from there when it is whole and of
this run, and whatever gets whole here is copied back. All files lie in one folder, as many stores know no others, and
nothing is removed there but files of these names.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cfdiff import remote
from cfdiff.errors import UserError
from cfdiff.files import atomic, parse_json, temporary
from cfdiff.progress import Progress
from cfdiff.remote import Store
from cfdiff.store.part_files import PartFiles

SETTINGS = "settings.json"
_RECORDS = re.compile(r"(settings|attributes|command|shard-\d{5,}-of-\d{5,})\.json")
_PIECES = re.compile(r"((round-\d{4,}-[0-9a-f]{32}\.)?part-\d{8,}|joint-[0-9a-f]{32})\.h5")
_DIGEST = hashlib.sha256().digest_size


class RemoteParts:
    """The parts of a run at an URL, or of one of its rounds, whose names begin with `prefix`.

    Attributes:
        name: the URL, for messages.
    """

    def __init__(self, store: Store, prefix: str = "") -> None:
        self.store, self.prefix, self.name = store, prefix, store.name

    @classmethod
    def at(cls, url: str | None) -> RemoteParts | None:
        """That of --remote; None where it is not given. Nothing is asked of the store yet."""
        return None if url is None else cls(Store(url))

    def of_round(self, path: Path) -> RemoteParts:
        """The parts of the round whose file is `path`."""
        return RemoteParts(self.store, f"{path.stem}.")

    def record(self) -> dict[str, Any] | None:
        """What is stated there of the run; None where nothing is, or a copy that was cut short."""
        data = self.store.read(SETTINGS)
        try:
            found = None if data is None else parse_json(data)
        except ValueError:
            return None
        return found if isinstance(found, dict) else None

    def state(self, record: dict[str, Any]) -> None:
        """State what the run is."""
        self.store.write(SETTINGS, (json.dumps(record, indent=1, sort_keys=True) + "\n").encode())

    def fetch_records(self, folder: Path) -> None:
        """Copy what is stated there of the run and of its shards."""
        for name in filter(_RECORDS.fullmatch, self.store.sizes()):
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
            scratch = temporary(path)
            try:
                scratch.write_bytes(content)
                if not whole(scratch):
                    return False
                os.replace(scratch, path)
            finally:
                scratch.unlink(missing_ok=True)
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
        """Copy a file there.

        Raises:
            UserError: it could not be copied, several times; the file stays here.
        """
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
        """Remove what is of a run, the settings last: who is killed meanwhile finds them, and removes the rest."""
        ours = [name for name in self.store.sizes() if _RECORDS.fullmatch(name) or _PIECES.fullmatch(name)]
        self.store.remove(sorted(ours, key=lambda name: name == SETTINGS))


def _signed(path: Path) -> bool:
    """Whether it gets a digest on its way: a finished file has none of its own, as parts do."""
    return path.name.startswith("joint-")


def _content(path: Path) -> bytes:
    data = path.read_bytes()
    return data + hashlib.sha256(data).digest() if _signed(path) else data


def _size(path: Path) -> int:
    return path.stat().st_size + (_DIGEST if _signed(path) else 0)
