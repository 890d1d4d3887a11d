"""The data card of the bundled malaria cells, written from the very file it describes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from cfdiff.data.raw import file_sha256

TITLE = "Malaria cells, 48 px"
LICENCE = "open data set of the US National Library of Medicine, no licence stated"
CITATION = "Rajaraman et al., PeerJ 2018, 6:e4568"

TEMPLATE = Path(__file__).with_suffix(".md")


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
