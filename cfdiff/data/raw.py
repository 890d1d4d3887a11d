"""What a file reader hands to `open_source`, before class names become labels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cfdiff.data.source import Reader


@dataclass(frozen=True, eq=False)
class Raw:
    """All rows of a file or folder. `labels` are class names (N,) str; `columns` may serve as groups."""

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
