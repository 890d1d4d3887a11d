"""Claims of several processes, on one or many hosts, on pieces of one run.

A claim is a file made with O_EXCL. It is stale when its process is dead on this host, or when its owner on
another host has let a minute pass without a sign of life. To take over too early costs time only: every piece
is written under a name of its own and renamed, and two processes compute the same bytes.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

from cfdiff.files import temporary

_HELD: set[Path] = set()  # by this process, whichever object holds them


class Claims:
    """Claims of this process in `folder`; `close` gives all of them back."""

    beat = 10.0  # seconds between signs of life
    patience = 60.0  # seconds without one before another host's claim is stale
    grace = 2.0  # seconds in which a new claim must say whose it is

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mine: set[Path] = set()
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
        with os.fdopen(handle, "w") as file:
            pid = os.getpid()
            file.write(json.dumps({"host": socket.gethostname(), "pid": pid, "started": _started(pid)}))
        _HELD.add(lock)
        self._mine.add(lock)
        if self._thread is None:
            self._thread = threading.Thread(target=self._live, daemon=True)
            self._thread.start()
        return True

    def release(self, name: str) -> None:
        """Give `name` back."""
        lock = self._lock(name)
        self._mine.discard(lock)
        _HELD.discard(lock)
        lock.unlink(missing_ok=True)

    def close(self) -> None:
        """Give back everything and stop the signs of life."""
        self._stop.set()
        for lock in list(self._mine):
            self.release(lock.stem)

    def others(self) -> bool:
        """Whether another live process holds a claim here."""
        names = [path.stem for path in self.folder.glob("*.lock") if path not in self._mine]
        return any(self._stale(name) is None for name in names)

    def _lock(self, name: str) -> Path:
        return self.folder / f"{name}.lock"

    def _stale(self, name: str) -> str | None:
        """What a stale claim says, None if it is alive."""
        lock = self._lock(name)
        try:
            text, changed = lock.read_text(), lock.stat().st_mtime_ns
        except FileNotFoundError:
            return ""
        try:
            owner = json.loads(text)
        except json.JSONDecodeError:  # just made and not yet written, or its writer died between the two
            owner = {}
        if owner.get("host") == socket.gethostname():
            dead = owner["started"] != _started(owner["pid"])
            abandoned = owner["pid"] == os.getpid() and lock not in _HELD
            return text if dead or abandoned else None
        # Clocks differ between hosts, so only our own measures for how long nothing has changed.
        seen, since = self._seen.get(name, (0, 0.0))
        if seen != changed:
            self._seen[name] = (changed, time.monotonic())
            return None
        return text if time.monotonic() - since > (self.patience if owner else self.grace) else None

    def _bury(self, name: str) -> bool:
        """Remove the claim `name` if it is stale."""
        text = self._stale(name)
        if text is None:
            return False
        lock = self._lock(name)
        grave = temporary(lock)
        try:
            os.rename(lock, grave)
        except FileNotFoundError:
            return self.folder.is_dir()
        if grave.read_text() != text:  # a third process was quicker, and this is its new claim: put it back
            with suppress(OSError):
                os.link(grave, lock)
        grave.unlink()
        return True

    def _live(self) -> None:
        while not self._stop.wait(self.beat):
            for lock in list(self._mine):
                with suppress(FileNotFoundError):
                    os.utime(lock)


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
