"""The names in a run of a .tar, taken apart as arrays: what one image is called, and what each of its members is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cfdiff.data.readers.tar_runs import Run
from cfdiff.data.readers.tree import SYSTEM

_NAME = 100
"""Bytes of a name in a header."""
_SLASH, _DOT = ord("/"), ord(".")
_UNSURE = frozenset(name.partition(".")[2] for name in SYSTEM if "." in name)
"""Endings of files that systems leave behind."""


class Odd(Exception):
    """A run has what only a look at each of its members can tell."""


class Names(NamedTuple):
    """M members of images; those whose names have no dot, or nothing before it, are left out.

    Attributes:
        members: (M,) int64, which of the run they are.
        keys: (M,) bytes, the names up to the first dot of the last part.
        endings: what follows that dot, each once.
        ending: (M,) int64, which of them.
        begin: (G,) int64, where the members begin that have a key other than the one before.
    """

    members: np.ndarray
    keys: np.ndarray
    endings: list[str]
    ending: np.ndarray
    begin: np.ndarray


def parted(run: Run) -> Names:
    """The names of a run.

    Raises:
        Odd: some are not ASCII, begin with a slash, or are called as what systems leave behind.
    """
    letters = run.blocks[run.heads, :_NAME]
    length = np.strings.str_len(letters.view(f"S{_NAME}")[:, 0])
    letters = np.ascontiguousarray(letters[:, : max(int(length.max(initial=0)), 2)])
    if letters.max(initial=0) >= 0x80 or np.count_nonzero(letters) != length.sum():  # or NULs within a name
        raise Odd
    here = (letters[:, 0] == _DOT) & (letters[:, 1] == _SLASH)
    if here.any():
        if not here.all():
            raise Odd
        letters, length = letters[:, 2:], length - 2
    column = np.arange(letters.shape[1], dtype=np.int16)
    slash = letters.shape[1] - 1 - _first((letters == _SLASH)[:, ::-1], letters.shape[1])
    dot = _first((letters == _DOT) & (column > slash[:, None]), -1)
    if (letters[:, :1] == _SLASH).any() or b"__MACOSX" in letters.tobytes():
        raise Odd
    members = np.flatnonzero(dot > slash + 1)
    letters, length, dot = letters[members], length[members], dot[members]
    keys = _as_bytes(letters * (column < dot[:, None]))
    endings, ending = _distinct(_as_bytes(_shifted(letters, dot + 1)))
    if not _UNSURE.isdisjoint(end.lower() for end in endings):
        raise Odd
    begin = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])[: len(keys)])
    return Names(members, keys, endings, ending, begin)


def contents(run: Run, members: np.ndarray) -> tuple[list[str], np.ndarray]:
    """The texts in some files of at most a block, without blanks around them: each once, and (M,) which is whose.

    Raises:
        Odd: there are longer ones, or what is no text.
    """
    sizes = run.sizes[members]
    if sizes.max(initial=0) > run.blocks.shape[1]:
        raise Odd
    column = np.arange(sizes.max(initial=0))
    letters = run.blocks[run.heads[members] + 1][:, : len(column)]
    within = column < sizes[:, None]
    if (within & (letters == 0)).any():
        raise Odd
    texts, which = _distinct(_as_bytes(letters * within))
    return [text.strip() for text in texts], which


def _first(marks: np.ndarray, none: int) -> np.ndarray:
    """The first column (N,) int16 that is marked in each row; `none` where no one is."""
    if not marks.shape[1]:
        return np.full(len(marks), none, np.int16)
    first = marks.argmax(1)
    return np.where(marks[np.arange(len(marks)), first], first, none).astype(np.int16)


def _shifted(letters: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Each row from a column of its own on, zeros behind it."""
    width = letters.shape[1]
    columns = start[:, None] + np.arange(max(width - int(start.min(initial=width)), 0))
    padded = np.concatenate([letters, np.zeros((len(letters), 1), np.uint8)], 1)
    return np.take_along_axis(padded, np.minimum(columns, width), 1)


def _as_bytes(letters: np.ndarray) -> np.ndarray:
    """Rows of letters (N, W) as (N,) bytes."""
    if not letters.shape[1]:
        return np.full(len(letters), b"")
    return np.ascontiguousarray(letters, np.uint8).view(f"S{letters.shape[1]}")[:, 0]


def _distinct(values: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Texts (N,) of bytes: each once, and (N,) which is whose; `Odd` for what is not UTF-8."""
    if values.dtype.itemsize <= 8:  # as numbers, which sort ten times as fast
        unique, which = np.unique(values.astype("S8").view(np.uint64), return_inverse=True)
        unique = unique.view("S8")
    else:
        unique, which = np.unique(values, return_inverse=True)
    try:
        return [value.decode() for value in unique.tolist()], which.reshape(-1)
    except UnicodeDecodeError as error:
        raise Odd from error
