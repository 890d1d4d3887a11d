"""Who works on a folder: one process, or several that have a share of it each.

A lock is the kernel's (flock), which NFS and the usual cluster file systems keep between hosts: whoever dies loses it
in that moment, on whatever host. So nothing gives signs of life, nothing is ever stale, and nothing is taken over.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cfdiff.errors import UserError

_WITHOUT_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL}


class Lock:
    """The lock `name` of a folder; its file says who has it, for a reader."""

    def __init__(self, folder: Path, name: str = "owner") -> None:
        self.folder, self.path = folder, folder / f"{name}.lock"
        self._handle: int | None = None

    def take(self, shared: bool = False) -> bool:
        """Lock it, alone or with others that share it; False while others have it, or where the folder is gone.

        Raises UserError where its file cannot be made.

        On a file system that knows no locks it is always free: to start one run twice is then the user's mistake, which
        costs time and no result, as two processes compute the same bytes.
        """
        assert self._handle is None, "held already"
        while True:
            try:
                handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            except (FileNotFoundError, NotADirectoryError):
                return False
            except OSError as error:  # the disk is full, or read-only
                raise UserError(f"Cannot write {self.path} ({error.strerror}): choose another place.") from error
            try:
                fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in _WITHOUT_LOCKS:
                    os.close(handle)
                    return False
            if _is(handle, self.path):
                break
            os.close(handle)  # it was given back, or the folder cleared away, between the two
        self._handle = handle
        if not shared:
            with suppress(OSError):  # a disk that is full holds no word, and the lock all the same
                os.truncate(handle, 0)
                os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        return True

    def holds(self) -> bool:
        """Whether it is locked by this object, and not gone with its folder."""
        return self._handle is not None and _is(self._handle, self.path)

    def owner(self) -> str:
        """Who has it alone or had it last, in words for a message; "" where nobody wrote it down."""
        with suppress(OSError, UnicodeDecodeError):
            return self.path.read_text().strip()
        return ""

    def release(self) -> None:
        """Give it back; one that was not shared leaves no file."""
        if self._handle is None:
            return
        handle, self._handle = self._handle, None
        with suppress(OSError):  # only who has it alone may remove it: another would lock another file
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is(handle, self.path):
                self.path.unlink()
        os.close(handle)


def _is(handle: int, path: Path) -> bool:
    """Whether an open file is the one that lies at `path` now."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except (FileNotFoundError, NotADirectoryError):
        return False


@contextmanager
def held(folder: Path, name: str, work: str) -> Iterator[None]:
    """Hold the lock `name` of a folder while a piece of work goes on that only one process may do there.

    Raises:
        UserError: another one is at it; `work` says what, as "training".
    """
    lock = Lock(folder, name)
    if not lock.take():
        who = f" ({owner})" if (owner := lock.owner()) else ""
        raise UserError(
            f"Another {work} is at work in {folder}{who}: wait until it has ended, stop it, or give another --out."
        )
    try:
        yield
    finally:
        lock.release()
