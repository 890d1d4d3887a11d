"""Tables as CSV: the columns of a text file in UTF-8, read once from its beginning to its end."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from operator import itemgetter
from pathlib import Path

import numpy as np

from cfdiff.data.columns import Columns, check_name
from cfdiff.data.limits import BYTES_A_NAME, check_memory
from cfdiff.errors import UserError

SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
"""What stands between columns in tables that are called .csv and are none -> its name."""
_ROWS = 1 << 14
"""Rows that are looked at at once."""


class Table(Columns):
    """The columns of a CSV. `numbers` (N,) are those of its rows, with blank ones counted, as tables show them."""

    numbers: np.ndarray


def read_columns(path: Path, name: str) -> Table:
    """The columns of a CSV (UTF-8, with a header line), as str without surrounding blanks.

    Raises:
        UserError: it cannot be read, is no such table, or has rows of other lengths.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return _parsed(file, name)
    except OSError as error:
        raise UserError(f"{name} cannot be read ({error.strerror}): correct its path or its permissions.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is not a readable CSV in UTF-8: save it again as comma-separated text.") from error


def _parsed(file: Iterable[str], name: str) -> Table:
    pieces = _pieces(file, name)
    numbers, rows = next(pieces, (np.zeros(0, np.int64), []))
    if not rows:
        raise UserError(f"{name} is empty: its first line must name the columns, at least path,label.")
    head = _packed(rows[0], name).split("\0")
    if len(head) == 1 and (parted := next((sign for sign in SEPARATORS if sign in rows[0][0]), None)) is not None:
        raise UserError(f"{name} has its columns parted by {SEPARATORS[parted]}: save it with commas.")
    if twice := [column for column, n in Counter(head).items() if n > 1 and column]:
        raise UserError(f"{name} has the column {twice[0]!r} more than once: rename or remove one.")
    # A column of a million names is a few texts, not a million: no field has a NUL, so one can stand between them.
    packed: list[list[str]] = [[] for _ in head]
    counted, numbers, rows = [numbers[1:]], numbers[1:], rows[1:]
    while True:
        if set(map(len, rows)) - {len(head)}:
            place = next(i for i, row in enumerate(rows) if len(row) != len(head))
            raise UserError(
                f"{name} has {len(rows[place])} fields in row {numbers[place]} but {len(head)} columns: put commas in "
                "quotes" + (", and name all columns in the first line." if len(rows[place]) > len(head) else ".")
            )
        for texts, values in zip(packed, zip(*rows, strict=True), strict=False):
            texts.append(_packed(values, name))
        numbers, rows = next(pieces, (numbers, []))
        if not rows:
            break
        counted.append(numbers)
    table = Table({key: partial(_column, packed[i], key, name) for i, key in enumerate(head)})
    table.numbers = np.concatenate(counted)
    return table


def _pieces(file: Iterable[str], name: str) -> Iterator[tuple[np.ndarray, list[list[str]]]]:
    """(numbers from 1, fields) of rows that are not blank, many at a time; the first has the header alone or more."""
    lines = csv.reader(file, strict=True)
    first = 1
    while True:
        try:
            found = list(islice(lines, _ROWS))
        except csv.Error as error:
            raise UserError(
                f"{name} cannot be read as a CSV, in line {lines.line_num} ({error}): put text with commas or quotes "
                'in quotes, and double those in it ("").'
            ) from error
        if not found:
            return
        there = np.array(_there(found), bool)
        numbers = first + np.flatnonzero(there)
        first += len(found)
        if len(numbers):
            yield numbers, found if there.all() else [row for row, is_one in zip(found, there, strict=True) if is_one]


def _there(rows: list[list[str]]) -> list[bool]:
    """Of each row, whether some field is not blank."""
    if all(rows) and all(map(str.strip, map(itemgetter(0), rows))):
        return [True] * len(rows)
    return [any(field.strip() for field in row) for row in rows]


def _packed(values: Sequence[str], name: str) -> str:
    """Fields without surrounding blanks, as one text with NULs between them."""
    text = "\0".join(map(str.strip, values))
    if text.count("\0") != len(values) - 1:
        raise UserError(f"{name} has a NUL in it, as UTF-16 and damaged files have: save it again as CSV in UTF-8.")
    return text


def _column(packed: list[str], key: str, name: str) -> np.ndarray:
    """(N,) str, one column of the table; its fields are apart a text at a time, which takes a third of the memory."""
    n, longest = 0, 0
    for text in packed:
        values = text.split("\0")
        n, longest = n + len(values), max(longest, *map(len, values))
    check_name(longest, key, name)
    check_memory(n * (4 * longest + BYTES_A_NAME), f"The {n:,} values of {key!r} in {name}")
    column, n = np.empty(n, f"U{max(1, longest)}"), 0
    for text in packed:
        values = text.split("\0")
        column[n : n + len(values)] = values
        n += len(values)
    return column
