"""What a file reader is, and what it hands to `open_source`, before class names become labels."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cfdiff.data.fit import Fit
from cfdiff.data.readers.reading import Reading
from cfdiff.data.source import Digest, Files, Reader
from cfdiff.files import atomic


@dataclass(frozen=True, eq=False)
class Raw:
    """All rows of a file or folder. `labels` are class names (N,) str; `columns` may serve as groups.

    `stated_classes` are the names that the file itself gives to the integers 0, 1, ... `digest` says what the rows that
    it is asked about hold: pixels and masks, and whatever else is in their files. `notes` are sentences about what was
    taken how, and what was not read. `files` says which files the digest is of; where it is None, every process of a
    run reads them all.
    """

    name: str
    ids: np.ndarray
    labels: np.ndarray
    splits: np.ndarray | None
    shape: tuple[int, int, int]
    dtype: np.dtype
    reader: Reader
    digest: Digest
    mask_reader: Reader | None = None
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    default_group: str | None = None
    stated_classes: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    files: Files | None = None


class Format(NamedTuple):
    """An entry of `registry.READERS`: one layout of images on disk.

    Attributes:
        recognises: whether a path that is there is of this layout; a glance, no reading.
        read: (path, name, fit, unlabelled) -> Raw. `name` is what messages call the path. Images of one size need
            not mind `fit`: whoever opens the source applies it. Where it may be `unlabelled`, labels that are not there
            are "". Raises UserError, one sentence, for what cannot be read.
        read_as: the same with a fifth argument, what the folders stand for (`--layout`); None where there is no choice.
        read_how: with a sixth, how its files become images (`--reading`); None where they are images already.
    """

    recognises: Callable[[Path], bool]
    read: Callable[[Path, str, Fit | None, bool], Raw]
    read_as: Callable[[Path, str, Fit | None, bool, str | None], Raw] | None = None
    read_how: Callable[[Path, str, Fit | None, bool, str | None, Reading], Raw] | None = None


def file_sha256(path: Path) -> str:
    """sha256 (hex) of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_of(*parts: Any) -> Files | None:
    """The files of images and of masks (None: there are none), by their method `files`; None where one has no such."""
    there = [part for part in parts if part is not None]
    if not all(hasattr(part, "files") for part in there):
        return None
    return lambda rows: [path for part in there for path in part.files(rows)]


def whole_files(paths: Sequence[Path]) -> Digest:
    """The digest of rows that are not in files of their own: of all the files, each read once."""

    @cache
    def digest() -> str:
        return hashlib.sha256("\n".join(file_sha256(path) for path in paths).encode()).hexdigest()

    return lambda rows: digest()


def save_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a compressed .npz with fixed dates: equal arrays give equal bytes; its folder is made."""
    with atomic(path) as scratch:
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(scratch, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for key, array in arrays.items():
                buffer = io.BytesIO()
                np.lib.format.write_array(buffer, np.asarray(array), allow_pickle=False)
                entry = zipfile.ZipInfo(f"{key}.npy", date_time=(1980, 1, 1, 0, 0, 0))
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, buffer.getvalue(), compresslevel=9)
