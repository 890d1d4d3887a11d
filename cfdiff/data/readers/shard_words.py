"""What the members of a WebDataset shard are, by their names, and the words in them."""

from __future__ import annotations

import os
from array import array
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cfdiff.data.columns import as_text
from cfdiff.data.limits import BYTES_A_NAME, check_memory
from cfdiff.data.readers.images import SUFFIXES
from cfdiff.data.readers.tar_index import Member
from cfdiff.errors import UserError
from cfdiff.files import parse_json

IMAGES = frozenset(
    before + suffix[1:] for suffix in (*SUFFIXES, ".webp") for before in ("", "image.", "img.", "input.")
)
MASKS = frozenset(f"{word}{suffix}" for suffix in (".png", ".tif", ".tiff", ".bmp") for word in ("mask", "seg"))
CLASSES = ("cls", "label", "class", "cls.txt", "label.txt")
LABELS = ("label", "class", "cls")
"""What the class is called in the JSON of an image; a member of CLASSES goes before it."""
LONGEST = 64 << 10
"""Bytes of a class or of the JSON of an image."""
IMAGE, MASK, CLASS, JSON, OTHER = range(5)


class Words:
    """A column as it is found: of some rows a text each. Each different text is kept once."""

    def __init__(self) -> None:
        self._rows, self._codes = array("q"), array("q")
        self._texts: dict[str, int] = {}

    def add(self, row: int, text: str) -> None:
        """What one row says."""
        self._rows.append(row)
        self._codes.append(self._code(text))

    def add_all(self, rows: np.ndarray, texts: list[str], which: np.ndarray) -> None:
        """What many rows (M,) int64 say: (M,) which of `texts`."""
        codes = np.array([self._code(text) for text in texts], np.int64)
        self._rows.frombytes(rows.tobytes())
        self._codes.frombytes(codes[which].tobytes())

    def _code(self, text: str) -> int:
        return self._texts.setdefault(text, len(self._texts))

    def column(self, n: int, key: str, where: str) -> np.ndarray:
        """(N,) str, "" where nothing is said."""
        texts = as_text(np.array([*self._texts, ""], object), key, where)
        check_memory(n * (texts.dtype.itemsize + BYTES_A_NAME), f"The {n:,} values of {key!r} in {where}")
        codes = np.full(n, len(self._texts))
        codes[np.frombuffer(self._rows, np.int64)] = np.frombuffer(self._codes, np.int64)
        return texts[codes]


class Said(NamedTuple):
    """What the JSON of an image says in words and numbers, by column, "" its class; and whether it names several."""

    words: dict[str, str]
    several: bool


def json_of(path: Path, member: Member) -> Said:
    """What the JSON of an image says."""
    name, where = member[0], path.name
    try:
        found = parse_json(text_of(path, member))
    except ValueError as error:
        raise UserError(f"{name} in {where} is no JSON: correct it.") from error
    if not isinstance(found, dict):
        raise UserError(f'{name} in {where} is no JSON object with columns: write it as {{"label": ...}}.')
    several = any(isinstance(found.get(key), list | dict) for key in LABELS)
    numbers = {key: int(value) if isinstance(value, bool) else value for key, value in found.items()}
    plain = {key: str(value) for key, value in numbers.items() if isinstance(value, str | int | float)}
    label = next((plain[key] for key in LABELS if key in plain), None)
    return Said(plain if label is None else {**plain, "": label}, several)


def text_of(path: Path, member: Member) -> str:
    """The text in a member of the shard at `path`."""
    name, place, size, data = member
    where = path.name
    if size > LONGEST:
        raise UserError(f"{name} in {where} has {size:,} bytes, and {LONGEST:,} are the most of such a file.")
    if len(data) < size:
        with path.open("rb") as file:
            file.seek(place)
            data = file.read(size)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{name} in {where} is no text in UTF-8: correct it.") from error


def kind_of(ending: str) -> int:
    """What a member is whose name goes on with these (small) letters behind its first dot."""
    if ending in IMAGES:
        return IMAGE
    if ending in MASKS:
        return MASK
    return CLASS if ending in CLASSES else JSON if ending == "json" else OTHER


def suffix(name: str) -> str:
    """What is counted of a member that is not read."""
    return os.path.splitext(name)[1] or "no suffix"
