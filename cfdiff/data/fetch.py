"""Data at an URL: copied once into a folder of this machine, whole or not at all, and read there as any local data.

    CFDIFF_CACHE / (what the store says of every file, hashed) / cells.h5

What the store says of a file is its size and the sums, versions and times that it has of it. So an object that changed
is fetched anew, and who reads the old copy still does.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from cfdiff.data.readers.table import read_columns
from cfdiff.errors import UserError
from cfdiff.files import temporary
from cfdiff.progress import logged
from cfdiff.remote import Store

CACHE = "CFDIFF_CACHE"
"""The environment variable that names the folder."""
_MARKS = frozenset(
    {
        *("etag", "md5", "md5hash", "content_md5", "content-md5", "digest", "checksum", "crc", "crc32c", "sha", "oid"),
        *("blob_id", "generation", "version_id", "versionid", "mtime", "modify", "modified", "lastmodified"),
        *("last_modified", "last-modified", "updated", "created", "date_time"),
    }
)
"""What file systems say of a file that another one of its name has not, folded."""
_AT_ONCE, _BYTES_AT_ONCE = 64, 2**25


class Wanted(NamedTuple):
    """A file of a store: its path there, its bytes (None: not said), and what tells it from another of its name."""

    path: str
    size: int | None
    mark: str


def fetched(url: str) -> Path:
    """The copy on this machine of the file or folder at an URL; of a .csv also of the files that it lists.

    Raises:
        UserError: it cannot be fetched, in one sentence; nothing half fetched is ever read.
    """
    store = Store(url)
    inside, files = _wanted(store)
    place = _copy(store, files, lambda: _wanted(store)[1])
    if not inside.lower().endswith(".csv"):
        return place / inside
    inside, files = _listed(store, place / inside)
    return _copy(store, files, lambda: _listed(store, place / Path(inside).name)[1]) / inside


def _wanted(store: Store) -> tuple[str, dict[str, Wanted]]:
    """The path of the data below its copy, and that of every file -> the file."""
    alone, infos = store.infos()
    base = _plain(store).rpartition("/")[2] or "data"
    if alone:
        return base, {_safe(base, store): _of(store, store.root, infos[store.root])}
    within = {path: path[len(store.root) :].strip("/") for path in infos if not path.endswith("/")}
    if not within:
        raise store.nothing()
    return base, {_safe(f"{base}/{name}", store): _of(store, path, infos[path]) for path, name in within.items()}


def _listed(store: Store, table: Path) -> tuple[str, dict[str, Wanted]]:
    """The same of a .csv, whose copy is `table`, with the images and masks that it lists and the store has.

    A name with .. is of a folder beside: as many folders as it takes come above the copy of the .csv. What is no
    relative path, and what is not there, is left to the reader, who says it with its row.
    """
    columns = read_columns(table, store.name)
    said = {str(name) for key in ("path", "mask") if key in columns for name in columns[key].tolist()}
    folders = _plain(store).split("/")[:-1]
    found: dict[str, str] = {}
    most = 0
    for name in said:
        up, below = _resolve(name)
        if below and up < len(folders):
            found[name] = "/".join([*folders[: len(folders) - up], *below])
            most = max(most, up)
    base = folders[len(folders) - most :]
    infos = _infos(store, set(found.values()))
    inside = "/".join([*base, table.name])
    files = {_safe(inside, store): _of(store, store.root, store.infos()[1][store.root])}
    for name, path in found.items():
        if path in infos:
            up, below = _resolve(name)
            local = "/".join([*base[: len(base) - up], *below])
            files[_safe(local, store)] = _of(store, path, infos[path])
    return inside, files


def _plain(store: Store) -> str:
    """The path without the query of a web address."""
    return str(store.root.partition("?")[0])


def _resolve(name: str) -> tuple[int, list[str]]:
    """How many folders up a relative path goes, and what follows; nothing follows where it is none."""
    up, below = 0, list[str]()
    for part in [] if name.startswith("/") or "://" in name else name.split("/"):
        if part == "..":
            if below:
                below.pop()
            else:
                up += 1
        elif part not in ("", "."):
            below.append(part)
    return up, below


def _infos(store: Store, paths: set[str]) -> dict[str, Mapping[str, Any]]:
    """What the store says of those of some files that are there: a list of their folder, as to ask for each is slow."""
    parts = [path.split("/")[:-1] for path in paths]
    same = os.path.commonprefix(parts) if parts else []

    def look() -> dict[str, Mapping[str, Any]]:
        return {path: info for path, info in store.fs.find("/".join(same), detail=True).items() if path in paths}

    def ask(path: str) -> Mapping[str, Any] | None:
        try:
            return store.tried("read", lambda: store.fs.info(path))
        except FileNotFoundError:
            return None

    try:
        found = store.tried("listed", look) if same and not store.root.startswith("http") else {}
    except FileNotFoundError:
        found = {}
    asked = {path: ask(path) for path in paths - found.keys()}  # servers of web pages have no lists
    return found | {path: info for path, info in asked.items() if info is not None and info["type"] == "file"}


def _of(store: Store, path: str, info: Mapping[str, Any]) -> Wanted:
    marks = {key.lower(): str(value) for key, value in info.items() if key.lower() in _MARKS and value}
    if not marks:
        marks = {"ukey": str(store.tried("read", lambda: store.fs.ukey(path)))}
    size = info.get("size")
    return Wanted(path, None if size is None else int(size), json.dumps(marks, sort_keys=True))


def _safe(name: str, store: Store) -> str:
    """A path below the copy; UserError for one that would leave it, as names in a store may be anything."""
    if any(part in ("", ".", "..") or "\0" in part for part in name.split("/")):
        raise UserError(f"{store.name} has a file {name!r}, which can be no path of a file here: rename it.")
    return name


def cache_folder() -> Path:
    """Where copies lie."""
    if told := os.environ.get(CACHE):
        return Path(told)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cfdiff"


def _copy(store: Store, files: dict[str, Wanted], look: Callable[[], dict[str, Wanted]]) -> Path:
    """The folder with the copies of files, which is made where there is none; `look` is asked whether they changed."""
    told = [store.name, store.root, sorted(files.items())]
    place = cache_folder() / hashlib.sha256(json.dumps(told).encode("utf-8", "surrogateescape")).hexdigest()[:32]
    if place.is_dir():
        return place
    begun = place.with_name(f"{place.name}.partial")
    try:
        begun.mkdir(parents=True, exist_ok=True)
        with _scratch(begun) as scratch:
            left = {begun / name: file for name, file in files.items() if not _there(begun / name, file.size)}
            _check_room(begun, left, store)
            _fetch(store, left, scratch)
            if look() != files:
                raise UserError(f"{store.name} was changed while it was fetched: give the command again.")
        _remove_others(begun, {begun / name for name in files})
        os.sync()  # once, and not for each of perhaps many files: what has the final name is on the disk
        os.rename(begun, place)
    except (OSError, UserError) as error:
        if place.is_dir():  # another process had the same to fetch
            shutil.rmtree(begun, ignore_errors=True)
        elif isinstance(error, UserError):
            raise
        else:
            raise UserError(
                f"Cannot keep {store.name} in {place.parent} ({error.strerror or error}): make room, or name another "
                f"folder in the environment variable {CACHE}."
            ) from error
    return place


@contextmanager
def _scratch(begun: Path) -> Iterator[Path]:
    """A folder for what this process is about to fetch, beside `begun`, into which a file comes when it is whole.

    So processes may fetch the same at once, and the next one goes on where one was killed: with the file that it was
    at. What a killed one leaves in its own folder is removed by the next one that is alone; the lock says so, which all
    share that fetch. On a file system that knows no such lock it stays until somebody removes it, and harms nobody.
    """
    handle = os.open(begun, os.O_RDONLY)
    scratch = temporary(begun)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for left in begun.parent.glob(f"{begun.name}.*.tmp"):
                shutil.rmtree(left, ignore_errors=True)
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_SH)
        scratch.mkdir()
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        os.close(handle)


def _remove_others(begun: Path, files: set[Path]) -> None:
    """Remove files that are no copies: there was a time when each was fetched beside its place."""
    for folder, _, names in os.walk(begun):
        for path in (Path(folder, name) for name in names):
            if path not in files:
                path.unlink(missing_ok=True)


def _there(path: Path, size: int | None) -> bool:
    """Whether a fetch that was stopped had this file: each has its name when it is whole."""
    return size is not None and path.is_file() and path.stat().st_size == size


def _check_room(folder: Path, files: Mapping[Path, Wanted], store: Store) -> None:
    needs, free = sum(file.size or 0 for file in files.values()), shutil.disk_usage(folder).free
    if needs > free:
        raise UserError(
            f"{store.name} has {needs / 1e9:,.1f} GB and {folder.parent} room for {free / 1e9:,.1f}: make room, or "
            f"name another folder in the environment variable {CACHE}."
        )


def _fetch(store: Store, files: Mapping[Path, Wanted], folder: Path) -> None:
    """Fetch files to their places, through `folder`; a line a minute says how far it is."""
    advance = logged(sys.stderr)
    total, before = sum(file.size or 0 for file in files.values()), 0

    def so_far(n: int) -> None:
        advance(f"fetching {store.name} (MB)", round((before + n) / 1e6), round(total / 1e6))

    so_far(0)
    for batch in _batches(files):
        scratch = {path: folder / str(number) for number, path in enumerate(batch)}
        try:
            for path in batch:
                path.parent.mkdir(parents=True, exist_ok=True)
            store.fetch([file.path for file in batch.values()], list(scratch.values()), so_far)
            for path, file in batch.items():
                if file.size is not None and scratch[path].stat().st_size != file.size:
                    raise UserError(f"{store.name} was cut short on its way ({path.name}): give the command again.")
                os.replace(scratch[path], path)
                before += file.size or 0
        finally:
            for path in scratch.values():
                path.unlink(missing_ok=True)
        so_far(0)


def _batches(files: Mapping[Path, Wanted]) -> Iterator[dict[Path, Wanted]]:
    """Some small files at a time, which a file system may fetch at once; a large one alone."""
    batch: dict[Path, Wanted] = {}
    size = 0
    for path, file in files.items():
        if batch and (len(batch) == _AT_ONCE or size + (file.size or 0) > _BYTES_AT_ONCE):
            yield batch
            batch, size = {}, 0
        batch[path] = file
        size += file.size or 0
    if batch:
        yield batch
