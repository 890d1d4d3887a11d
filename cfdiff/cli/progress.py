"""The bar that a command shows on a terminal while it works."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress


@contextmanager
def progress(first: str) -> Iterator[Callable[[str, int, int], None]]:
    """Yield what a workflow calls with (what is being done, how much, of how much); `first` is shown until then."""
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(first, total=None)
        yield lambda what, done, n: bar.update(task, description=what, completed=done, total=n)
