"""A change in anything that a result depends on changes the fingerprint, in every layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

import cfdiff.data.raw
from cfdiff.data import open_source
from cfdiff.data.readers import images as image_files

LABELS = ["neg", "pos"] * 3


def arrays(pixels: np.ndarray, **changes: Any) -> dict[str, np.ndarray]:
    usual = {
        "images": pixels,
        "labels": np.array(LABELS),
        "id": np.array(list("abcdef")),
        "patient": np.array(list("xxyyzz")),
        "split": np.array(["train"] * 3 + ["test"] * 3),
        "masks": pixels > 99,
    }
    return usual | changes


def write_npz(folder: Path, pixels: np.ndarray, **changes: Any) -> Path:
    np.savez(folder / "d.npz", **arrays(pixels, **changes))
    return folder / "d.npz"


def write_h5(folder: Path, pixels: np.ndarray, **changes: Any) -> Path:
    with h5py.File(folder / "d.h5", "w") as file:
        for key, array in arrays(pixels, **changes).items():
            file[key] = array.astype(object) if array.dtype.kind == "U" else array
    return folder / "d.h5"


def write_csv(folder: Path, pixels: np.ndarray, **changes: Any) -> Path:
    named = arrays(pixels, **changes)
    lines = ["path,label,id,patient,split,mask"]
    for i, image in enumerate(named["images"]):
        Image.fromarray(image).save(folder / f"{i}.png")
        Image.fromarray(named["masks"][i].astype(np.uint8)).save(folder / f"m{i}.png")
        lines.append(",".join([f"{i}.png", *(named[k][i] for k in ("labels", "id", "patient", "split")), f"m{i}.png"]))
    (folder / "d.csv").write_text("\n".join(lines))
    return folder / "d.csv"


Write = Callable[..., Path]
LAYOUTS = pytest.mark.parametrize("write", [write_npz, write_h5, write_csv])


@LAYOUTS
@pytest.mark.parametrize("what", ["images", "labels", "id", "patient", "split", "masks"])
def test_a_change_in_any_part_of_the_data_changes_the_fingerprint(
    tmp_path: Path, pixels: np.ndarray, write: Write, what: str
) -> None:
    before = open_source(write(tmp_path, pixels)).fingerprint
    assert open_source(write(tmp_path, pixels)).fingerprint == before or write is not write_csv
    changed = arrays(pixels)[what].copy()
    changed[0] = changed[3] if what != "id" else "g"
    changed[0] = "pos" if what == "labels" else changed[0]
    assert open_source(write(tmp_path, pixels, **{what: changed})).fingerprint != before


@LAYOUTS
def test_groups_and_classes_as_they_are_used_are_in_the_fingerprint(
    tmp_path: Path, pixels: np.ndarray, write: Write
) -> None:
    path = write(tmp_path, pixels)
    prints = [open_source(path, **o).fingerprint for o in ({}, {"group_key": "split"}, {"negative": "pos"})]  # type: ignore[arg-type]
    assert len(set(prints)) == 3


def test_ids_that_run_together_are_told_apart(tmp_path: Path, pixels: np.ndarray) -> None:
    prints = []
    for ids in (["a\n1", "2"], ["a", "1\n2"]):
        np.savez(tmp_path / "d.npz", images=pixels[:2], labels=np.array(["neg", "pos"]), id=np.array(ids))
        source = open_source(tmp_path / "d.npz")
        prints.append(cfdiff.data.source.replace(source, digest=lambda rows: "same").fingerprint)
    assert prints[0] != prints[1]


def test_the_files_beside_patchcamelyon_are_in_the_fingerprint(tmp_path: Path, pixels: np.ndarray) -> None:
    x, y, meta = (tmp_path / f"some_test_{end}" for end in ("x.h5", "y.h5", "meta.csv"))
    with h5py.File(x, "w") as file:
        file["x"] = pixels
    prints = []
    for note, slide in (("one", "s1"), ("two", "s1"), ("two", "s2")):
        with h5py.File(y, "w") as file:
            file["y"] = np.arange(6) % 2
            file["note"] = note
        meta.write_text("\n".join(["wsi", *([slide] * 6)]))
        prints.append(open_source(x).fingerprint)
    assert len(set(prints)) == 3


def test_a_part_of_a_folder_is_hashed_without_reading_the_rest_and_nothing_twice(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    original = cfdiff.data.raw.file_sha256
    monkeypatch.setattr(image_files, "file_sha256", lambda path: (read.append(path.name), original(path))[1])
    source = open_source(folder, from_label=0)
    assert source.fingerprint == source.fingerprint
    assert read == ["0.png", "1.png", "2.png"]


def test_a_file_of_many_images_is_hashed_once_for_all_its_views(
    tmp_path: Path, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    original = cfdiff.data.raw.file_sha256
    monkeypatch.setattr(cfdiff.data.raw, "file_sha256", lambda path: (read.append(path.name), original(path))[1])
    source = open_source(write_npz(tmp_path, pixels))
    assert source.narrow("train").fingerprint != source.narrow("test").fingerprint
    assert read == ["d.npz"]
