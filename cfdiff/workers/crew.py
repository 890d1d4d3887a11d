"""Pieces of work and who does them.

with crew(s, here, elsewhere) as workers:
    for piece, result in workers.do(pieces): ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, TypeVar

from cfdiff.registry import CREWS

P = TypeVar("P")


@dataclass(frozen=True)
class Elsewhere:
    """How another process makes what does a piece: `make(*given)` once, and of that each piece.

    Attributes:
        make: a function of a module that can be imported there, or of a script that Ray can send.
        given: what it takes; it is sent, so it must be picklable and hold no open file.
    """

    make: Callable[..., Callable[[Any], Any]]
    given: tuple[Any, ...]


class Shares(Protocol):
    """What a crew asks of the settings of a command."""

    @property
    def workers(self) -> int | None: ...
    @property
    def ray(self) -> str | None: ...
    @property
    def device(self) -> str: ...
    @property
    def threads(self) -> int | None: ...


class Crew(Protocol):
    """Those who work. Used in a `with` statement, at whose end they are let go."""

    def do(self, pieces: Iterable[P]) -> Iterator[tuple[P, Any]]:
        """Each piece and what it came to, in the order in which they end; may be asked again for other pieces.

        Raises:
            UserError: a piece could not be done, in the words of who tried.
        """
        ...

    def __enter__(self) -> Crew: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def crew(s: Shares, here: Callable[[], Callable[[Any], Any]], elsewhere: Elsewhere) -> Crew:
    """Who works by the settings: this process, which asks `here` for what does a piece, or others.

    Raises:
        UserError: Ray is not installed, cannot be reached, or has no machine for a worker.
    """
    return CREWS["here" if s.workers is None and s.ray is None else "ray"](s, here, elsewhere)


def shared(s: Shares) -> bool:
    """Whether others work."""
    return s.workers is not None or s.ray is not None
