"""Reader for NumPy .npz: `images` + `labels` and further arrays, or the MedMNIST keys with their splits."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np

from cfdiff.data.arrays import as_images, as_masks, check_layout, check_masks
from cfdiff.data.columns import KNOWN, Columns, as_row, as_text, check_labels, class_names, is_column, row_ids
from cfdiff.data.fit import Fit
from cfdiff.data.raw import Format, Raw, whole_files
from cfdiff.data.readers.archive import Archive, Header
from cfdiff.data.readers.medmnist import classes_of
from cfdiff.errors import UserError

MEDMNIST_SPLITS = ("train", "val", "test")
GROUP_KEYS = ("patient", "group")


def read_npz(path: Path, name: str, classes: list[str] | None = None, unlabelled: bool = False) -> Raw:
    """All images of a .npz, held in memory in their stored dtype; other arrays are read when they are asked for.

    `classes` names the integer labels of a file that does not name them itself. Where it may be `unlabelled`, labels
    that are not there are "".

    `images` (N, H, W) or (N, H, W, C); `labels` (N,) or (N, 1), integers or names, `classes` may name the
    integers; `id` or `name` become ids, `split` splits, `masks` (N, H, W) or bit-packed (N, H, W / 8) masks.
    """
    archive = Archive(path, name)
    arrays = _lazy(archive)
    known: tuple[str, ...] | None = None  # names whose order says nothing of which is positive
    if "images" not in arrays and any(f"{s}_images" in arrays for s in MEDMNIST_SPLITS):
        arrays = _join_medmnist(arrays, name)
        if classes is None and "classes" not in arrays:
            known = classes_of(path.stem)
    if unlabelled and "images" in arrays and "labels" not in arrays:
        n = arrays["images"].header.shape[0]
        arrays["labels"] = Lazy(Header((n,), np.dtype("<U1")), lambda: np.full(n, ""))
    for key in ("images", "labels"):
        if key not in arrays:
            raise UserError(
                f"{name} has no array {key!r} but {', '.join(sorted(arrays)) or 'nothing'}: a .npz needs "
                f"'images' and 'labels', or the MedMNIST keys 'train_images', 'train_labels' and so on."
            )
    shape = arrays["images"].header.shape
    full = (*shape, 1) if len(shape) == 3 else shape
    check_layout(full, arrays["images"].header.dtype, name)
    n = full[0]
    names = as_row(arrays["classes"].load()) if "classes" in arrays else None if classes is None else np.array(classes)
    labels = class_names(arrays["labels"].load(), names if known is None else np.array(known), name, unlabelled)
    check_labels(labels, n, name)
    masks = arrays.get("masks")
    if masks is not None:
        check_masks(masks.header.shape, masks.header.dtype, full, name)
    columns = _columns(arrays, n, name)
    images = as_images(arrays["images"].load(), name)

    @cache
    def all_masks() -> np.ndarray:
        assert masks is not None
        return as_masks(masks.load(), full, name)

    return Raw(
        name=name,
        ids=row_ids(columns, n),
        labels=labels,
        splits=columns.get("split"),
        shape=(full[1], full[2], full[3]),
        dtype=images.dtype,
        reader=lambda rows: images[rows],
        mask_reader=None if masks is None else lambda rows: all_masks()[rows],
        digest=whole_files([path]),
        files=lambda rows: [path],
        columns=columns,
        stated_classes=None if names is None else tuple(as_text(names, "classes", name).tolist()),
        default_group=next((key for key in GROUP_KEYS if key in columns), None),
    )


class Lazy:
    """An array that is known by its header until it is asked for."""

    def __init__(self, header: Header, load: Callable[[], np.ndarray]) -> None:
        self.header, self.load = header, load


def _lazy(archive: Archive) -> dict[str, Lazy]:
    return {key: Lazy(header, partial(archive.load, key)) for key, header in archive.headers.items()}


def _columns(arrays: dict[str, Lazy], n: int, name: str) -> Columns:
    """The arrays with a value an image."""
    return Columns(
        {
            key: lambda key=key, lazy=lazy: as_text(as_row(lazy.load()), key, name)  # type: ignore[misc]
            for key, lazy in arrays.items()
            if key not in ("images", "labels", "masks", "classes")
            and is_column(lazy.header.shape, lazy.header.dtype, n, key, name)
        }
    )


def _join_medmnist(arrays: dict[str, Lazy], name: str) -> dict[str, Lazy]:
    """The arrays of all splits one after the other, and `split` and `id`.

    Raises:
        UserError: a split lacks labels, or images, masks or a known column are not alike in all splits.
    """
    parts = [s for s in MEDMNIST_SPLITS if f"{s}_images" in arrays]
    sizes = []
    for s in parts:
        images, labels = arrays[f"{s}_images"].header.shape, arrays.get(f"{s}_labels")
        if labels is None or labels.header.shape[:1] != images[:1]:
            raise UserError(f"{name} needs one label per image in '{s}_labels': it is missing or has another length.")
        sizes.append(images[0])
    shapes = {s: arrays[f"{s}_images"].header.shape[1:] for s in parts}
    if len(set(shapes.values())) > 1:
        shown = ", ".join(f"{s} {shape}" for s, shape in shapes.items())
        raise UserError(f"{name} has splits with images of different shapes ({shown}): give them one size.")
    wide = {s: arrays[f"{s}_labels"].header.shape for s in parts}
    if any(math.prod(shape) != n for shape, n in zip(wide.values(), sizes, strict=True)):
        raise UserError(f"{name} has labels of shape {wide}: one class per image is needed, shape (N,) or (N, 1).")

    def joined(key: str) -> Lazy:
        pieces = [arrays[f"{s}_{key}"] for s in parts]
        tail = () if key not in ("images", "masks") else pieces[0].header.shape[1:]
        load = (lambda p: p.load()) if tail else (lambda p: p.load().reshape(-1))
        try:
            dtype = np.result_type(*(p.header.dtype for p in pieces))
        except TypeError as error:
            types = ", ".join(f"{s} {p.header.dtype}" for s, p in zip(parts, pieces, strict=True))
            raise UserError(f"{name} has splits with {key} of different types ({types}): save them alike.") from error
        header = Header((sum(sizes), *tail), dtype)
        return Lazy(header, lambda: np.concatenate([load(p) for p in pieces]))

    found = {key: joined(key) for key in ("images", "labels")}
    for key in dict.fromkeys(k.removeprefix(f"{s}_") for s in parts for k in arrays if k.startswith(f"{s}_")):
        if key in (*found, "id", "split"):
            continue
        there = [s for s in parts if f"{s}_{key}" in arrays]
        if key in (*KNOWN, "masks") and len(there) < len(parts):
            missing = ", ".join(f"'{s}_{key}'" for s in parts if s not in there)
            raise UserError(f"{name} has '{there[0]}_{key}' but not {missing}: give all splits one, or none.")
        headers = [(s, n, arrays[f"{s}_{key}"].header) for s, n in zip(parts, sizes, strict=True) if s in there]
        if key == "masks":
            for s, n, header in headers:
                check_masks(header.shape, header.dtype, (n, *shapes[s][:2]), name)
            if len({header.shape[1:] for _, _, header in headers}) == 1:
                found[key] = joined(key)
        elif len(there) == len(parts) and all([_alike(header, n, s, key, name) for s, n, header in headers]):
            found[key] = joined(key)
    ids = [f"{s}/{i:06d}" for s, n in zip(parts, sizes, strict=True) for i in range(n)]
    for key, values in (("split", np.repeat(parts, sizes)), ("id", np.array(ids))):
        found[key] = Lazy(Header(values.shape, values.dtype), lambda values=values: values)  # type: ignore[misc]
    return found | ({"classes": arrays["classes"]} if "classes" in arrays else {})


def _alike(header: Header, n: int, split: str, key: str, name: str) -> bool:
    where = f"The split {split} of {name}" if key in KNOWN else name
    return is_column(header.shape, header.dtype, n, key, where)


def _read(path: Path, name: str, fit: Fit | None, unlabelled: bool) -> Raw:
    return read_npz(path, name, unlabelled=unlabelled)


FORMAT = Format(lambda path: path.is_file() and path.suffix.lower() == ".npz", _read)
