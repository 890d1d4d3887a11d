"""A table of captions beside the data: `id,caption`, and for people the attributes that a caption was made of."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cfdiff.data.readers.table import read_columns
from cfdiff.data.source import Source
from cfdiff.data.split_file import read_by_id
from cfdiff.errors import UserError
from cfdiff.files import atomic

MAKE = "make them with cfdiff data captions, or give those of this data"


def write_captions(source: Source, captions: Sequence[str], attributes: Mapping[str, np.ndarray], out: Path) -> Path:
    """Write id, caption and the attributes of each image, whole or not at all."""
    with atomic(out) as scratch:
        out.parent.mkdir(parents=True, exist_ok=True)
        with scratch.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(["id", "caption", *attributes])
            for i, name in enumerate(source.ids):
                table.writerow([name, captions[i], *(values[i] for values in attributes.values())])
    return out


def read_captions(path: Path, source: Source) -> dict[str, str]:
    """Id -> what the table says of each image of a source; rows of images that are not in it are passed over.

    Raises:
        UserError: it cannot be read, has no such columns, says something twice or nothing, or misses an image.
    """
    said = read_by_id(path, "caption")
    own = [str(name).strip() for name in source.ids]  # as the table's are
    if absent := [name for name in own if name not in said]:
        raise UserError(
            f"{path.name} has no caption for {len(absent)} of {len(own)} images of {source.name} (the first is "
            f"{absent[0]!r}): {MAKE}."
        )
    return {str(name): said[stripped] for name, stripped in zip(source.ids, own, strict=True)}


def read_attributes(path: Path, sources: Sequence[Source]) -> dict[str, dict[str, str]]:
    """Column -> id -> value of a table with the column `id`; its other columns but `caption` are attributes.

    Raises:
        UserError: it cannot be read, has no ids or one twice, or misses an image of the sources.
    """
    columns = read_columns(path, path.name)
    if "id" not in columns:
        raise UserError(
            f"{path.name} has no column 'id' but {', '.join(columns) or 'none'}: it needs id and attributes."
        )
    ids = columns["id"].tolist()
    if len(set(ids)) < len(ids):
        raise UserError(f"{path.name} has an id more than once: leave one row for each image.")
    for source in sources:
        if absent := [str(name) for name in source.ids if str(name).strip() not in set(ids)]:
            raise UserError(
                f"{path.name} says nothing of {len(absent)} of {len(source)} images of {source.name} (the first is "
                f"{absent[0]!r}): {MAKE}."
            )
    stripped = {str(name).strip(): str(name) for source in sources for name in source.ids}
    return {
        name: {stripped.get(i, i): str(value) for i, value in zip(ids, values.tolist(), strict=True)}
        for name, values in ((name, columns[name]) for name in columns)
        if name not in ("id", "caption")
    }
