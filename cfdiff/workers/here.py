"""This process does every piece itself, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any

from cfdiff.workers.crew import Elsewhere, P, Shares


class Here:
    """A `workers.crew.Crew` of one."""

    def __init__(self, s: Shares, here: Callable[[], Callable[[Any], Any]], elsewhere: Elsewhere) -> None:
        self._make = here
        self._work: Callable[[Any], Any] | None = None

    def __enter__(self) -> Here:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def do(self, pieces: Iterable[P]) -> Iterator[tuple[P, Any]]:
        """Each piece and what it came to, in their order."""
        for piece in pieces:
            if self._work is None:
                self._work = self._make()
            yield piece, self._work(piece)
