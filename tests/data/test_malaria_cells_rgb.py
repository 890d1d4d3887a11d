"""How the bundled colour cells are chosen and described."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from cfdiff.data.bundled import builder, bundled_file, card
from cfdiff.errors import UserError

rgb, gray = builder("malaria-cells-rgb"), builder("malaria-cells")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Twelve cells of each class of ten patients."""
    rng = np.random.default_rng(0)
    patients = np.repeat([f"C{i}P{i}" for i in range(100, 110)], 24)
    names = np.array([f"{patient}ThinF_IMG_1_cell_{i}.png" for i, patient in enumerate(patients)])
    images = rng.integers(0, 256, (240, 128, 128, 3), dtype=np.uint8)
    images[:, :40] = 0
    path = tmp_path / "cells.npz"
    np.savez(path, images=images, labels=np.arange(240) % 2, patient=patients, field=patients, name=names)
    return path


def test_the_first_cells_of_each_patient_and_class_whatever_the_order_of_the_source(
    source: Path, tmp_path: Path
) -> None:
    cells = rgb.read_cells(source)
    part = rgb.bundled_part(cells)
    assert set(part["split"]) == set(cells["split"]) - {"train-guide", "train-judge"} != set()
    for patient in np.unique(part["patient"]):
        here = part["patient"] == patient
        most = rgb.OF_A_PATIENT[part["split"][here][0]]
        assert np.bincount(part["labels"][here]).tolist() == [most, most]
    with np.load(source) as file:
        turned = {key: file[key][::-1] for key in file.files}
    np.savez(tmp_path / "turned.npz", **turned)
    again = rgb.bundled_part(rgb.read_cells(tmp_path / "turned.npz"))
    assert all(np.array_equal(part[key], again[key]) for key in part)


def test_what_is_built_says_what_it_is(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    path = rgb.build(source, out)
    facts = json.loads((out / "card.json").read_text())
    with np.load(path) as file:
        images, labels = file["images"], file["labels"]
    assert facts["n"] == len(labels) and facts["image_shape"] == [128, 128, 3]
    lines = {line.split(" | ")[0].strip("| "): line for line in (out / "README.md").read_text().splitlines()}
    positive = int(facts["counts"]["test"]["parasitized"])
    assert f"| {positive} |" in lines["test"]
    shade = images[labels == 1].mean(-1)[:, 40:].mean()
    told = re.search(r"and\s+([\d.]+) for parasitized", (out / "README.md").read_text())
    assert told is not None and float(told[1]) == pytest.approx(shade, abs=0.3)


@pytest.mark.parametrize("arrays", [{"images": np.zeros((1, 8, 8, 3))}, {"x": np.zeros(1)}])
def test_another_source_is_refused(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    rest = {key: np.zeros(1) for key in rgb.ARRAYS} if "images" in arrays else {}
    np.savez(tmp_path / "other.npz", **(rest | arrays))
    with pytest.raises(UserError, match=r"cells of \(128, 128, 3\)|not a .npz of malaria cells"):
        rgb.read_cells(tmp_path / "other.npz")


def test_no_patient_of_the_bundled_part_was_trained_on() -> None:
    with np.load(bundled_file("malaria-cells-rgb")) as file:
        splits = {patient: gray.split_of(patient) for patient in file["patient"].tolist()}
        assert [splits[patient] for patient in file["patient"].tolist()] == file["split"].tolist()
    assert set(splits.values()) == {"val", "test"} and card("malaria-cells-rgb")["groups"] == len(splits)
