"""cfdiff join: asks which command the shards are of, and has that make its result."""

from __future__ import annotations

from typing import Any, Protocol

from cfdiff.errors import UserError
from cfdiff.join.settings import JoinSettings
from cfdiff.progress import Progress, silent
from cfdiff.registry import JOINS
from cfdiff.store.join import command_of, fetch_shards


class Summary(Protocol):
    """What the command prints of its result."""

    def as_json(self) -> dict[str, Any]: ...
    def rows(self) -> list[tuple[str, str]]: ...


def join(s: JoinSettings, progress: Progress | None = None) -> Summary:
    """Make the result of all shards of a run; returns the summary that the command itself would.

    One that is made already is summarised again, as a join may be killed after it, before it has said so.

    Raises:
        UserError: shards are missing, which are named, or the parts cannot be used.
    """
    fetch_shards(s.run, s.remote, s.force)
    command = command_of(s.run, s.force)
    if command not in JOINS:
        raise UserError(f"{s.run} is of the command {command!r}, which has no shards: give the --out of {_known()}.")
    summary: Summary = JOINS[command](s, progress or silent)
    return summary


def _known() -> str:
    return " or ".join(f"cfdiff {name}" for name in JOINS)
