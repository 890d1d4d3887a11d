"""A table of captions beside the data: `id,caption`, and for people the attributes that a caption was made of."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

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
