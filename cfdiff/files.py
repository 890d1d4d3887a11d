"""Files that are there whole or not at all, also after a power cut."""

from __future__ import annotations

import errno
import json
import os
import secrets
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from io import FileIO
from pathlib import Path
from typing import Any

from cfdiff.errors import UserError
from cfdiff.stopping import unbroken

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a system says where there is no room."""
FAR = (errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EREMOTEIO, errno.ENODEV)
"""What it says where a disk is damaged, or its network gone."""
UNSEEN = (errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.ELOOP, errno.EIO, errno.ESTALE, errno.ENOTCONN)
"""What it says of a name that cannot be looked at, where `Path.exists` raises instead of saying no."""


def temporary(path: Path) -> Path:
    """A name beside `path` that no other process uses."""
    return path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def is_there(path: Path) -> bool:
    """Whether there is something of that name; False also for a name that cannot be (too long, with a NUL)."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def far(error: BaseException) -> str | None:
    """That bytes could not be had from where they lie, in words that go on after a name; None for any other error."""
    if not isinstance(error, OSError) or error.errno not in FAR:
        return None
    return f"cannot be read from its disk ({os.strerror(error.errno)}): check the disk or the network, and try again"


def unseen(error: OSError) -> str:
    """One sentence on a name that cannot be looked at."""
    name = os.fsdecode(error.filename)
    if error.errno == errno.ENAMETOOLONG:
        return f"The name {os.path.basename(name)[:40]!r}… is too long for a file: correct it, or give a shorter one."
    return f"{name!r} cannot be looked at ({error.strerror}): check its permissions and its disk, or correct the name."


def try_writing(folder: Path) -> None:
    """Raise OSError where no file can be made in `folder`; a mode bit says nothing of read-only mounts and quotas.

    The file has no name where the system can do so, and nothing stays behind whenever one is killed.
    """
    with tempfile.TemporaryFile(dir=folder):
        pass


def parse_json(text: str | bytes) -> Any:
    """What JSON says; ValueError also for what is nested so deeply that nobody can have meant it."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def parse_toml(text: str) -> dict[str, Any]:
    """What TOML says; ValueError for what is none, and also for what is nested too deeply."""
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


class Guarded:
    """A file to write to for libraries in C, which after a failure takes whatever comes and keeps quiet.

    Few of them bear that a write fails. So they never see one; `error` is the first that happened.
    """

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        left = memoryview(data).cast("B")
        size = len(left)
        while len(left) and self.error is None:
            try:
                left = left[self._file.write(left) :]  # a nearly full disk takes a part
            except OSError as error:
                self.error = error
        return size

    def truncate(self, size: int | None = None) -> int:
        if self.error is None:
            try:
                return self._file.truncate(size)
            except OSError as error:
                self.error = error
        return size or 0

    def flush(self) -> None:
        if self.error is None:
            try:
                self._file.flush()
            except OSError as error:
                self.error = error

    def readinto(self, buffer: Any) -> int:
        """What was written before; zeros for what could not be."""
        view = memoryview(buffer).cast("B")
        got = self._file.readinto(view) or 0
        view[got:] = bytes(len(view) - got)
        return len(view)

    def read(self, size: int = -1) -> bytes:
        """By which h5py knows a file; it calls `readinto`."""
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


@contextmanager
def guarded(path: Path) -> Iterator[Any]:
    """A file to hand to a library in C. That it could not be written is an OSError when the library is done with it;
    Ctrl-C, too, waits until then."""
    with unbroken(), path.open("w+b", buffering=0) as raw:
        guard = Guarded(raw)
        try:
            yield guard
        except Exception:
            if guard.error is not None:  # what follows from it is not what went wrong
                raise guard.error from None
            raise
        if guard.error is not None:
            raise guard.error


@contextmanager
def atomic(path: Path, *, through: Path | None = None, first: bool = False) -> Iterator[Path]:
    """Yield a temporary name to write to; at the end it is fsynced and renamed to `path`.

    `through` is the folder of the temporary file (same file system), by default that of `path`. `first`: what lies at
    `path` by then stays, so that of several processes that write it at once the first has its way. After an
    exception the temporary file is removed and `path` is as it was; an OSError becomes a UserError. What is no file,
    as a device or a pipe, would be replaced by one: it is refused.
    """
    if is_there(path) and not (path.is_file() or path.is_dir()):
        raise UserError(f"{path} is no file that can be replaced: choose another place.")
    scratch = temporary((through or path.parent) / path.name)
    try:
        yield scratch
        sync(scratch)
        if first:
            _unless_there(scratch, path)
        else:
            os.replace(scratch, path)
        sync(path.parent)
    except OSError as error:
        raise UserError(f"Cannot write {path} ({error.strerror or error}): {_advice(error)}.") from error
    finally:
        with suppress(OSError):  # a parent that is no folder: said above
            scratch.unlink(missing_ok=True)


def _unless_there(scratch: Path, path: Path) -> None:
    """Give a file its name, or leave that to the one that has it."""
    try:
        os.link(scratch, path)
    except FileExistsError:
        pass
    except OSError:  # a file system that knows one name a file
        if not path.exists():
            os.replace(scratch, path)


def _advice(error: OSError) -> str:
    """What to do after a file could not be written."""
    if error.errno in FULL:
        return "free space there, or choose another place"
    if error.errno == errno.ENAMETOOLONG:
        return "choose a shorter name"
    return "choose another place"


def sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on the disk.

    Some file systems refuse that for a folder (EINVAL, EBADF, EACCES): then there is nothing to wait for.
    """
    folder = path.is_dir()
    with suppress(OSError) if folder else nullcontext():
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
