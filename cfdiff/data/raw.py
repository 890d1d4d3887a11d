"""What a file reader hands to `open_source`, before class names become labels."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cfdiff.data.source import Reader
from cfdiff.files import atomic


@dataclass(frozen=True, eq=False)
class Raw:
    """All rows of a file or folder. `labels` are class names (N,) str; `columns` may serve as groups.

    `stated_classes` are the names that the file itself gives to the integers 0, 1, ...
    """

    name: str
    ids: np.ndarray
    labels: np.ndarray
    splits: np.ndarray | None
    shape: tuple[int, int, int]
    dtype: np.dtype
    reader: Reader
    digest: Callable[[], str]
    mask_reader: Reader | None = None
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    default_group: str | None = None
    stated_classes: tuple[str, ...] | None = None


def file_sha256(path: Path) -> str:
    """sha256 (hex) of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def numbered_if_repeated(names: np.ndarray) -> np.ndarray:
    """Names made unique: the second `a` becomes `a#2`. Crops of one photograph often share its name."""
    seen: dict[str, int] = {}
    unique = []
    for name in names.tolist():
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return np.array(unique)


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
