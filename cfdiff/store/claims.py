"""Claims of several processes, on one or many hosts, on pieces of one run.

A claim is a file made with O_EXCL that says whose it is. It is stale when its process is dead on this host, or when its
owner on another host has let a minute pass without a sign of life. To take over too early costs time only: every piece
is written under a name of its own and renamed, and two processes compute the same bytes.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cfdiff.errors import UserError
from cfdiff.files import parse_json, temporary

_HELD: set[str] = set()  # what the claims of this process say, whichever object holds them
_POLL = 0.2  # seconds between looks at a claim of which nothing is known yet


class Claims:
    """Claims of this process in `folder`; `close` gives all of them back."""

    beat = 10.0  # seconds between signs of life
    patience = 60.0  # seconds without one before another host's claim is stale
    grace = 2.0  # seconds in which a new claim must say whose it is

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mine: dict[Path, str] = {}  # each claim, and what it says
        self._seen: dict[str, tuple[int, float]] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self, name: str) -> bool:
        """Claim `name`; False while another holds it or the folder is gone."""
        lock = self._lock(name)
        try:
            handle = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileNotFoundError:
            return False
        except FileExistsError:
            return self._bury(name) and self.take(name)
        pid = os.getpid()
        owner = {"host": socket.gethostname(), "pid": pid, "started": _started(pid), "token": secrets.token_hex(8)}
        text = json.dumps(owner)
        _HELD.add(text)
        self._mine[lock] = text
        with os.fdopen(handle, "w") as file:
            file.write(text)
        if self._thread is None:
            self._thread = threading.Thread(target=self._live, daemon=True)
            self._thread.start()
        return True

    def holds(self, name: str) -> bool:
        """Whether the claim `name` is there and this object's: not taken over, nor gone with the folder."""
        lock = self._lock(name)
        return lock in self._mine and _read(lock) == self._mine[lock]

    def release(self, name: str) -> None:
        """Give `name` back, if it is still this object's: another may have taken it over."""
        lock = self._lock(name)
        text = self._mine.pop(lock, None)
        if text is None:
            return
        if _read(lock) == text:
            self._remove(lock, text)
        _HELD.discard(text)

    def close(self) -> None:
        """Give back everything and stop the signs of life."""
        self._stop.set()
        for lock in list(self._mine):
            self.release(lock.stem)

    def others(self) -> bool:
        """Whether another live process holds a claim here.

        One of another host is watched until it shows life, or has shown none for as long as makes it stale.
        """
        while True:
            names = [path.stem for path in self.folder.glob("*.lock") if path not in self._mine]
            states = [self._look(name)[1] for name in names]
            if True in states or None not in states:
                return True in states
            time.sleep(_POLL)

    def _lock(self, name: str) -> Path:
        return self.folder / f"{name}.lock"

    def _look(self, name: str) -> tuple[str, bool | None]:
        """What a claim says, and whether its owner is alive; None while that cannot be known."""
        lock = self._lock(name)
        try:
            text, changed = lock.read_text(), lock.stat().st_mtime_ns
        except FileNotFoundError:
            return "", False
        try:
            owner = parse_json(text)
        except ValueError:  # just made and not yet written, or its writer died between the two
            owner = {}
        if owner.get("host") == socket.gethostname():
            dead = owner["started"] != _started(owner["pid"])
            abandoned = owner["pid"] == os.getpid() and text not in _HELD
            return text, not (dead or abandoned)
        # Clocks differ between hosts, so only our own measures for how long nothing has changed.
        seen, since = self._seen.get(name, (None, 0.0))
        if seen != changed:
            self._seen[name] = (changed, time.monotonic())
            return text, None if seen is None or not owner else True
        silent = time.monotonic() - since > (self.patience if owner else self.grace)
        return text, False if silent else None

    def _bury(self, name: str) -> bool:
        """Remove the claim `name` if it is stale."""
        text, alive = self._look(name)
        return alive is False and self._remove(self._lock(name), text)

    def _remove(self, lock: Path, text: str) -> bool:
        """Remove the claim if it says `text`; False where the folder is gone."""
        grave = temporary(lock)
        try:
            os.rename(lock, grave)
        except FileNotFoundError:
            return self.folder.is_dir()
        if _read(grave) != text:  # a third process was quicker, and this is its new claim: put it back
            with suppress(OSError):
                os.link(grave, lock)
        grave.unlink(missing_ok=True)
        return True

    def _live(self) -> None:
        while not self._stop.wait(self.beat):
            for lock, text in list(self._mine.items()):
                with suppress(FileNotFoundError):
                    if _read(lock) == text:  # else it would vouch for whoever has taken over
                        os.utime(lock)


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:
        return None


def _started(pid: int) -> str:
    """When the process began: with its number this names it for good. "dead" for none, or for a zombie."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "dead" if state in "ZX" else rest[18]
    except (FileNotFoundError, ProcessLookupError):
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return "dead"
    except PermissionError:
        pass
    return ""  # alive, on a system without /proc


@contextmanager
def held(folder: Path, name: str, work: str) -> Iterator[None]:
    """Hold the claim `name` on a folder while a piece of work goes on that only one process may do there.

    Raises:
        UserError: another one is at it; `work` says what, as "training".
    """
    claims = Claims(folder)
    try:
        while not claims.take(name):
            if claims.others():
                raise UserError(
                    f"Another {work} is at work in {folder}: wait until it has ended, stop it, or give another --out."
                )
        yield
    finally:
        claims.close()
