"""Reader for HDF5: `images` + `labels` and further arrays, or PatchCamelyon's `x` and `y`."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from cfdiff.data.raw import Raw, file_sha256
from cfdiff.data.readers.manifest import read_columns
from cfdiff.data.readers.npz import (
    GROUP_KEYS,
    as_masks,
    check_labels,
    check_layout,
    class_names,
    columns_of,
    row_ids,
)
from cfdiff.errors import UserError


def read_h5(path: Path, name: str, unlabelled: bool = False) -> Raw:
    """Images (N, H, W[, C]) that stay in the file until they are asked for.

    PatchCamelyon comes as `..._x.h5` with `x`, `..._y.h5` with `y` and `..._meta.csv` (slide names in `wsi`):
    give the x file, the others are found beside it. Where it may be `unlabelled`, labels that are not there are "".
    """
    arrays, shapes = _small_arrays(path, name)
    key = "images" if "images" in shapes else "x"
    if key not in shapes:
        raise UserError(
            f"{name} has no 'images' or 'x' but {', '.join(sorted(shapes)) or 'nothing'}: "
            f"a .h5 needs images and labels, or PatchCamelyon's x and y."
        )
    shape, dtype = shapes[key][0], shapes[key][1].newbyteorder("=")
    full = (*shape, 1) if len(shape) == 3 else shape
    check_layout(full, dtype, name)
    n = full[0]
    arrays |= _beside(path, name)
    labels = arrays.pop("labels", arrays.pop("y", None))
    if labels is None and unlabelled:
        labels = np.full(n, "")
    if labels is None:
        raise UserError(f"{name} has no 'labels' or 'y', and there is no file {_partner(path, 'y.h5').name} beside it.")
    stated = arrays.pop("classes", None)
    names = class_names(labels, stated, name, unlabelled)
    check_labels(names, n, name)
    if "masks" in shapes and shapes["masks"][0][:1] != (n,):
        raise UserError(f"{name} has masks of shape {shapes['masks'][0]} for {n} images: one mask per image is needed.")
    columns = columns_of(arrays, n)
    out_dtype = np.dtype(np.float32) if dtype.kind == "f" else dtype

    def read(rows: np.ndarray) -> np.ndarray:
        return _rows(path, key, rows, name).reshape(len(rows), *full[1:]).astype(out_dtype, copy=False)

    def read_masks(rows: np.ndarray) -> np.ndarray:
        return as_masks(_rows(path, "masks", rows, name), (len(rows), *full[1:]), name)

    return Raw(
        name=name,
        ids=row_ids(columns, n),
        labels=names,
        splits=columns.get("split"),
        shape=(full[1], full[2], full[3]),
        dtype=out_dtype,
        reader=read,
        mask_reader=read_masks if "masks" in shapes else None,
        digest=lambda: file_sha256(path),
        columns=columns,
        stated_classes=None if stated is None else tuple(stated.astype(str).tolist()),
        default_group=next((k for k in (*GROUP_KEYS, "wsi") if k in columns), None),
    )


def _small_arrays(path: Path, name: str) -> tuple[dict[str, np.ndarray], dict[str, tuple]]:
    """Labels, class names and every other dataset of one value a row; the shape and dtype of all."""
    arrays, shapes = {}, {}
    try:
        with h5py.File(path, "r") as file:
            for key, item in file.items():
                if not isinstance(item, h5py.Dataset) or item.shape is None:  # h5py.Empty has no shape
                    continue
                shapes[key] = (item.shape, item.dtype)
                # Feature matrices and the like may be larger than memory, and no column is made of them.
                a_column = item.ndim > 0 and item.size == item.shape[0]
                if a_column or key in ("labels", "y"):
                    arrays[key] = item.asstr()[...] if h5py.check_string_dtype(item.dtype) else item[...]
    except OSError as error:
        raise _unreadable(name) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{name} has a name that is not UTF-8 ({error.object!r}): save names as UTF-8.") from error
    return {k: a.astype(str) if a.dtype.kind == "O" else a for k, a in arrays.items()}, shapes


def _partner(path: Path, ending: str) -> Path:
    stem = path.name.removesuffix(path.suffix)
    return path.with_name(stem.removesuffix("x") + ending if stem.endswith("_x") else f"{stem}_{ending}")


def _beside(path: Path, name: str) -> dict[str, np.ndarray]:
    """PatchCamelyon's labels and slide names, from the files beside `..._x.h5`."""
    found: dict[str, np.ndarray] = {}
    if path.stem.endswith("_x"):
        y, meta = _partner(path, "y.h5"), _partner(path, "meta.csv")
        if y.is_file():
            found |= _small_arrays(y, y.name)[0]
        if meta.is_file():
            found |= {key: column for key, column in read_columns(meta, meta.name).items() if key}
    return found


def _rows(path: Path, key: str, rows: np.ndarray, name: str) -> np.ndarray:
    """Rows of a dataset in any order, repeated ones too. The file is opened anew: safe across processes."""
    increasing, back = np.unique(rows, return_inverse=True)
    try:
        with h5py.File(path, "r") as file:
            return file[key][increasing][back]
    except OSError as error:
        raise _unreadable(name) from error


def _unreadable(name: str) -> UserError:
    return UserError(f"{name} is not a readable HDF5 file: it may be truncated or corrupt, copy it again.")
