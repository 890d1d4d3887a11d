"""How a process ends that is told to (SIGTERM, by a scheduler or `kill`): after the piece that it is at, with a word.

A piece is what the next run would else do again: a part of a run, a step of a training. Whoever works in pieces puts
each into `whole()`; the program's `heed()` makes SIGTERM wait for its end. A second SIGTERM does not wait.

Ctrl-C (SIGINT) does not wait for pieces; only for what a library in C writes, which `unbroken()` holds together.
"""

from __future__ import annotations

import signal
import sys
import threading
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


@contextmanager
def unbroken() -> Iterator[None]:
    """What neither SIGTERM nor Ctrl-C breaks in two: an exception inside a library in C comes out as some other one.

    The KeyboardInterrupt is raised at the end; a second Ctrl-C does not wait. In other threads, and where the caller
    handles SIGINT in its own way, only SIGTERM waits.
    """
    told: list[int] = []

    def later(number: int, frame: FrameType | None) -> None:
        if told:
            raise KeyboardInterrupt
        told.append(number)
        print("Stopping when this file is written; Ctrl-C once more stops at once.", file=sys.stderr)

    in_main = threading.current_thread() is threading.main_thread()
    mine = in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if mine:
        signal.signal(signal.SIGINT, later)
    try:
        with whole():
            yield
    finally:
        if mine:
            signal.signal(signal.SIGINT, signal.default_int_handler)
    if told:
        raise KeyboardInterrupt


def _told(number: int, frame: FrameType | None) -> None:
    global _asked
    if _pieces and not _asked:
        _asked = True
        print("Stopping after this piece of work, as told (SIGTERM); once more stops at once.", file=sys.stderr)
        return
    raise Stopped
