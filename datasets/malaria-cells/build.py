"""The malaria cells: who goes into which split, and how the bundled part is built.

    python datasets/malaria-cells/build.py SOURCE OUT_DIR            the bundled part, with its card
    python datasets/malaria-cells/build.py SOURCE OUT.npz --all      every cell, for training

SOURCE is the folder of the original PNGs (`Parasitized/`, `Uninfected/`) or a .npz of the 48 px cells.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cfdiff.data.raw import file_sha256, save_npz
from cfdiff.errors import UserError

CLASSES = ("uninfected", "parasitized")
FOLDERS = ("Uninfected", "Parasitized")
# Upper bound of u per split, and how many cells of it the bundled part holds at most.
SPLITS = {"train-guide": 0.50, "train-judge": 0.75, "val": 0.83, "test": 1.0}
QUOTAS = {"train-guide": 2600, "train-judge": 1600, "val": 1000, "test": 2000}
HEALTHY_FIRST = 3
SCALED, SIZE = 50, 48
Cells = dict[str, np.ndarray]

TITLE = "Malaria cells, 48 px"
LICENCE = "open data set of the US National Library of Medicine, no licence stated"
CITATION = "Rajaraman et al., PeerJ 2018, 6:e4568"

TEMPLATE = Path(__file__).with_name("card.md")


def patient_of(name: str) -> str:
    """The patient in a file name: `C133P94ThinF_..._cell_123.png` -> `C133P94`, `C12NThinF_...` -> `C12`.

    Letters after the slide number (`C37BP2`) or the patient number (`C167P128Re`) mark a smear, not a person.
    """
    match = re.match(r"C(\d+)[A-OQ-Z]*(?:P(\d+))?", name)
    if match is None:
        raise UserError(f"{name!r} is not a name of a malaria cell: it must begin like C133P94ThinF_IMG_.")
    slide, patient = match.groups()
    return f"C{slide}P{patient}" if patient else f"C{slide}"


def field_of(name: str) -> str:
    """The microscope image a cell was cut from."""
    return re.sub(r"_cell_\d+\.png$", "", name)


def split_of(patient: str) -> str:
    """The split of a patient, a function of the name alone: u = sha256("malaria-cells/" + patient) / 2^32."""
    u = _uniform("malaria-cells/" + patient)
    return next(split for split, bound in SPLITS.items() if u < bound)


def _uniform(text: str) -> float:
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 2**32


def read_cells(source: Path) -> Cells:
    """Every cell, sorted by name: images (N, 48, 48) uint8, labels, patient, field, name, split, classes."""
    if source.is_dir():
        images, labels, names = _read_folder(source)
    else:
        images, labels, names = _read_npz(source)
    order = np.argsort(names)
    names = names[order]
    patients = np.array([patient_of(name) for name in names.tolist()])
    return {
        "images": images[order],
        "labels": labels[order].astype(np.uint8),
        "patient": patients,
        "field": np.array([field_of(name) for name in names.tolist()]),
        "name": names,
        "split": np.array([split_of(patient) for patient in patients]),
        "classes": np.array(CLASSES),
    }


def _read_npz(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return file["images"], file["labels"], file["name"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path.name} is not a .npz of malaria cells (images, labels, name): {error}.") from error


def _read_folder(root: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    images, labels, names = [], [], []
    for label, folder in enumerate(FOLDERS):
        files = sorted((root / folder).glob("*.png"))
        if not files:
            raise UserError(f"{root.name} has no {folder}/*.png: both Parasitized/ and Uninfected/ are needed.")
        for file in files:
            images.append(shrink(file))
            labels.append(label)
            names.append(file.name)
    return np.stack(images), np.array(labels), np.array(names)


def shrink(file: Path) -> np.ndarray:
    """One colour cell of any size as (48, 48) uint8: gray, 50x50, centre crop 48."""
    try:
        with Image.open(file) as image:
            gray = image.convert("L").resize((SCALED, SCALED), Image.Resampling.BILINEAR)
    except OSError as error:
        raise UserError(f"{file.name} is not a readable PNG: it may be truncated, copy it again.") from error
    cut = (SCALED - SIZE) // 2
    return np.asarray(gray)[cut : cut + SIZE, cut : cut + SIZE]


def healthy_patients(cells: Cells) -> set[str]:
    """Patients without a single parasitized cell."""
    return set(cells["patient"].tolist()) - set(cells["patient"][cells["labels"] == 1].tolist())


def bundled_part(cells: Cells, quotas: Mapping[str, int] = QUOTAS) -> Cells:
    """Whole patients, in the order of sha256("malaria-cells/bundle/" + patient), up to a quota per split.

    The first three healthy patients of each split come before the rest, since they are few and small. A
    patient who would overflow the quota is skipped, so that the next ones may still fit.
    """
    patients, counts = np.unique(cells["patient"], return_counts=True)
    size = dict(zip(patients.tolist(), counts.tolist(), strict=True))
    order = sorted(size, key=lambda patient: _uniform("malaria-cells/bundle/" + patient))
    healthy = healthy_patients(cells)
    chosen: list[str] = []
    for split, quota in quotas.items():
        here = [patient for patient in order if split_of(patient) == split]
        first = [patient for patient in here if patient in healthy][:HEALTHY_FIRST]
        for patient in first + [patient for patient in here if patient not in first]:
            if size[patient] <= quota:
                quota -= size[patient]
                chosen.append(patient)
    return subset(cells, np.isin(cells["patient"], chosen))


def subset(cells: Cells, keep: np.ndarray) -> Cells:
    """The cells where `keep` (N,) bool is true."""
    return {key: array if key == "classes" else array[keep] for key, array in cells.items()}


def patients_in(card: Path) -> list[str]:
    """The patients that a card.json lists."""
    try:
        return json.loads(card.read_text(encoding="utf-8"))["patients"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{card.name} is not a card.json with a list of patients: give the one built here.") from error


def build(
    source: Path,
    out: Path,
    everything: bool = False,
    quotas: Mapping[str, int] = QUOTAS,
    patients: list[str] | None = None,
) -> Path:
    """Write the cells of `source`: to `out` if that is a .npz, else to `out/malaria-cells.npz` with its card.

    `patients` takes exactly these instead of choosing by quota. The same cells give the same bytes. Returns
    the path of the .npz.
    """
    cells = read_cells(source)
    part = cells if everything else bundled_part(cells, quotas)
    if patients is not None:
        part = subset(cells, np.isin(cells["patient"], patients))
    path = out if out.suffix == ".npz" else out / "malaria-cells.npz"
    save_npz(path, part)
    if path != out:
        write_card(path, part, healthy_patients(cells), dict(quotas))
    return path


def write_card(npz: Path, cells: dict[str, np.ndarray], healthy: set[str], quotas: dict[str, int]) -> None:
    """Write README.md and card.json beside `npz`, which holds `cells`."""
    facts = describe(npz, cells, healthy)
    is_healthy = np.isin(cells["patient"], sorted(healthy))
    text = TEMPLATE.read_text(encoding="utf-8").format(
        title=TITLE,
        n=facts["n"],
        patients=facts["groups"],
        sha256=facts["sha256"],
        pixels_sha256=facts["pixels_sha256"],
        table=_table(facts),
        quotas=", ".join(f"{split} {quota:,}" for split, quota in quotas.items()),
        bright=[
            brightness(cells["images"][is_healthy]),
            brightness(cells["images"][~is_healthy & (cells["labels"] == 0)]),
            brightness(cells["images"][cells["labels"] == 1]),
        ],
    )
    (npz.parent / "README.md").write_text(text, encoding="utf-8")
    (npz.parent / "card.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def brightness(images: np.ndarray) -> float:
    """The mean over cells of the mean over a cell's pixels that are not black; NaN where there is no cell."""
    flat = images.reshape(len(images), -1).astype(np.float64)
    return float((flat.sum(1) / np.maximum((flat > 0).sum(1), 1)).mean()) if len(flat) else float("nan")


def describe(npz: Path, cells: dict[str, np.ndarray], healthy: set[str]) -> dict[str, Any]:
    """The content of card.json: what it is, sha256, classes, counts by split, class and healthy patients."""
    classes = cells["classes"].tolist()
    counts = {}
    for split in ("train-guide", "train-judge", "val", "test"):
        here = cells["split"] == split
        patients = set(cells["patient"][here].tolist())
        of_healthy = np.isin(cells["patient"], sorted(patients & healthy))
        counts[split] = {
            **{name: int((cells["labels"][here] == label).sum()) for label, name in enumerate(classes)},
            "patients": len(patients),
            "healthy_patients": len(patients & healthy),
            "cells_of_healthy_patients": int(of_healthy.sum()),
        }
    return {
        "name": "malaria-cells",
        "title": TITLE,
        "licence": LICENCE,
        "citation": CITATION,
        "n": len(cells["labels"]),
        "groups": len(np.unique(cells["patient"])),
        "image_shape": [*cells["images"].shape[1:], 1],
        "dtype": str(cells["images"].dtype),
        "classes": classes,
        "counts": counts,
        "patients": np.unique(cells["patient"]).tolist(),
        "sha256": file_sha256(npz),
        "pixels_sha256": hashlib.sha256(np.ascontiguousarray(cells["images"]).tobytes()).hexdigest(),
    }


def _table(facts: dict[str, Any]) -> str:
    negative, positive = facts["classes"]
    lines = [
        f"| split | {negative} | {positive} | cells | patients | healthy patients | their cells |",
        "|---|---|---|---|---|---|---|",
    ]
    total = [0] * 6
    for split, c in facts["counts"].items():
        row = [c[negative], c[positive], c[negative] + c[positive], c["patients"]]
        row += [c["healthy_patients"], c["cells_of_healthy_patients"]]
        total = [a + b for a, b in zip(total, row, strict=True)]
        lines.append(f"| {split} | " + " | ".join(f"{value:,}" for value in row) + " |")
    lines.append("| all | " + " | ".join(f"{value:,}" for value in total) + " |")
    return "\n".join(lines)


def main() -> None:
    """The command line of `python datasets/malaria-cells/build.py`."""
    parser = argparse.ArgumentParser(prog="python datasets/malaria-cells/build.py", description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="folder with Parasitized/ and Uninfected/, or a .npz of cells")
    parser.add_argument("out", type=Path, help="folder for malaria-cells.npz and its card, or a .npz")
    parser.add_argument("--all", action="store_true", help="every cell, not the bundled part")
    for split, quota in QUOTAS.items():
        parser.add_argument(f"--{split}", type=int, default=quota, metavar="N", help=f"at most N cells ({quota})")
    parser.add_argument("--patients", type=Path, metavar="CARD", help="exactly the patients of a card.json")
    args = parser.parse_args()
    quotas = {split: getattr(args, split.replace("-", "_")) for split in QUOTAS}
    try:
        patients = None if args.patients is None else patients_in(args.patients)
        print(build(args.source, args.out, args.all, quotas, patients))
    except UserError as error:
        parser.exit(2, f"Error: {error}\n")


if __name__ == "__main__":
    main()
