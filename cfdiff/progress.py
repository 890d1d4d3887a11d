"""How far a task is: what it calls, and the bar that a terminal or a notebook shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[str, int, int], None]
"""(what is being done, how much of it is done, of how much in all)."""


def silent(what: str, done: int, n: int) -> None:
    """The progress that nobody watches."""


@contextmanager
def progress_bar(first: str) -> Iterator[Progress]:
    """Yield the `Progress` of a bar; `first` is shown until it is called. Without a terminal nothing is shown."""
    from rich.console import Console
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    shown = console.is_terminal or console.is_jupyter
    with Bar(console=console, disable=not shown, transient=True) as bar:
        task = bar.add_task(first, total=None)
        yield lambda what, done, n: bar.update(task, description=what, completed=done, total=n)
