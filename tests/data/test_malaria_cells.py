from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cfdiff.data import open_source
from cfdiff.data.bundled import builder, bundled_file
from cfdiff.errors import UserError

malaria = builder("malaria-cells")
QUOTAS = malaria.QUOTAS
build = malaria.build
bundled_part = malaria.bundled_part
field_of = malaria.field_of
healthy_patients = malaria.healthy_patients
patient_of = malaria.patient_of
patients_in = malaria.patients_in
read_cells = malaria.read_cells
split_of = malaria.split_of


@pytest.fixture
def originals(tmp_path: Path) -> Path:
    """The original layout: colour PNGs of varying size, three infected patients and one healthy one."""
    rng = np.random.default_rng(0)
    root = tmp_path / "cell_images"
    for patient in ("C33P1ThinF", "C37BP2_thinF", "C38P3thinF", "C12NThinF"):
        for i in range(4):
            folder = root / ("Parasitized" if i < 2 and patient != "C12NThinF" else "Uninfected")
            folder.mkdir(parents=True, exist_ok=True)
            height, width = rng.integers(40, 160, 2)
            image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(image).save(folder / f"{patient}_IMG_2015_{i}_cell_{i}.png")
    (root / "Uninfected" / "Thumbs.db").write_bytes(b"not a cell")
    return root


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("C133P94ThinF_IMG_20151004_155331_cell_123.png", "C133P94"),
        ("C236ThinF_IMG_20151127_102428_cell_91.png", "C236"),
        ("C12NThinF_IMG_20150614_124301_cell_260.png", "C12"),
        ("C37BP2_thinF_IMG_20150620_133111a_cell_75.png", "C37P2"),
        ("C51AP12thinF_IMG_20150724_154330_cell_70.png", "C51P12"),
        ("C167P128ReThinF_IMG_20151201_105559_cell_9.png", "C167P128"),
        ("C65P26N_ThinF_IMG_20150818_154624_cell_74.png", "C65P26"),
    ],
)
def test_the_patient_is_read_from_the_file_name(name: str, patient: str) -> None:
    assert patient_of(name) == patient


def test_a_name_that_is_no_cell_is_an_error() -> None:
    with pytest.raises(UserError, match="'cat.png' is not a name of a malaria cell"):
        patient_of("cat.png")


def test_the_field_is_the_name_without_the_cell() -> None:
    assert field_of("C133P94ThinF_IMG_20151004_155331_cell_123.png") == "C133P94ThinF_IMG_20151004_155331"


def test_the_split_of_a_patient_never_changes() -> None:
    known = {"C133P94": "train-guide", "C12": "train-guide", "C39P4": "train-judge", "C109P70": "test"}
    assert {patient: split_of(patient) for patient in known} == known
    shares = [split_of(f"C{i}") for i in range(4000)]
    for split, share in {"train-guide": 0.50, "train-judge": 0.25, "val": 0.08, "test": 0.17}.items():
        assert abs(shares.count(split) / 4000 - share) < 0.03


def test_original_pngs_become_gray_48_px_cells_sorted_by_name(originals: Path) -> None:
    cells = read_cells(originals)
    assert cells["images"].shape == (16, 48, 48)
    assert cells["images"].dtype == np.uint8
    assert cells["name"].tolist() == sorted(cells["name"].tolist())
    assert healthy_patients(cells) == {"C12"}
    assert int(cells["labels"].sum()) == 6


def test_the_same_cells_give_the_same_bytes_and_every_cell_with_everything(originals: Path, tmp_path: Path) -> None:
    first = build(originals, tmp_path / "a.npz", everything=True)
    second = build(first, tmp_path / "b.npz", everything=True)
    assert first.read_bytes() == second.read_bytes()
    source = open_source(second)
    assert len(source) == 16
    assert source.classes == ("uninfected", "parasitized")
    assert sorted(set(source.groups.tolist())) == ["C12", "C33P1", "C37P2", "C38P3"]


def test_a_card_is_written_beside_the_part_and_its_patients_rebuild_it(originals: Path, tmp_path: Path) -> None:
    path = build(originals, tmp_path / "out")
    card = json.loads((path.parent / "card.json").read_text())
    assert card["n"] == len(open_source(path))
    assert card["sha256"] in (path.parent / "README.md").read_text()
    again = build(originals, tmp_path / "again", patients=patients_in(path.parent / "card.json"))
    assert again.read_bytes() == path.read_bytes()


def test_a_patient_is_taken_whole_or_not_at_all(originals: Path) -> None:
    cells = read_cells(originals)
    part = bundled_part(cells, {split: 5 for split in QUOTAS})
    for patient in set(part["patient"].tolist()):
        assert np.sum(part["patient"] == patient) == np.sum(cells["patient"] == patient)
    for split in QUOTAS:
        assert np.sum(part["split"] == split) <= 5


def test_a_source_that_is_no_set_of_cells_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(UserError, match=r"no Uninfected/\*.png"):
        read_cells(tmp_path / "x")
    np.savez(tmp_path / "x.npz", images=np.zeros(3))
    with pytest.raises(UserError, match="not a .npz of malaria cells"):
        read_cells(tmp_path / "x.npz")
    with pytest.raises(UserError, match="not a card.json"):
        patients_in(tmp_path / "x.npz")


def test_no_patient_of_the_bundled_cells_is_in_two_splits_and_each_split_has_healthy_ones() -> None:
    with np.load(bundled_file("malaria-cells")) as file:
        cells = {key: file[key] for key in file.files}
    assert cells["split"].tolist() == [split_of(patient) for patient in cells["patient"].tolist()]
    assert cells["patient"].tolist() == [patient_of(name) for name in cells["name"].tolist()]
    healthy = sorted(healthy_patients(cells))
    for split in QUOTAS:
        here = cells["split"] == split
        assert len(set(cells["patient"][here & np.isin(cells["patient"], healthy)].tolist())) >= 3
        assert 0.3 < cells["labels"][here].mean() < 0.7
