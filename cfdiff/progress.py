"""How far a task is: what it calls, and the bar that a terminal or a notebook shows."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

Progress = Callable[[str, int, int], None]
"""(what is being done, how much of it is done, of how much in all)."""


def silent(what: str, done: int, n: int) -> None:
    """The progress that nobody watches."""


@contextmanager
def progress_bar(first: str) -> Iterator[Progress]:
    """Yield the `Progress` of a bar, or in a notebook of a line; `first` is shown until it is called.

    Where nobody watches, in a pipe or a log, nothing is shown.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if console.is_jupyter:  # where rich's bars need ipywidgets
        with _line(first, sys.stderr) as advance:
            yield advance
        return
    with Bar(console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(escape(first), total=None)
        yield lambda what, done, n: bar.update(task, description=escape(what), completed=done, total=n)


@contextmanager
def _line(first: str, stream: TextIO) -> Iterator[Progress]:
    """One line that is written over; what is longer than the next is wiped."""
    width = 0

    def write(words: str) -> None:
        nonlocal width
        stream.write(f"\r{words:<{width}}")
        stream.flush()
        width = len(words)

    write(f"{first} ...")
    try:
        yield lambda what, done, n: write(f"{what} {done} of {n} ({done / max(n, 1):.0%})")
    finally:
        write("")
        stream.write("\r")
