"""What a source's files hold, as it was found once: a digest reads every byte of them, and job arrays do so often.

Whoever has read them leaves the digest in a file of the run, with the size, the times and the inode of each file behind
it. Who finds these to be the same takes the digest and reads nothing. The time that counts is that of the last change
of the inode (ctime), which nobody can set: a file that was written, replaced or copied anew has another, even where its
size and its mtime were kept. Another copy of the data has other inodes and times, and is read.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from cfdiff.data.source import Source
from cfdiff.errors import UserError
from cfdiff.files import atomic, parse_json
from cfdiff.version import __version__

NAME = "pixels.json"
_SETTLED = 10.0
"""Seconds without a change after which one more would show in a file's times, whatever the file system rounds to."""


class Seen:
    """A source whose digest may lie in `folder`, which need not be there yet.

    Attributes:
        source: the same images; its digest and its fingerprint read the files only where they must.
    """

    def __init__(self, source: Source, folder: Path) -> None:
        self._of, self._path = source, folder / NAME
        self._new: dict[str, str] | None = None
        self.source = replace(source, digest=self._digest)

    def _digest(self, rows: np.ndarray) -> str:
        before, told = _stamp(self._of, rows), _read(self._path)
        if before is not None and told.get("files") == before and isinstance(told.get("digest"), str):
            return str(told["digest"])
        digest = self._of.digest(rows)
        if before is not None and _stamp(self._of, rows) == before:
            self._new = {"files": before, "digest": digest}
        return digest

    def keep(self) -> None:
        """Leave the digest for others, where it was found here and the folder is there by now.

        A file that cannot be written is none: the others read the data themselves.
        """
        if self._new is not None and self._path.parent.is_dir():
            with suppress(UserError, OSError), atomic(self._path) as scratch:
                scratch.write_text(json.dumps(self._new, sort_keys=True) + "\n")


def _stamp(source: Source, rows: np.ndarray) -> str | None:
    """sha256 over what tells the files of a source apart; None where it says none, or one was changed just now."""
    if source.files is None:
        return None
    files = source.files(rows)
    # Which rows of the files, in which order: the digest is of these.
    h = hashlib.sha256(f"{__version__} {len(files)} {source.mask_reader is not None}".encode())
    h.update(np.ascontiguousarray(rows, "<i8").tobytes())
    latest = 0.0
    for path in files:
        if path is None:
            h.update(b"none\n")
            continue
        try:
            found = os.stat(path)
        except OSError:
            return None
        h.update(f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}\n".encode())
        latest = max(latest, found.st_mtime, found.st_ctime)
    return h.hexdigest() if latest < time.time() - _SETTLED else None


def _read(path: Path) -> dict[str, object]:
    """What lies there; {} where there is nothing, or no such thing."""
    try:
        found = parse_json(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
