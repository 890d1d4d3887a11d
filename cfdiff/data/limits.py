"""What a file may claim: sizes are looked at before anything is read, so that a small file cannot fill the memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from cfdiff.errors import UserError

MAX_PIXELS = 89_478_485
"""Pixels of one image, as in Pillow: 9,459 x 9,459."""
BYTES_A_NAME = 100
"""What one id, label or group takes in memory, roughly, besides its text."""
MAX_NAME = 4096
"""Characters of a name: as many as a path may have."""


def memory() -> int:
    """The memory of this machine in bytes."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not everywhere; then the allocation itself has to fail
        return 1 << 62


def check_memory(size: int, what: str) -> None:
    """Raise UserError where `size` bytes of `what` (a file and an array in words) are more than this machine has."""
    if size > (most := memory()):
        raise UserError(
            f"{what} would take {in_words(size)}, and this machine has {in_words(most)}: check that the file is what "
            "you think it is, or make a smaller one."
        )


@contextmanager
def enough_memory(what: str) -> Iterator[None]:
    """Turn a MemoryError while `what` is read into a UserError."""
    try:
        yield
    except MemoryError as error:
        raise UserError(f"{what} does not fit the memory: read less of it at once, or a smaller file.") from error


def in_words(size: float) -> str:
    """Bytes, as messages say them."""
    units = ("bytes", "kB", "MB", "GB", "TB", "PB")
    power = min(len(units) - 1, max(0, len(str(int(size))) - 1) // 3)
    return f"{size / 1000**power:,.4g} {units[power]}"
