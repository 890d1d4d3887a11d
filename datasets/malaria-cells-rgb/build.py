"""The malaria cells in colour: how the bundled part is built.

    python datasets/malaria-cells-rgb/build.py SOURCE.npz OUT_DIR        the .npz, with its card

SOURCE is a .npz of cells of 128 px: images, labels, patient, field, name.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from cfdiff.data.bundled import builder
from cfdiff.data.raw import file_sha256, save_npz
from cfdiff.errors import UserError

gray = builder("malaria-cells")
ARRAYS = ("images", "labels", "patient", "field", "name")
# Cells a class that are taken of each patient of a split: whole splits would be ten times the size.
OF_A_PATIENT = {"val": 3, "test": 8}
Cells = dict[str, np.ndarray]

NAME = "malaria-cells-rgb"
TITLE = "Malaria cells in colour, 128 px"
TEMPLATE = Path(__file__).with_name("card.md")


def read_cells(source: Path) -> Cells:
    """Every cell, sorted by name, with the split of its patient as in the gray set."""
    try:
        with np.load(source, allow_pickle=False) as file:
            cells = {key: file[key] for key in ARRAYS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{source.name} is not a .npz of malaria cells ({', '.join(ARRAYS)}): {error}.") from error
    if cells["images"].shape[1:] != (128, 128, 3):
        raise UserError(
            f"{source.name} holds images of {cells['images'].shape[1:]}: cells of (128, 128, 3) are needed."
        )
    order = np.argsort(cells["name"])
    cells = {key: array[order] for key, array in cells.items()}
    cells["labels"] = cells["labels"].astype(np.uint8)
    cells["split"] = np.array([gray.split_of(patient) for patient in cells["patient"].tolist()])
    return {**cells, "classes": np.array(gray.CLASSES)}


def bundled_part(cells: Cells) -> Cells:
    """Of each patient of val and test, and of each class, the first cells in the order of the hash of their names."""
    rank = np.argsort([hashlib.sha256(f"{NAME}/{name}".encode()).hexdigest() for name in cells["name"].tolist()])
    taken: dict[tuple[str, int], int] = {}
    keep = np.zeros(len(rank), bool)
    for i in rank:
        key = (str(cells["patient"][i]), int(cells["labels"][i]))
        if taken.get(key, 0) < OF_A_PATIENT.get(str(cells["split"][i]), 0):
            taken[key] = taken.get(key, 0) + 1
            keep[i] = True
    return {key: array if key == "classes" else array[keep] for key, array in cells.items()}


def build(source: Path, out: Path) -> Path:
    """Write `out/malaria-cells-rgb.npz` with its card.json and README.md; the same cells give the same bytes."""
    part = bundled_part(read_cells(source))
    path = out / f"{NAME}.npz"
    save_npz(path, part)
    facts = describe(path, part)
    (out / "README.md").write_text(_page(facts, part), encoding="utf-8")
    (out / "card.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return path


def describe(npz: Path, cells: Cells) -> dict[str, Any]:
    """The content of card.json: what it is, sha256, classes, counts by split and class."""
    counts = {}
    for split in OF_A_PATIENT:
        here = cells["split"] == split
        counts[split] = {
            **{name: int((cells["labels"][here] == label).sum()) for label, name in enumerate(gray.CLASSES)},
            "patients": len(np.unique(cells["patient"][here])),
        }
    return {
        "name": NAME,
        "title": TITLE,
        "licence": gray.LICENCE,
        "citation": gray.CITATION,
        "n": len(cells["labels"]),
        "groups": len(np.unique(cells["patient"])),
        "image_shape": list(cells["images"].shape[1:]),
        "dtype": str(cells["images"].dtype),
        "classes": list(gray.CLASSES),
        "counts": counts,
        "patients": np.unique(cells["patient"]).tolist(),
        "sha256": file_sha256(npz),
        "pixels_sha256": hashlib.sha256(np.ascontiguousarray(cells["images"]).tobytes()).hexdigest(),
    }


def _page(facts: dict[str, Any], cells: Cells) -> str:
    negative, positive = facts["classes"]
    rows = [f"| split | {negative} | {positive} | cells | patients |", "|---|---|---|---|---|"]
    for split, c in facts["counts"].items():
        rows.append(f"| {split} | {c[negative]} | {c[positive]} | {c[negative] + c[positive]} | {c['patients']} |")
    means = [gray.brightness(cells["images"][cells["labels"] == label].mean(-1)) for label in (0, 1)]
    return TEMPLATE.read_text(encoding="utf-8").format(
        **{key: facts[key] for key in ("title", "n", "groups", "sha256", "pixels_sha256")},
        table="\n".join(rows),
        of_a_patient=", ".join(f"{n} in {split}" for split, n in OF_A_PATIENT.items()),
        bright=means,
    )


def main() -> None:
    """The command line of `python datasets/malaria-cells-rgb/build.py`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="a .npz of colour cells of 128 px")
    parser.add_argument("out", type=Path, help="folder for malaria-cells-rgb.npz and its card")
    args = parser.parse_args()
    try:
        print(build(args.source, args.out))
    except UserError as error:
        parser.exit(2, f"Error: {error}\n")


if __name__ == "__main__":
    main()
