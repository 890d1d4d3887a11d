"""The table beside a folder of bags: the case, class, split and mix of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cfdiff.data.names import fold
from cfdiff.data.readers.table import read_columns
from cfdiff.errors import UserError

TABLE = "dataset.csv"
NAME = ("slide_id", "bag", "slide", "wsi", "name", "filename")
CASE = ("case_id", "patient", "group", "case")
CLASS = ("label", "class", "target")
"""What the columns of a table are called, by those who write them; the first that is there counts."""
NOTHING = frozenset({"", "nan", "na", "n/a", "<na>", "none", "null"})
"""What tables write, folded, where a value is missing."""


@dataclass(frozen=True)
class Row:
    """What a table says of a bag; "" where it says nothing, and None of `edited`."""

    case: str
    label: str
    split: str
    edited: bool | None = None
    mix_of: str = ""
    requested: str = ""


def read_table(path: Path, required: bool) -> dict[str, Row] | None:
    """What a table says of each bag, by its name; None where there is none and none is required.

    Raises:
        UserError: it is not there, has no column of bags (or, where it is required, of classes), or names one twice.
    """
    if not path.is_file():
        if required:
            raise UserError(f"There is no table {str(path)!r} for --labels: give a .csv of slide_id,label.")
        return None
    table = read_columns(path, path.name)
    name, case, label = (next((c for c in known if c in table), None) for known in (NAME, CASE, CLASS))
    if name is None or (required and label is None):
        raise UserError(f"{path.name} needs the columns slide_id and label: it has {', '.join(table) or 'none'}.")
    names = table[name].tolist()
    kinds = (case, label, *(key if key in table else None for key in ("split", "mix_of", "requested")))
    values = [[""] * len(names) if key is None else table[key].tolist() for key in kinds]
    rows: dict[str, Row] = {}
    for bag, edited, *said in zip(map(_stem, names), _edited(table, case, names), *values, strict=True):
        known = ["" if fold(word) in NOTHING else word for word in said]
        row = Row(known[0], known[1], known[2], edited, known[3], known[4])
        if rows.setdefault(bag, row) != row:
            raise UserError(f"{path.name} names the bag {bag!r} twice, and not alike: leave one row for each bag.")
    return rows


def _edited(table: Mapping[str, np.ndarray], case: str | None, names: list[str]) -> list[bool | None]:
    """Whether an instance of each bag was edited, by a table of `cfdiff bag --export`; None where it does not say.

    Before it had the column, of a case with several mixes all but one had to be edited, and which is not said.
    """
    if "requested" not in table:
        return [None] * len(names)
    if "edited" in table:
        return [word not in ("0", "") for word in table["edited"].tolist()]
    cases = names if case is None else table[case].tolist()
    times = Counter(cases)
    return [True if times[one] > 1 else None for one in cases]


def _stem(name: str) -> str:
    """A slide's name without the ending of its image or features."""
    known = (".h5", ".pt", ".npy", ".npz", ".svs", ".tif", ".tiff", ".ndpi", ".mrxs")
    return next((name[: -len(end)] for end in known if name.lower().endswith(end)), name)
