"""Reader for a folder of PatchCamelyon as it is handed out: an x, a y, a mask and a meta file for each split."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from cfdiff.data.columns import Columns
from cfdiff.data.fit import Fit
from cfdiff.data.raw import Format, Raw
from cfdiff.data.readers.hdf5 import read_h5
from cfdiff.data.source import Reader
from cfdiff.errors import UserError

SPLITS = {"train": "train", "valid": "val", "test": "test"}
"""What the files call a split -> what it is called here."""
NAME = re.compile(rf"camelyonpatch_level_2_split_({'|'.join(SPLITS)})_x\.h5")


def read_pcam(folder: Path, name: str, fit: Fit | None = None, unlabelled: bool = False) -> Raw:
    """All splits that lie in a folder as one source; ids are `train/000123`, the slide (`wsi`) is the group."""
    parts = {}
    for file, split in SPLITS.items():
        path = folder / f"camelyonpatch_level_2_split_{file}_x.h5"
        if path.is_file():
            parts[split] = read_h5(path, f"{name}/{path.name}", None, unlabelled)
    raws = list(parts.values())
    first = raws[0]
    for raw in raws:
        if (raw.shape, raw.dtype) != (first.shape, first.dtype):
            raise UserError(
                f"{raw.name} holds {raw.shape} of {raw.dtype} but {first.name} {first.shape}: copy it again."
            )
    starts = np.cumsum([0, *(len(raw.ids) for raw in raws)])
    keys = [key for key in first.columns if key not in ("", "id", "split") and all(key in raw.columns for raw in raws)]
    columns = Columns({key: lambda key=key: np.concatenate([raw.columns[key] for raw in raws]) for key in keys})  # type: ignore[misc]
    masks = [raw.mask_reader for raw in raws if raw.mask_reader is not None]
    lacking = [raw.name for raw in raws if raw.mask_reader is None]
    return replace(
        first,
        name=name,
        ids=np.concatenate([[f"{split}/{i}" for i in raw.ids] for split, raw in parts.items()]),
        labels=np.concatenate([raw.labels for raw in raws]),
        splits=np.repeat(list(parts), np.diff(starts)),
        reader=_joined([raw.reader for raw in raws], starts),
        mask_reader=None if lacking else _joined(masks, starts),
        digest=lambda rows: " ".join(
            raw.digest(rows[(a <= rows) & (rows < b)] - a)
            for raw, a, b in zip(raws, starts[:-1], starts[1:], strict=True)
            if ((a <= rows) & (rows < b)).any()
        ),
        columns=columns,
        default_group=first.default_group if first.default_group in keys else None,
        notes=(f"Masks are not used, as {lacking[0]} has none.",) if lacking and masks else (),
    )


def _joined(readers: list[Reader], starts: np.ndarray) -> Reader:
    """One reader of rows that lie one part after the other."""

    def read(rows: np.ndarray) -> np.ndarray:
        part = np.searchsorted(starts, rows, side="right") - 1
        pieces = [readers[k](rows[part == k] - starts[k]) for k in np.unique(part)]
        out = np.empty((len(rows), *pieces[0].shape[1:]), pieces[0].dtype)
        for k, piece in zip(np.unique(part), pieces, strict=True):
            out[part == k] = piece
        return out

    return read


FORMAT = Format(lambda path: path.is_dir() and any(NAME.fullmatch(entry.name) for entry in path.iterdir()), read_pcam)
