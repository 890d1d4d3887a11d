"""A table of splits beside the data: `id,split`, and for people `group,label`. It stands in place of the data's own."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from cfdiff.data.readers.table import read_columns
from cfdiff.data.source import OTHER, Source
from cfdiff.errors import UserError
from cfdiff.files import atomic, is_there


def check_table(out: Path, data: str | Path, force: bool, what: str) -> None:
    """Raise UserError unless `out` can be written: a .csv, not the data, and not there yet unless with `force`."""
    if out.suffix.lower() != ".csv":
        raise UserError(f"{out.name} is no .csv: {what} are written as one, name it {out.stem}.csv.")
    if out.exists() and is_there(Path(data)) and out.samefile(data):
        raise UserError(f"{out.name} is the data itself: choose another name for the {what}.")
    if out.exists() and not force:
        raise UserError(f"{out.name} exists already: choose another name or overwrite it with --force.")


def write_splits(source: Source, splits: np.ndarray, out: Path) -> Path:
    """Write id, split (N,), group and label of each image, whole or not at all."""
    names = {0: source.classes[0], 1: source.classes[1], OTHER: ""}
    with atomic(out) as scratch:
        out.parent.mkdir(parents=True, exist_ok=True)
        with scratch.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(["id", "split", *([] if source.groups is None else ["group"]), "label"])
            for i, (name, split, label) in enumerate(zip(source.ids, splits, source.labels.tolist(), strict=True)):
                table.writerow([name, split, *([] if source.groups is None else [source.groups[i]]), names[label]])
    return out


def read_by_id(path: Path, key: str) -> dict[str, str]:
    """Id -> what a table with the columns `id` and `key` says of it.

    Raises:
        UserError: it cannot be read, has no such columns, or says something twice or nothing.
    """
    columns = read_columns(path, path.name)
    if missing := [needed for needed in ("id", key) if needed not in columns]:
        raise UserError(
            f"{path.name} has no column {missing[0]!r} but {', '.join(columns) or 'none'}: it needs id,{key}."
        )
    said: dict[str, str] = {}
    for name, value in zip(columns["id"].tolist(), columns[key].tolist(), strict=True):
        if name in said:
            raise UserError(f"{path.name} has the id {name!r} more than once: leave one row for each image.")
        if not value:
            raise UserError(f"{path.name} has no {key} for {name!r}: fill it in or remove the row.")
        said[name] = value
    return said


def read_splits(path: Path, source: Source) -> np.ndarray:
    """(N,) str, what the table says of each image of a source; "" for one of another class that it does not list.

    Raises:
        UserError: it cannot be read, lists an image twice or one that is not there, or misses one.
    """
    said = read_by_id(path, "split")
    own = [str(name).strip() for name in source.ids]  # as the table's are
    if unknown := sorted(said.keys() - set(own)):
        raise UserError(
            f"{path.name} lists {len(unknown)} images that {source.name} has not (the first is {unknown[0]!r}): "
            "give the splits of this data, or make them with cfdiff data split."
        )
    absent = [
        name for name, label in zip(own, source.labels.tolist(), strict=True) if name not in said and label != OTHER
    ]
    if absent:
        raise UserError(
            f"{path.name} does not list {len(absent)} images of {source.name} (the first is {absent[0]!r}): "
            "give the splits of this data, or make them with cfdiff data split."
        )
    return np.array([said.get(name, "") for name in own], dtype=str)
