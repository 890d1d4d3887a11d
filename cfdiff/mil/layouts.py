"""Layouts of folders of features, one bag a file: as CLAM, TRIDENT, torchmil and `cfdiff bag --export` write them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cfdiff.errors import UserError
from cfdiff.store.bag_layouts import read_h5


@dataclass(frozen=True, eq=False)
class Found:
    """One bag as its files tell it.

    Attributes:
        name: of its file, without the ending.
        features: (n, D) float32.
        labels: (n,) int8 of the instances; None where the folder does not say.
        label: class of the bag, 0 or 1; None where the folder does not say.
        edited: whether an instance was edited, or is a sham; None where the folder does not say.
    """

    name: str
    features: np.ndarray
    labels: np.ndarray | None = None
    label: int | None = None
    edited: bool | None = None


@dataclass(frozen=True)
class Layout:
    """An entry of registry.BAG_FOLDERS: `recognises(folder)` and `read(folder)`, its bags in the order of names."""

    recognises: Callable[[Path], bool]
    read: Callable[[Path], list[Found]]


def _numpy(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path.name} in {path.parent.name} is no readable array: write it again.") from error


def _features(array: np.ndarray, path: Path) -> np.ndarray:
    """(n, D) float32 of (n, D), or of (1, n, D)."""
    array = array[0] if array.ndim == 3 and len(array) == 1 else array
    if array.ndim != 2:
        raise UserError(f"{path.name} holds features of shape {array.shape}: one row an instance is needed.")
    if array.dtype.kind not in "biuf":
        raise UserError(f"{path.name} holds features of type {array.dtype}: save them as real numbers.")
    with np.errstate(over="ignore"):  # what is beyond float32 is infinite, and refused as such
        return array.astype(np.float32)


def _whole(values: np.ndarray, path: Path, what: str) -> np.ndarray:
    """(n,) int64 of 0, 1 and what is below 0, not known; UserError for anything else, which a cast would hide."""
    if values.dtype.kind not in "biuf" or not np.isin(values, (0, 1, -1)).all():
        raise UserError(
            f"{path.name} holds {what} that are not 0 or 1 (or -1, not known): store them so; names of classes stand "
            "in a table of slide_id,label."
        )
    return values.reshape(-1).astype(np.int64)


def _class(values: np.ndarray, path: Path) -> int:
    """The class of a bag, of one number."""
    if values.size != 1:
        raise UserError(f"{path.name} holds {values.size} numbers as the class of a bag: store one, 0 or 1.")
    return int(_whole(values, path, "classes")[0])


def _read_torchmil(folder: Path) -> list[Found]:
    found = []
    for path in sorted((folder / "features").glob("*.npy")):
        inst, label = (folder / part / path.name for part in ("inst_labels", "labels"))
        found.append(
            Found(
                path.stem,
                _features(_numpy(path), path),
                _whole(_numpy(inst), inst, "labels of instances").astype(np.int8) if inst.is_file() else None,
                _class(_numpy(label), label) if label.is_file() else None,
            )
        )
    return found


def _read_clam(folder: Path) -> list[Found]:
    if (folder / "h5_files").is_dir():
        return _read_h5s(folder / "h5_files")
    return [Found(path.stem, _features(_torch(path), path)) for path in sorted((folder / "pt_files").glob("*.pt"))]


def _torch(path: Path) -> np.ndarray:
    import torch

    try:  # weights_only: nothing in it is run
        tensor = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # what is no tensor ends in a dozen ways
        raise UserError(f"{path.name} is no readable tensor: write it again, or give h5_files.") from error
    if not isinstance(tensor, torch.Tensor):
        raise UserError(f"{path.name} holds no tensor of features: give the pt_files that CLAM wrote.")
    dense = tensor.detach().to_dense() if tensor.layout != torch.strided else tensor.detach()
    return (dense if dense.is_complex() else dense.float()).numpy()


def _read_h5s(folder: Path) -> list[Found]:
    return [Found(path.stem, _features(read_h5(path, "features"), path)) for path in sorted(folder.glob("*.h5"))]


def _trident_features(folder: Path) -> list[Path]:
    """The folders of features in it, or in those of a patch size in it: one an encoder; or it is one of them."""
    inside = sorted(
        p for form in ("features_*", "*/features_*") for p in folder.glob(form) if p.is_dir() and any(p.glob("*.h5"))
    )
    return inside or ([folder] if folder.name.startswith("features_") and any(folder.glob("*.h5")) else [])


def _read_trident(folder: Path) -> list[Found]:
    there = _trident_features(folder)
    if len(there) > 1:
        raise UserError(
            f"{folder.name} holds the features of several encoders or patch sizes "
            f"({', '.join(p.relative_to(folder).as_posix() for p in there)}): give one."
        )
    return _read_h5s(there[0])


def _read_npz(folder: Path) -> list[Found]:
    found = []
    for path in sorted(folder.glob("*.npz")):
        try:
            with np.load(path, allow_pickle=False) as file:
                labels = (
                    _whole(file["labels"], path, "labels of instances").astype(np.int8) if "labels" in file else None
                )
                label = _class(file["label"], path) if "label" in file else None
                marks = [bool(file[key].any()) for key in ("edited", "sham") if key in file and "requested" in file]
                edited = any(marks) if marks else None
                found.append(Found(path.stem, _features(file["features"], path), labels, label, edited))
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise UserError(f"{path.name} is no bag: a .npz with the array features is needed.") from error
    return found


def _is_npz(folder: Path) -> bool:
    """Whether its .npz hold features, as bags do, and not images."""
    first = next(iter(sorted(folder.glob("*.npz"))), None)
    try:
        if first is None:
            return False
        with np.load(first, allow_pickle=False) as file:
            return "features" in file
    except (OSError, ValueError):
        return False


TORCHMIL = Layout(lambda folder: any((folder / "features").glob("*.npy")), _read_torchmil)
CLAM = Layout(
    lambda folder: any((folder / "h5_files").glob("*.h5")) or any((folder / "pt_files").glob("*.pt")), _read_clam
)
TRIDENT = Layout(lambda folder: bool(_trident_features(folder)), _read_trident)
NPZ = Layout(_is_npz, _read_npz)
