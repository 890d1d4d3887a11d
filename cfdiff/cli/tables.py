"""Tables that show what they are given: text of data (a class, an id, a path) is never rich's markup.

Use these in place of rich's own: a class that is called `[/a]` ends a plain `Table.add_row` with a traceback, after the
run.
"""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

NARROWEST = 20
"""Columns that a terminal is taken to have at least: where COLUMNS says 0, rich would print nothing."""
Cell = str | Text | None
ARROWS = {"higher": "↑", "lower": "↓", None: ""}


class Terminal(Console):
    """Where tables are printed. That its reader has ended is said as by any other output, not by an exit with 1."""

    def __init__(self, **how: Any) -> None:
        super().__init__(**how)
        if self.width < NARROWEST:
            self.width = NARROWEST

    def on_broken_pipe(self) -> None:
        """Called while rich handles a BrokenPipeError."""
        raise


class PlainTable(Table):
    """A table whose words stand as they are; a `Text` brings its style along."""

    def __init__(self, *headers: Cell, title: Cell = None, caption: Cell = None, **style: Any) -> None:
        named = {"title": _plain(title, "table.title"), "caption": _plain(caption, "table.caption")}
        super().__init__(**{**named, "title_justify": "left", "caption_justify": "left", **style})
        for header in headers:
            self.add_column(header)

    def add_column(self, header: Any = "", footer: Any = "", **style: Any) -> None:
        """A column; its header is shown as it stands."""
        super().add_column(_plain(header) or "", _plain(footer) or "", **style)

    def add_row(self, *cells: Any, **style: Any) -> None:
        """A row; its cells are shown as they stand."""
        super().add_row(*map(_plain, cells), **style)


def with_arrow(label: str, better: str | None) -> str:
    """What a figure is called, and which way is good: ↑ "higher", ↓ "lower"."""
    return f"{label} {ARROWS[better]}".rstrip()


def show(*parts: Table | Text | str) -> None:
    """Print parts one below the other, as they stand."""
    Terminal().print(*parts, sep="\n", markup=False, highlight=False, emoji=False)


def _plain(words: Any, style: str = "") -> Any:
    return Text(words, style) if isinstance(words, str) else words
