"""This process does every piece itself, one after the other; what only ends a piece is done beside the next."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Protocol, runtime_checkable

from cfdiff.stopping import whole
from cfdiff.workers.crew import Elsewhere, P, Shares


@runtime_checkable
class InTwo(Protocol):
    """Work on a piece in two steps, of which the second, as packing and writing, needs nothing that the first needs."""

    def begin(self, piece: Any) -> Callable[[], Any]:
        """Do the first step, in the main thread; what is given back does the second, in any thread, and takes no note
        of signals."""
        ...


class Here:
    """A `workers.crew.Crew` of one.

    Signals come to the main thread. A piece is whole, to SIGTERM, when its end was handed over; whatever then ends the
    `with` statement, a stop, Ctrl-C or an error, waits for that end first, so that what was computed is there.
    """

    def __init__(self, s: Shares, here: Callable[[], Callable[[Any], Any]], elsewhere: Elsewhere) -> None:
        self._make = here
        self._work: Callable[[Any], Any] | None = None
        self._end: Ending | None = None

    def __enter__(self) -> Here:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        left, self._end = self._end, None
        if left is not None:
            left.wait()  # its error is told, as that of a piece that was at work

    def do(self, pieces: Iterable[P]) -> Iterator[tuple[P, Any]]:
        """Each piece and what it came to, in their order; with work `InTwo` each when the next was begun."""
        for piece in pieces:
            if self._work is None:
                self._work = self._make()
            if not isinstance(self._work, InTwo):
                yield piece, self._work(piece)
                continue
            with whole():
                ended = self._handed_over(piece, self._work.begin(piece))
            if ended is not None:
                yield ended
        if (last := self._end) is not None:
            ended, self._end = (last.piece, last.wait()), None
            yield ended

    def _handed_over(self, piece: P, end: Callable[[], Any]) -> tuple[P, Any] | None:
        """Have a piece ended beside what follows, once the one before is; that one, and what it came to."""
        before = self._end  # whose end is waited for once more if this is broken off
        ended = None if before is None else (before.piece, before.wait())
        self._end = Ending(piece, end)
        return ended


class Ending:
    """The second step of a piece, in a thread."""

    def __init__(self, piece: Any, end: Callable[[], Any]) -> None:
        self.piece = piece
        self._end: Callable[[], Any] | None = end
        self._result: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._do, name="ends a piece")
        self._thread.start()

    def wait(self) -> Any:
        """What it came to, when it is done. A process that is told to end does so after it.

        Raises whatever it raised.
        """
        with whole():
            self._thread.join()
            if self._error is not None:
                raise self._error
        return self._result

    def _do(self) -> None:
        assert self._end is not None
        try:
            self._result = self._end()
        except BaseException as error:  # the main thread raises it
            self._error = error
        finally:
            self._end = None  # and with it the arrays
