"""Pairs of one place in both classes, in every layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from cfdiff.data import open_source
from cfdiff.data.convert import convert
from cfdiff.data.pairs import twins
from cfdiff.errors import UserError

PAIRS = ["a", "b", "c", "", "b", "a", "d", "c"]
LABELS = ["good", "good", "good", "good", "defect", "defect", "defect", "defect"]


def npz(folder: Path, pairs: list[str] = PAIRS) -> Path:
    images = np.random.default_rng(0).integers(0, 256, (8, 4, 4), dtype=np.uint8)
    np.savez(folder / "d.npz", images=images, labels=np.array(LABELS), pair=np.array(pairs))
    return folder / "d.npz"


def h5(folder: Path) -> Path:
    with np.load(npz(folder)) as arrays, h5py.File(folder / "d.h5", "w") as file:
        for key in arrays.files:
            file[key] = arrays[key].astype(object) if arrays[key].dtype.kind == "U" else arrays[key]
    return folder / "d.h5"


def table(folder: Path) -> Path:
    with np.load(npz(folder)) as arrays:
        for i, image in enumerate(arrays["images"]):
            Image.fromarray(image).save(folder / f"{i}.png")
    lines = [f"{i}.png,{label},{pair}" for i, (label, pair) in enumerate(zip(LABELS, PAIRS, strict=True))]
    (folder / "d.csv").write_text("\n".join(["path,label,pair", *lines]) + "\n")
    return folder / "d.csv"


@pytest.mark.parametrize("write", [npz, h5, table])
def test_each_image_finds_its_twin_of_the_other_class_in_every_view(write: Any, tmp_path: Path) -> None:
    source = open_source(write(tmp_path))
    assert source.pairs is not None and source.pairs.tolist() == PAIRS
    assert twins(source).tolist() == [5, 4, 7, -1, 1, 0, -1, 2]
    some = source.select([5, 0, 7])
    assert some.pairs.tolist() == ["a", "a", "c"] and twins(some).tolist() == [1, 0, -1]
    assert twins(source.narrow(label=1)).tolist() == [-1] * 4
    assert source.narrow(label=1).pairs.tolist() == PAIRS[4:]


def test_images_of_other_classes_are_left_out_and_rows_stay_right(tmp_path: Path) -> None:
    labels = np.array(["other", *LABELS[1:]])
    np.savez(tmp_path / "d.npz", images=np.zeros((8, 4, 4), np.uint8), labels=labels, pair=np.array(PAIRS))
    names = {"negative": "good", "positive": "defect"}
    assert open_source(tmp_path / "d.npz", **names).pairs.tolist() == PAIRS[1:]
    every = open_source(tmp_path / "d.npz", keep_other=True, **names)
    assert twins(every)[[0, 5]].tolist() == [-1, -1]


def test_convert_keeps_pairs(tmp_path: Path) -> None:
    before = open_source(npz(tmp_path))
    assert open_source(convert(before, tmp_path / "out.npz")).pairs.tolist() == PAIRS


def test_the_fingerprint_covers_pairs(tmp_path: Path) -> None:
    first = open_source(table(tmp_path)).fingerprint
    (tmp_path / "d.csv").write_text((tmp_path / "d.csv").read_text().replace("0.png,good,a", "0.png,good,z"))
    assert open_source(tmp_path / "d.csv").fingerprint != first


def test_a_pair_with_two_images_of_a_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"pair 'a' of d.npz has two images of class 'good' \(000000 and 000001\)"):
        twins(open_source(npz(tmp_path, ["a", "a", *PAIRS[2:]])))


def test_pairs_of_another_length_or_none_at_all_are_one_sentence(tmp_path: Path, toys: Any) -> None:
    with pytest.raises(UserError, match="'pair' of shape"):
        open_source(npz(tmp_path, PAIRS[1:]))
    without = open_source(toys.write_npz(tmp_path / "toy.npz", 12))
    assert without.pairs is None
    with pytest.raises(UserError, match="toy.npz has no pairs"):
        twins(without)
