"""How a process ends that is told to (SIGTERM, by a scheduler or `kill`): after the piece that it is at, with a word.

A piece is what the next run would else do again: a part of a run, a step of a training. Whoever works in pieces puts
each into `whole()`; the program's `heed()` makes SIGTERM wait for its end. A second SIGTERM does not wait.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_CODE = 128 + signal.SIGTERM


class Stopped(BaseException):
    """The process was told to end, and is at a place where nothing is lost."""


_pieces = 0
_asked = False


def heed() -> None:
    """From now on SIGTERM ends the process with `Stopped`; for the program's main thread."""
    signal.signal(signal.SIGTERM, _told)


def asked() -> bool:
    """Whether the process was told to end, and goes on for the sake of the piece that it is at."""
    return _asked


@contextmanager
def whole() -> Iterator[None]:
    """A piece that is finished before the process ends; then `Stopped` is raised, if it was told to meanwhile."""
    global _pieces
    _pieces += 1
    try:
        yield
    finally:
        _pieces -= 1
    if _asked and _pieces == 0:
        raise Stopped


def _told(number: int, frame: FrameType | None) -> None:
    global _asked
    if _pieces and not _asked:
        _asked = True
        print("Stopping after this piece of work, as told (SIGTERM); once more stops at once.", file=sys.stderr)
        return
    raise Stopped
