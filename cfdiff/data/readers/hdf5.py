"""Reader for HDF5: `images` + `labels` and further arrays, or PatchCamelyon's `x` and `y`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from cfdiff.data.arrays import as_masks, check_layout, check_masks
from cfdiff.data.columns import (
    KNOWN,
    Columns,
    as_row,
    as_text,
    check_labels,
    class_names,
    is_column,
    is_row,
    row_ids,
    several_labels,
)
from cfdiff.data.fit import Fit
from cfdiff.data.limits import BYTES_A_NAME, check_memory
from cfdiff.data.raw import Format, Raw, whole_files
from cfdiff.data.readers.datasets import Dataset, list_datasets, read_whole, rows_of
from cfdiff.data.readers.encoded import EncodedImages
from cfdiff.data.readers.table import read_columns
from cfdiff.errors import UserError

GROUP_KEYS = ("patient", "group", "wsi")
OWN = ("images", "x", "labels", "y", "masks", "classes")


def read_h5(path: Path, name: str, fit: Fit | None = None, unlabelled: bool = False) -> Raw:
    """Images (N, H, W[, C]), or (N,) encoded as JPEG or PNG, that stay in the file until they are asked for.

    PatchCamelyon comes as `..._x.h5` with `x`, `..._y.h5` with `y`, `..._mask.h5` with `mask` and `..._meta.csv` (slide
    names in `wsi`): give the x file, the others are found beside it. Where it may be `unlabelled`, labels that are not
    there are "".
    """
    found = list_datasets(path, name)
    key = "images" if "images" in found else "x"
    if key not in found:
        refuse_features(found, name)
        raise UserError(
            f"{name} has no 'images' or 'x' but {', '.join(sorted(found)) or 'nothing'}: "
            f"a .h5 needs images and labels, or PatchCamelyon's x and y."
        )
    encoded = found[key].encoded and len(found[key].shape) == 1 and 0 not in found[key].shape
    shape, dtype = found[key].shape, found[key].dtype.newbyteorder("=")
    full = (*shape, 1) if len(shape) == 3 else shape
    if not encoded:
        check_layout(full, dtype, name)
    n = full[0]
    beside, meta, mask_file = _beside(path)
    others = {} if beside is None else list_datasets(beside, beside.name)
    everything = {**found, **others}
    labels_of = everything.get("labels", everything.get("y"))
    if labels_of is not None:
        labels = _labels(labels_of)
    elif unlabelled:
        labels = np.full(n, "")
    else:
        raise UserError(f"{name} has no 'labels' or 'y', and there is no file {_partner(path, 'y.h5').name} beside it.")
    stated = as_row(read_whole(everything["classes"])) if "classes" in everything else None
    names = class_names(labels, stated, name, unlabelled)
    check_labels(names, n, name)
    columns = _columns(everything, meta, n)
    files = EncodedImages(found[key], row_ids(columns, n), fit) if encoded else None
    if files is not None:
        full, dtype = (n, *files.shape), files.dtype
    masks = found.get("masks")
    if masks is None and mask_file is not None:
        masks = list_datasets(mask_file, mask_file.name).get("mask")
        if masks is not None and masks.shape == (n, full[1], full[2], 1):
            masks = replace(masks, shape=masks.shape[:3])
    if masks is not None:
        check_masks(masks.shape, masks.dtype, full, name)
    out_dtype = np.dtype(np.float32) if dtype.kind == "f" else dtype

    def read(rows: np.ndarray) -> np.ndarray:
        return rows_of(found[key], rows).reshape(len(rows), *full[1:]).astype(out_dtype, copy=False)

    def read_masks(rows: np.ndarray) -> np.ndarray:
        assert masks is not None
        return as_masks(rows_of(masks, rows).reshape(len(rows), *masks.shape[1:]), (len(rows), *full[1:]), name)

    all_files = [file for file in (path, beside, meta, mask_file) if file is not None]
    return Raw(
        name=name,
        ids=row_ids(columns, n),
        labels=names,
        splits=columns.get("split"),
        shape=(full[1], full[2], full[3]),
        dtype=out_dtype,
        reader=read if files is None else files.read,
        mask_reader=None if masks is None else read_masks,
        digest=whole_files(all_files),
        files=lambda rows: all_files,
        columns=columns,
        stated_classes=None if stated is None else tuple(as_text(stated, "classes", name).tolist()),
        default_group=next((k for k in GROUP_KEYS if k in columns), None),
        notes=() if files is None else files.notes,
    )


def refuse_features(found: Mapping[str, Dataset], name: str) -> None:
    """Raise UserError for the places or features of tiles that others have cut (CLAM, TRIDENT)."""
    if not {"coords", "features"}.isdisjoint(found):
        raise UserError(
            f"{name} has {', '.join(sorted(found))} of tiles (CLAM, TRIDENT) and no images: give it to cfdiff mil, or "
            "the slides or tiles themselves here."
        )


def _labels(dataset: Dataset) -> np.ndarray:
    """The labels as they stand there; UserError where they cannot be one a row, said before they are read."""
    if not is_row(dataset.shape) and dataset.shape:
        raise several_labels(dataset.shape, dataset.where)
    size = math.prod(dataset.shape) * (dataset.dtype.itemsize + BYTES_A_NAME)
    check_memory(size, f"The {math.prod(dataset.shape):,} labels that {dataset.where} claims to hold")
    return as_row(read_whole(dataset))


def _columns(datasets: Mapping[str, Dataset], meta: Path | None, n: int) -> Columns:
    """The data sets with a value an image, and PatchCamelyon's table."""
    loaders: dict[str, Callable[[], np.ndarray]] = {}
    for key, dataset in datasets.items():
        if key not in OWN and is_column(dataset.shape, dataset.dtype, n, key, dataset.where, dataset.text):
            loaders[key] = lambda key=key, dataset=dataset: as_text(  # type: ignore[misc]
                as_row(read_whole(dataset)), key, dataset.where
            )
    for key, column in {} if meta is None else read_columns(meta, meta.name).items():
        if len(column) == n and key:
            loaders[key] = lambda column=column: column  # type: ignore[misc]
        elif key in (*KNOWN, "wsi"):
            raise UserError(f"{meta.name if meta else ''} has {len(column)} rows for {n} images: take the whole table.")
    return Columns(loaders)


def _partner(path: Path, ending: str) -> Path:
    stem = path.name.removesuffix(path.suffix)
    return path.with_name(stem.removesuffix("x") + ending if stem.endswith("_x") else f"{stem}_{ending}")


def _beside(path: Path) -> tuple[Path | None, Path | None, Path | None]:
    """PatchCamelyon's labels, table of slides and masks, beside `..._x.h5`; None for what is not there."""
    if not path.stem.endswith("_x"):
        return None, None, None
    y, meta, mask = (_partner(path, ending) for ending in ("y.h5", "meta.csv", "mask.h5"))
    return (y if y.is_file() else None), (meta if meta.is_file() else None), (mask if mask.is_file() else None)


FORMAT = Format(lambda path: path.is_file() and path.suffix.lower() in (".h5", ".hdf5"), read_h5)
