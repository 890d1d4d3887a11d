"""Reader for WebDataset shards: .tar files in which what is called alike up to the first dot is one image's.

`cell/17.png`, `cell/17.cls`, `cell/17.json` and `cell/17.mask.png` are the image, its class, its columns and its mask.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cfdiff.data.columns import Columns, as_text, class_names
from cfdiff.data.fit import Fit
from cfdiff.data.raw import Format, Raw
from cfdiff.data.readers.encoded import as_file
from cfdiff.data.readers.images import SUFFIXES, decode, look, unlike
from cfdiff.data.readers.masks import decode_mask
from cfdiff.data.readers.shown import profile_notes
from cfdiff.data.readers.tar_index import members
from cfdiff.data.readers.tree import SYSTEM, counted, split_word
from cfdiff.errors import UserError
from cfdiff.files import parse_json

IMAGES = frozenset(
    before + suffix[1:] for suffix in (*SUFFIXES, ".webp") for before in ("", "image.", "img.", "input.")
)
MASKS = frozenset(f"{word}{suffix}" for suffix in (".png", ".tif", ".tiff", ".bmp") for word in ("mask", "seg"))
CLASSES = ("cls", "label", "class", "cls.txt", "label.txt")
LABELS = ("label", "class", "cls")
"""What the class is called in the JSON of an image; a member of CLASSES goes before it."""
GROUP_KEYS = ("patient", "group", "subject", "slide", "wsi")
LONGEST = 64 << 10
"""Bytes of a class or of the JSON of an image."""
TRIED = 64
"""Shards whose first image is looked at when they are opened; every image is when it is read."""


class Shards:
    """Where each image, its mask and its words lie; the pixels are read on demand.

    `at` and `masks` are (N, 3) int64: the number of a shard, the first byte, how many; -1 bytes is none. `words` hold
    what the members say beside: {column: {row: text}}. `several` is the first member that names several classes.
    """

    def __init__(self, paths: list[Path], fit: Fit | None) -> None:
        self.paths, self.fit = paths, fit or Fit()
        self.keys: list[str] = []
        self.words: dict[str, dict[int, str]] = {}
        self.others: Counter[str] = Counter()
        self.several: str | None = None
        self._at, self._masks = array("q"), array("q")
        for number, path in enumerate(paths):
            self._scan(number, path)
        self.at, self.masks = (np.frombuffer(found, np.int64).reshape(-1, 3) for found in (self._at, self._masks))

    def _scan(self, number: int, path: Path) -> None:
        """Note what one shard holds; what belongs to one image stands together, as WebDataset wants it."""
        key: str | None = None
        image, mask, said = (0, -1), (0, -1), dict[str, str]()
        before, alone = len(self.keys), list[str]()

        def done() -> None:
            if key is None:
                return
            if image[1] < 0:
                self.others["names without an image"] += 1
                alone.append(key)
                return
            for column, text in said.items():
                self.words.setdefault(column, {})[len(self.keys)] = text
            self.keys.append(key)
            self._at.extend((number, *image))
            self._masks.extend((number, *mask))

        for name, place, size, first in members(path, path.name):
            folder, _, last = name.rpartition("/")
            stem, dot, kind = last.partition(".")
            if not stem or not dot or last.lower() in SYSTEM or "__MACOSX" in name:
                continue
            mine, kind = f"{folder}/{stem}" if folder else stem, kind.lower()
            if mine != key:
                done()
                key, image, mask, said = mine, (0, -1), (0, -1), {}
            if kind in IMAGES:
                if image[1] >= 0:
                    raise UserError(f"{path.name} has two images called {mine!r}: each needs a name of its own.")
                image = (place, size)
            elif kind in MASKS:
                mask = (place, size)
            elif kind in CLASSES:
                said[""] = _utf8(self._all(path, place, size, first, name), path, name).strip()
            elif kind == "json":
                found = _said(self._all(path, place, size, first, name), path, name)
                if self.several is None and any(isinstance(found.get(key), list | dict) for key in LABELS):
                    self.several = f"{name} in {path.name}"
                said = {**_plain(found), **said}
            else:
                self.others[os.path.splitext(last)[1] or "no suffix"] += 1
        done()
        if apart := set(alone) & set(self.keys[before:]):
            raise UserError(
                f"{path.name} does not hold together what is called {min(apart)!r}, as WebDataset does: pack it anew, "
                "sorted by name (tar --sort=name)."
            )

    @staticmethod
    def _all(path: Path, place: int, size: int, first: bytes, name: str) -> bytes:
        if size > LONGEST:
            raise UserError(f"{name} in {path.name} has {size:,} bytes, and {LONGEST:,} are the most of such a file.")
        if len(first) == size:
            return first
        with path.open("rb") as file:
            file.seek(place)
            return file.read(size)

    def column(self, key: str) -> np.ndarray:
        """(N,) str, "" where nothing is said."""
        found = self.words[key]
        return as_text(np.array([found.get(row, "") for row in range(len(self.keys))], object), key, self.paths[0].name)

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


def read_shards(path: Path, name: str, fit: Fit | None = None, unlabelled: bool = False) -> Raw:
    """The images of one .tar, or of all in a folder.

    Ids are the names up to the first dot, with that of the shard before them where several shards have one. The split
    is a column of the JSON, or the first word of the shards' names where each begins with one (`train-0007.tar`).
    """
    paths = sorted(_tars(path)) if path.is_dir() else [path]
    shards = Shards(paths, fit)
    if not shards.keys:
        there = f", but {counted(shards.others)}" if shards.others else ""
        raise UserError(
            f"{name} holds no images{there}: WebDataset's shards have KEY.png (or .jpg, .tif) and KEY.cls, and no dot "
            "in KEY."
        )
    shape, dtype, notes = shards.common()
    ids, stems = np.array(shards.keys), np.array([p.stem for p in paths])[shards.at[:, 0]]
    if len(set(shards.keys)) < len(ids):
        ids = np.char.add(np.char.add(stems, "/"), ids)
    columns = Columns({key: partial(shards.column, key) for key in shards.words if key})
    return Raw(
        name=name,
        ids=ids,
        labels=class_names(_labels(shards, name, unlabelled), None, name, unlabelled),
        splits=columns["split"] if "split" in columns else _splits(stems),
        shape=shape,
        dtype=dtype,
        reader=lambda rows: shards.read(rows, shape, dtype),
        mask_reader=(lambda rows: shards.read_masks(rows, shape)) if (shards.masks[:, 2] >= 0).any() else None,
        digest=shards.digest,
        columns=columns,
        default_group=next((key for key in GROUP_KEYS if key in columns), None),
        notes=(*([f"Not read: {counted(shards.others)}."] if shards.others else []), *notes),
    )


def _labels(shards: Shards, name: str, unlabelled: bool) -> np.ndarray:
    key = next((key for key in ("", *LABELS) if key in shards.words), None)
    labels = np.full(len(shards.keys), "") if key is None else shards.column(key)
    if (labels == "").any() and shards.several is not None:
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


def _splits(stems: np.ndarray) -> np.ndarray | None:
    """The first words of the shards' names, (N,), where all are words for splits."""
    unique, place = np.unique(stems, return_inverse=True)
    words = [split_word(stem) for stem in unique.tolist()]
    return None if None in words else np.array(words)[place.reshape(-1)]


def _said(data: bytes, path: Path, name: str) -> dict[str, Any]:
    """The JSON of an image."""
    try:
        found = parse_json(_utf8(data, path, name))
    except ValueError as error:
        raise UserError(f"{name} in {path.name} is no JSON: correct it.") from error
    if not isinstance(found, dict):
        raise UserError(f'{name} in {path.name} is no JSON object with columns: write it as {{"label": ...}}.')
    return found


def _plain(found: dict[str, Any]) -> dict[str, str]:
    """What it says in words and numbers; "" is its class."""
    numbers = {key: int(value) if isinstance(value, bool) else value for key, value in found.items()}
    plain = {key: str(value) for key, value in numbers.items() if isinstance(value, str | int | float)}
    label = next((plain[key] for key in LABELS if key in plain), None)
    return plain if label is None else {**plain, "": label}


def _utf8(data: bytes, path: Path, name: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{name} in {path.name} is no text in UTF-8: correct it.") from error


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
