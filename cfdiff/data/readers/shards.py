"""Reader for WebDataset shards: .tar files in which what is called alike up to the first dot is one image's.

`cell/17.png`, `cell/17.cls`, `cell/17.json` and `cell/17.mask.png` are the image, its class, its columns and its mask.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cfdiff.data.columns import Columns, class_names
from cfdiff.data.distinct import repeated
from cfdiff.data.fit import Fit
from cfdiff.data.raw import Format, Raw
from cfdiff.data.readers.encoded import as_file
from cfdiff.data.readers.images import SUFFIXES, decode, look, unlike
from cfdiff.data.readers.masks import decode_mask
from cfdiff.data.readers.shard_rows import Rows
from cfdiff.data.readers.shard_words import LABELS
from cfdiff.data.readers.shown import profile_notes
from cfdiff.data.readers.tree import counted, split_word
from cfdiff.errors import UserError

GROUP_KEYS = ("patient", "group", "subject", "slide", "wsi")
TRIED = 64
"""Shards whose first image is looked at when they are opened; every image is when it is read."""


class Shards:
    """Where each image, its mask and its words lie; the pixels are read on demand.

    `at` and `masks` are (N, 3) int64: the number of a shard, the first byte, how many; -1 bytes is none. `words` hold
    what the members say beside, by column; `several` is the first member that names several classes.
    """

    def __init__(self, paths: list[Path], fit: Fit | None) -> None:
        self.paths, self.fit = paths, fit or Fit()
        rows = Rows()
        for number, path in enumerate(paths):
            rows.scan(number, path)
        self.keys, self.words, self.others, self.several = rows.keys(), rows.words, rows.others, rows.several
        self.at, self.masks = np.frombuffer(rows.at, np.int64).reshape(-1, 3), rows.masks()

    def column(self, key: str) -> np.ndarray:
        """(N,) str, "" where nothing is said."""
        return self.words[key].column(len(self.keys), key, self.paths[0].name)

    def shown(self, row: int) -> str:
        """What messages call an image."""
        return f"{self.keys[row]} in {self.paths[self.at[row, 0]].name}"

    def contents(self, rows: np.ndarray, where: np.ndarray) -> Iterator[bytes | None]:
        """The bytes of some rows' members, shard by shard as they come; None where there is none."""
        here, file = -1, None
        try:
            for number, place, size in where[rows].tolist():
                if size < 0:
                    yield None
                    continue
                if number != here:
                    if file is not None:
                        file.close()
                    here, file = number, self._open(number)
                assert file is not None
                file.seek(place)
                yield file.read(size)
        finally:
            if file is not None:
                file.close()

    def _open(self, number: int) -> Any:
        try:
            return self.paths[number].open("rb")
        except OSError as error:
            raise UserError(f"{self.paths[number].name} cannot be read ({error.strerror}): copy it again.") from error

    def common(self) -> tuple[tuple[int, int, int], np.dtype, tuple[str, ...]]:
        """Shape (H, W, C) and type of the images, by the first one of some shards, and notes on colour profiles."""
        firsts = np.unique(self.at[:, 0], return_index=True)[1]
        rows = firsts[np.unique(np.linspace(0, len(firsts) - 1, TRIED).astype(int))]
        found, profiles = [], []
        for row, data in zip(rows.tolist(), self.contents(rows, self.at), strict=True):
            with as_file(data or b"") as path:
                here = look(path, self.shown(row))
            profiles.append(here.profile)
            found.append((self.fit.shape(here.shape), here.dtype))
            self._check(found[0], found[-1], row)
        return *found[0], profile_notes(profiles, of=len(self.keys))

    def _check(self, first: tuple[Any, Any], here: tuple[Any, Any], row: int) -> None:
        if here != first:
            raise unlike(self.shown(0), first, self.shown(row), here)

    def read(self, rows: np.ndarray, shape: tuple[int, int, int], dtype: np.dtype) -> np.ndarray:
        """Images (B, H, W, C)."""
        images = []
        for row, data in zip(rows.tolist(), self.contents(rows, self.at), strict=True):
            with as_file(data or b"") as path:
                image = self.fit.image(decode(path, self.shown(row)))
            self._check((shape, dtype), (image.shape, image.dtype), row)
            images.append(image)
        return np.stack(images)

    def read_masks(self, rows: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        """Masks (B, H, W) bool; an image without one has an empty one."""
        masks = np.zeros((len(rows), *shape[:2]), bool)
        for i, data in enumerate(self.contents(rows, self.masks)):
            if data is None:
                continue
            with as_file(data) as path:
                mask = self.fit.mask(decode_mask(path, f"of {self.shown(int(rows[i]))}"))
            if mask.shape != shape[:2]:
                raise UserError(
                    f"The mask of {self.shown(int(rows[i]))} is {mask.shape[0]}x{mask.shape[1]} but the images are "
                    f"{shape[0]}x{shape[1]}: they must have the same size."
                )
            masks[i] = mask
        return masks

    def digest(self, rows: np.ndarray) -> str:
        """sha256 over the images and masks of some rows, as they are packed."""
        h = hashlib.sha256()
        for where in (self.at, self.masks):
            for data in self.contents(rows, where):
                h.update(b"none" if data is None else len(data).to_bytes(8, "little") + data)
        return h.hexdigest()

    def files(self, rows: np.ndarray) -> list[Path]:
        """The shards that some rows lie in."""
        return [self.paths[number] for number in np.unique(self.at[rows, 0]).tolist()]


def read_shards(path: Path, name: str, fit: Fit | None = None, unlabelled: bool = False) -> Raw:
    """The images of one .tar, or of all in a folder.

    Ids are the names up to the first dot, with that of the shard before them where several shards have one. The split
    is a column of the JSON, or the first word of the shards' names where each begins with one (`train-0007.tar`).
    """
    paths = sorted(_tars(path)) if path.is_dir() else [path]
    shards = Shards(paths, fit)
    if not len(shards.keys):
        there = f", but {counted(shards.others)}" if shards.others else ""
        raise UserError(
            f"{name} holds no images{there}: WebDataset's shards have KEY.png (or .jpg, .tif) and KEY.cls, and no dot "
            "in KEY."
        )
    shape, dtype, notes = shards.common()
    ids, stems = shards.keys, [p.stem for p in paths]
    if repeated(ids) is not None:
        ids = np.char.add(np.char.add(np.array(stems)[shards.at[:, 0]], "/"), ids)
    columns = Columns({key: partial(shards.column, key) for key in shards.words if key})
    return Raw(
        name=name,
        ids=ids,
        labels=class_names(_labels(shards, name, unlabelled), None, name, unlabelled),
        splits=columns["split"] if "split" in columns else _splits(stems, shards.at[:, 0]),
        shape=shape,
        dtype=dtype,
        reader=lambda rows: shards.read(rows, shape, dtype),
        mask_reader=(lambda rows: shards.read_masks(rows, shape)) if (shards.masks[:, 2] >= 0).any() else None,
        digest=shards.digest,
        files=shards.files,
        columns=columns,
        default_group=next((key for key in GROUP_KEYS if key in columns), None),
        notes=(*([f"Not read: {counted(shards.others)}."] if shards.others else []), *notes),
    )


def _labels(shards: Shards, name: str, unlabelled: bool) -> np.ndarray:
    key = next((key for key in ("", *LABELS) if key in shards.words), None)
    labels = np.full(len(shards.keys), "") if key is None else shards.column(key)
    if shards.several is not None and (labels == "").any():
        raise UserError(
            f"{shards.several} has several values as the class: one class an image is needed, a name or a number; of "
            "one-hot labels take the place of the 1."
        )
    if not unlabelled and (labels == "").any():
        raise UserError(
            f"{shards.shown(int((labels == '').argmax()))} has no class: a shard says it in KEY.cls, or as 'label' in "
            "KEY.json; what is packed as a folder per class is to be unpacked."
        )
    return labels


def _splits(stems: list[str], of: np.ndarray) -> np.ndarray | None:
    """The first words of the shards' names, for the shard of each image (N,), where all are words for splits."""
    words = {number: split_word(stems[number]) for number in np.unique(of).tolist()}
    if None in words.values():
        return None
    return np.array([words.get(number, "") for number in range(len(stems))])[of]


def _tars(folder: Path) -> list[Path]:
    return [entry for entry in folder.iterdir() if entry.suffix.lower() == ".tar" and not entry.name.startswith(".")]


def _recognises(path: Path) -> bool:
    """A .tar, or a folder of them without folders or loose images; a .tar.gz too, to say what to do with it."""
    if path.is_file():
        return ".tar" in [suffix.lower() for suffix in path.suffixes] or path.suffix.lower() == ".tgz"
    if not (path.is_dir() and _tars(path)):
        return False
    return not any(entry.is_dir() or entry.suffix.lower() in SUFFIXES for entry in path.iterdir())


FORMAT = Format(_recognises, read_shards)
