"""Reader for NumPy .npz: `images` + `labels` and further arrays, or the MedMNIST keys with their splits."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from cfdiff.data.raw import Raw, file_sha256, numbered_if_repeated
from cfdiff.data.source import check_float_range
from cfdiff.errors import UserError

MEDMNIST_SPLITS = ("train", "val", "test")
GROUP_KEYS = ("patient", "group")


def read_npz(path: Path, name: str, classes: list[str] | None = None, unlabelled: bool = False) -> Raw:
    """All images of a .npz, held in memory in their stored dtype.

    `classes` names the integer labels of a file that does not name them itself. Where it may be `unlabelled`, labels
    that are not there are "".

    `images` (N, H, W) or (N, H, W, C); `labels` (N,) or (N, 1), integers or names, `classes` may name the
    integers; `id` or `name` become ids, `split` splits, `masks` (N, H, W) or bit-packed (N, H, W / 8) masks.
    """
    arrays = _load(path, name)
    if "images" not in arrays and any(f"{s}_images" in arrays for s in MEDMNIST_SPLITS):
        arrays = _join_medmnist(arrays, name)
    if unlabelled and "images" in arrays and "labels" not in arrays:
        arrays["labels"] = np.full(len(arrays["images"]), "")
    for key in ("images", "labels"):
        if key not in arrays:
            raise UserError(
                f"{name} has no array {key!r} but {', '.join(sorted(arrays)) or 'nothing'}: a .npz needs "
                f"'images' and 'labels', or the MedMNIST keys 'train_images', 'train_labels' and so on."
            )
    images = as_images(arrays.pop("images"), name)
    names = arrays.pop("classes", None if classes is None else np.array(classes))
    labels = class_names(arrays.pop("labels"), names, name, unlabelled)
    masks = arrays.pop("masks", None)
    check_labels(labels, len(images), name)
    if masks is not None:
        masks = as_masks(masks, images.shape, name)
    columns = columns_of(arrays, len(images))
    return Raw(
        name=name,
        ids=row_ids(columns, len(images)),
        labels=labels,
        splits=columns.get("split"),
        shape=(images.shape[1], images.shape[2], images.shape[3]),
        dtype=images.dtype,
        reader=lambda rows: images[rows],
        mask_reader=None if masks is None else lambda rows: masks[rows],
        digest=lambda: file_sha256(path),
        columns=columns,
        stated_classes=None if names is None else tuple(names.astype(str).tolist()),
        default_group=next((key for key in GROUP_KEYS if key in columns), None),
    )


def _load(path: Path, name: str) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise UserError(f"{name} is a single .npy array: save images and labels with np.savez_compressed.")
            loaded = {key: file[key] for key in file.files}
            return {key: array for key, array in loaded.items() if isinstance(array, np.ndarray)}
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise UserError(
                f"{name} holds pickled Python objects, which are refused because they can run code: "
                f"save plain arrays with np.savez_compressed."
            ) from error
        raise UserError(f"{name} is not a readable .npz ({error}): it may be truncated, copy it again.") from error
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, AttributeError) as error:
        raise UserError(f"{name} is not a readable .npz: it may be truncated or corrupt, copy it again.") from error


def _join_medmnist(arrays: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    parts = [s for s in MEDMNIST_SPLITS if f"{s}_images" in arrays]
    for s in parts:
        if f"{s}_labels" not in arrays or len(arrays[f"{s}_labels"]) != len(arrays[f"{s}_images"]):
            raise UserError(f"{name} needs one label per image in '{s}_labels': it is missing or has another length.")
    shapes = {s: arrays[f"{s}_images"].shape[1:] for s in parts}
    if len(set(shapes.values())) > 1:
        shown = ", ".join(f"{s} {shape}" for s, shape in shapes.items())
        raise UserError(f"{name} has splits with images of different shapes ({shown}): give them one size.")
    sizes = [len(arrays[f"{s}_images"]) for s in parts]
    columns = [_columns_of_split(arrays, s, n) for s, n in zip(parts, sizes, strict=True)]
    joined = {key: np.concatenate([each[key] for each in columns]) for key in set.intersection(*map(set, columns))} | {
        "images": np.concatenate([arrays[f"{s}_images"] for s in parts]),
        "split": np.repeat(parts, sizes),
        "id": np.array([f"{s}/{i:06d}" for s, n in zip(parts, sizes, strict=True) for i in range(n)]),
    }
    if "labels" not in joined:
        shapes = {s: arrays[f"{s}_labels"].shape for s in parts}
        raise UserError(f"{name} has labels of shape {shapes}: one class per image is needed, shape (N,) or (N, 1).")
    return joined | ({"classes": arrays["classes"]} if "classes" in arrays else {})


def _columns_of_split(arrays: dict[str, np.ndarray], split: str, n: int) -> dict[str, np.ndarray]:
    """`labels`, and any further array `SPLIT_name` with one entry an image, as (n,)."""
    of_split = {key.removeprefix(f"{split}_"): a for key, a in arrays.items() if key.startswith(f"{split}_")}
    return {key: a.reshape(n) for key, a in of_split.items() if a.ndim in (1, 2) and a.size == len(a) == n}


def as_images(images: np.ndarray, name: str) -> np.ndarray:
    """Images (N, H, W[, C]) as (N, H, W, C) of uint8, uint16 or float32 in [0, 1]; UserError otherwise."""
    if images.ndim == 3:
        images = images[..., None]
    images = images.astype(images.dtype.newbyteorder("="), copy=False)
    check_layout(images.shape, images.dtype, name)
    if images.dtype.kind == "f":
        images = images.astype(np.float32)
        check_float_range(images, name)
    return images


def check_layout(shape: tuple[int, ...], dtype: np.dtype, name: str) -> None:
    """Raise UserError unless (N, H, W, C) with 1 or 3 channels, not empty, of a pixel type we know."""
    if len(shape) != 4 or shape[3] not in (1, 3):
        raise UserError(f"{name} has images of shape {tuple(shape)}: (N, H, W) or (N, H, W, 3) is needed.")
    if 0 in shape:
        raise UserError(f"{name} is empty: its images have shape {tuple(shape)}.")
    if dtype not in (np.uint8, np.uint16) and dtype.kind != "f":
        raise UserError(f"{name} has pixels of type {dtype}: save them as uint8, uint16, or float in [0, 1].")


def as_masks(masks: np.ndarray, shape: tuple[int, ...], name: str) -> np.ndarray:
    """Masks (N, H, W) bool from (N, H, W), (N, H, W, 1) or bit-packed rows (N, H, ceil(W / 8))."""
    n, h, w = shape[:3]
    if masks.shape == (n, h, -(-w // 8)) and masks.dtype == np.uint8 and w > 1:
        return np.unpackbits(masks, axis=-1, count=w).astype(bool)
    if masks.shape in ((n, h, w), (n, h, w, 1)):
        return masks.reshape(n, h, w) != 0
    raise UserError(f"{name} has masks of shape {masks.shape} for images of {h}x{w}: one mask per image is needed.")


def class_names(labels: np.ndarray, classes: np.ndarray | None, name: str, unlabelled: bool = False) -> np.ndarray:
    """Labels (N,) or (N, 1), integers, booleans or strings, as class names (N,) str; "" for -1, where it may be."""
    if classes is not None and classes.ndim != 1:
        raise UserError(f"{name} has 'classes' of shape {classes.shape}: one name per label is needed, shape (K,).")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    elif labels.ndim > 1 and labels.size == len(labels):
        labels = labels.reshape(len(labels))
    if labels.ndim != 1:
        raise UserError(f"{name} has labels of shape {labels.shape}: one class per image is needed, shape (N,).")
    if labels.dtype.kind == "f":
        if not (np.isfinite(labels).all() and np.array_equal(labels, np.rint(labels))):
            raise UserError(f"{name} has labels that are not whole numbers: store a class per image, 0 or 1.")
        labels = labels.astype(np.int64)
    if labels.dtype.kind == "b":
        labels = labels.astype(np.uint8)
    if classes is not None and labels.dtype.kind in "iu":
        if labels.size and not (-1 if unlabelled else 0) <= labels.min() <= labels.max() < len(classes):
            raise UserError(
                f"{name} has labels from {labels.min()} to {labels.max()} but names {len(classes)} 'classes'."
            )
        return np.where(labels < 0, "", classes.astype(str)[labels])
    return as_text(labels)


def check_labels(labels: np.ndarray, n: int, name: str) -> None:
    """Raise UserError unless there is one label per image."""
    if len(labels) != n:
        raise UserError(f"{name} has {n} images but {len(labels)} labels: there must be one for each.")


def as_text(values: np.ndarray) -> np.ndarray:
    """Any one-dimensional column as str, bytes decoded; UserError for bytes that are not UTF-8."""
    try:
        return np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values.astype(str)
    except UnicodeDecodeError as error:
        raise UserError(f"A name in the data is not UTF-8 ({error.object!r}): save names as UTF-8 text.") from error


def columns_of(arrays: dict[str, np.ndarray], n: int) -> dict[str, np.ndarray]:
    """The one-dimensional arrays with an entry per image, as str."""
    return {key: as_text(a.reshape(n)) for key, a in arrays.items() if a.ndim in (1, 2) and a.shape[0] == n == a.size}


def row_ids(columns: dict[str, np.ndarray], n: int) -> np.ndarray:
    """Ids from `id`, else from `name` (numbered where repeated), else the row number."""
    if "id" in columns:
        return columns["id"]
    if "name" in columns:
        return numbered_if_repeated(columns["name"])
    return np.array([f"{i:06d}" for i in range(n)])
