"""How far a task is: what it calls, and the bar that a terminal or a notebook shows, or the lines of a log."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

LINE_SECONDS = 60.0
"""Between lines in a log."""
Progress = Callable[[str, int, int], None]
"""(what is being done, how much of it is done, of how much in all)."""


def silent(what: str, done: int, n: int) -> None:
    """The progress that nobody watches."""


def note(progress: Progress | None, words: str) -> None:
    """Say a sentence about the work on stderr, beside the bar, where somebody watches it."""
    if progress is None or progress is silent:
        return
    with suppress(OSError, ValueError):  # as in `logged`
        print(words, file=sys.stderr, flush=True)


@contextmanager
def progress_bar(first: str) -> Iterator[Progress]:
    """Yield the `Progress` of a bar, or in a notebook of a line; `first` is shown until it is called.

    Where there is no terminal, in a pipe or a log, it is a line a minute (`logged`).
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if console.is_jupyter:  # where rich's bars need ipywidgets
        with _line(first, sys.stderr) as advance:
            yield advance
        return
    if not console.is_terminal:
        yield logged(sys.stderr)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console, transient=True) as bar:
        task, pace = bar.add_task(escape(first), total=None, rate=""), Pace()

        def advance(what: str, done: int, n: int) -> None:
            rate = pace.rate(what, done)
            bar.update(task, description=escape(what), completed=done, total=n, rate=in_words(rate))

        yield advance


def logged(stream: TextIO, clock: Callable[[], float] = time.monotonic) -> Progress:
    """A `Progress` that writes a line of its own at most every `LINE_SECONDS`: what takes less says nothing."""
    pace, last = Pace(clock), clock()

    def advance(what: str, done: int, n: int) -> None:
        nonlocal last
        rate = pace.rate(what, done)
        if clock() - last < LINE_SECONDS:
            return
        last = clock()
        told = [f"{what} {done:,} of {n:,} ({done / max(n, 1):.0%})"]
        if rate:
            told += [in_words(rate), f"{_time((n - done) / rate)} left"]
        with suppress(OSError, ValueError):  # whoever read the log may be gone, and the work goes on
            print(", ".join(told), file=stream, flush=True)

    return advance


def _time(seconds: float) -> str:
    """Hours and minutes: "3 h 20 min", "7 min"."""
    hours, minutes = divmod(math.ceil(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


class Pace:
    """How many a second, since the first call of the same words: what was there before does not count."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._what, self._done, self._since = "", 0, 0.0

    def rate(self, what: str, done: int) -> float | None:
        """A second; None while nothing can be said."""
        now = self._clock()
        if what != self._what or done < self._done:
            self._what, self._done, self._since = what, done, now
        took = now - self._since
        return (done - self._done) / took if took > 0 and done > self._done else None


def in_words(rate: float | None) -> str:
    """So many a second, or a minute where they are few; "" where that is not known."""
    if not rate:
        return ""
    return f"{rate:.3g} a second" if rate >= 0.1 else f"{60 * rate:.3g} a minute"


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
