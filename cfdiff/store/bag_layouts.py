"""The layouts in which CLAM, torchmil and plain numpy read bags of features."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cfdiff.errors import UserError
from cfdiff.files import atomic
from cfdiff.hdf5 import create, open_to_read

LAYOUTS = {
    "clam": ("h5_files/{}.h5", "pt_files/{}.pt"),
    "torchmil": ("features/{}.npy", "labels/{}.npy", "inst_labels/{}.npy", "coords/{}.npy"),
    "npz": ("{}.npz",),
}
"""The files of a bag in each layout."""
ORIGIN = "export.json"
"""What made the bags of a folder, beside its table."""


@dataclass(frozen=True)
class Origin:
    """What made the bags of an export; all empty where nothing says it.

    Attributes:
        models: role -> sha256 of what edited, as the bag file has it.
        encoder: of the features: name and sha256 of its weights.
    """

    models: dict[str, Any] = field(default_factory=dict)
    encoder: str = ""


@dataclass(frozen=True, eq=False)
class FeatureBag:
    """One bag for a MIL tool.

    Attributes:
        name: of its files.
        case: patient or slide that it was made from; the name of the draw where it may hold several.
        mix_of: the bag of which it is a mix, the same for all its mixes and for no others; "" where nothing says it.
        features: (n, D) float32.
        grid: (n, 2) int32, column and row in the slide, in sides of an image. What has no place in a slide has one on a
            square sheet, which only tells instances apart.
        labels: (n,) int8 instance labels after the edit; the bag is positive if one of them is.
        edited: (n,) bool, its class was changed.
        requested: the mix asked for.
        corners: (n, 2) int64, x and y of the upper left corners in pixels of the slide; None where there is no slide.
        sham: (n,) bool, edited to its own class; None where none is.
    """

    name: str
    case: str
    features: np.ndarray
    grid: np.ndarray
    labels: np.ndarray
    edited: np.ndarray
    requested: float
    corners: np.ndarray | None = None
    sham: np.ndarray | None = None
    mix_of: str = ""

    @property
    def shams(self) -> np.ndarray:
        """(n,) bool: edited to its own class."""
        return np.zeros(len(self.edited), bool) if self.sham is None else self.sham

    @property
    def label(self) -> int:
        """1 if any instance is positive (the standard assumption of MIL)."""
        return int((self.labels == 1).any())


def write_clam(folder: Path, bag: FeatureBag, pixels: tuple[int, int]) -> None:
    """`h5_files/NAME.h5` with `features` (n, D) float32 and `coords` (n, 2) int32 in pixels of the slide, as CLAM's."""
    path = _place(folder, "h5_files", f"{bag.name}.h5")
    with atomic(path) as scratch, create(scratch) as file:
        file.create_dataset("features", data=bag.features.astype(np.float32), track_times=False)
        coords = bag.grid * np.array([pixels[1], pixels[0]]) if bag.corners is None else bag.corners
        file.create_dataset("coords", data=coords.astype(np.int32), track_times=False)


def read_h5(path: Path, name: str) -> np.ndarray:
    """A data set at the root of a file, as CLAM and TRIDENT write `features` and `coords`.

    Raises:
        UserError: the file is damaged, or has no such data set.
    """
    try:
        with open_to_read(path, path.name, "write it again") as file:
            return file[name][:]
    except (OSError, KeyError, TypeError) as error:
        raise UserError(f"{path.name} is no HDF5 file with {name!r} at its root: write it again.") from error


def write_torchmil(folder: Path, bag: FeatureBag) -> None:
    """A .npy each in `features`, `labels`, `inst_labels`, `coords`: torchmil.datasets.ProcessedMILDataset.

    Coordinates count cells, so that its default distance of 1.5 joins the eight neighbours.
    """
    arrays: dict[str, np.ndarray] = {
        "features": bag.features.astype(np.float32),
        "labels": np.array([bag.label], dtype=np.int64),
        "inst_labels": bag.labels.astype(np.int64),
        "coords": bag.grid.astype(np.int32),
    }
    for name, array in arrays.items():
        with atomic(_place(folder, name, f"{bag.name}.npy")) as scratch, scratch.open("wb") as file:
            np.save(file, array)


def write_npz(folder: Path, bag: FeatureBag) -> None:
    """One .npz a bag with everything."""
    with atomic(_place(folder, ".", f"{bag.name}.npz")) as scratch, scratch.open("wb") as file:
        np.savez_compressed(
            file,
            features=bag.features.astype(np.float32),
            coords=bag.grid.astype(np.int32),
            labels=bag.labels,
            edited=bag.edited,
            sham=bag.shams,
            label=np.int64(bag.label),
            requested=np.float64(bag.requested),
        )


def write_table(folder: Path, bags: Sequence[FeatureBag]) -> None:
    """`dataset.csv` in the columns that CLAM reads (case_id, slide_id, label), which bag each is a mix of and at which
    mix, and how many of its instances were edited, shams among them: none is a bag as it was found."""
    with atomic(folder / "dataset.csv") as scratch, scratch.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["case_id", "slide_id", "label", "mix_of", "requested", "positives", "instances", "edited"])
        for bag in bags:
            positives, edited = int((bag.labels == 1).sum()), int((bag.edited | bag.shams).sum())
            told = (f"{bag.requested:.10g}", positives, len(bag.labels), edited)
            writer.writerow([bag.case, bag.name, bag.label, bag.mix_of, *told])


def write_origin(folder: Path, origin: Origin) -> None:
    """`export.json`: what made the bags of the folder."""
    with atomic(folder / ORIGIN) as scratch:
        scratch.write_text(json.dumps(asdict(origin), indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_origin(folder: Path) -> Origin:
    """What made the bags of a folder, as `write_origin` wrote it; of other people's folders nothing is known.

    Raises:
        UserError: there is such a file, and it cannot be read.
    """
    path = folder / ORIGIN
    if not path.is_file():
        return Origin()
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return Origin(dict(told["models"]), str(told["encoder"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{ORIGIN} in {folder.name} does not say what made the bags there: export them again, or remove it."
        ) from error


def clear(folder: Path, kind: str) -> None:
    """Remove the bags that the `dataset.csv` of an earlier export of this kind lists, so that no tool mixes two runs.

    Whatever else lies in `folder` stays.
    """
    table = folder / "dataset.csv"
    if not table.is_file():
        return
    with table.open(newline="", encoding="utf-8") as file:
        names = [row["slide_id"] for row in csv.DictReader(file) if row.get("slide_id")]
    for name in names:
        for place in LAYOUTS[kind]:
            path = folder / place.format(name)
            if path.parent.resolve().is_relative_to(folder.resolve()):
                path.unlink(missing_ok=True)
    (folder / ORIGIN).unlink(missing_ok=True)
    table.unlink()


def square(n: int) -> np.ndarray:
    """(n, 2) int32: column and row of n places on a square sheet, row by row."""
    columns = int(np.ceil(np.sqrt(n)))
    place = np.arange(n, dtype=np.int32)
    return np.stack([place % columns, place // columns], axis=1)


def _place(folder: Path, part: str, name: str) -> Path:
    (folder / part).mkdir(parents=True, exist_ok=True)
    return folder / part / name
