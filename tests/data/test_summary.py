from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cfdiff.data import open_source
from cfdiff.data.sheet import contact_sheet
from cfdiff.data.summary import summarise
from cfdiff.errors import UserError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Eight images; the first and the last are exact copies across splits and groups."""
    images = np.random.default_rng(0).integers(0, 256, (8, 4, 4), dtype=np.uint8)
    images[7] = images[0]
    np.savez(
        tmp_path / "s.npz",
        images=images,
        labels=np.array(["neg", "neg", "pos", "pos", "neg", "pos", "neg", "neg"]),
        patient=np.array(list("aabbbbcc")),
        split=np.array(["val"] * 2 + ["train"] * 4 + ["test"] * 2),
    )
    return tmp_path / "s.npz"


def test_a_summary_counts_by_split_class_and_group_and_json_can_write_it(path: Path) -> None:
    summary = json.loads(json.dumps(asdict(summarise(open_source(path)))))
    assert list(summary) == [
        "name", "n", "shape", "dtype", "classes", "counts", "groups", "values", "duplicates", "masks", "fingerprint"
    ]  # fmt: skip
    assert summary["counts"] == {
        "train": {"neg": 1, "pos": 3},
        "val": {"neg": 2, "pos": 0},
        "test": {"neg": 2, "pos": 0},
    }
    assert list(summary["counts"]) == ["train", "val", "test"]
    assert summary["groups"] == {
        "n": 3,
        "smallest": 2,
        "median": 2.0,
        "largest": 4,
        "only_negative": 2,
        "only_positive": 0,
        "in_several_splits": 0,
        "counts": {"a": {"neg": 2, "pos": 0}, "b": {"neg": 1, "pos": 3}, "c": {"neg": 2, "pos": 0}},
    }


def test_mean_and_deviation_are_those_of_all_pixels_of_the_class(path: Path) -> None:
    source = open_source(path)
    values = summarise(source).values
    for label, name in enumerate(source.classes):
        pixels = source.read(np.flatnonzero(source.labels == label)) / 255
        assert values[name].mean == pytest.approx(pixels.mean())
        assert values[name].std == pytest.approx(pixels.std())
        assert values[name].range == (255 * pixels.min(), 255 * pixels.max())


def test_exact_copies_and_the_borders_they_cross_are_counted(path: Path) -> None:
    assert asdict(summarise(open_source(path)).duplicates) == {
        "images": 2,
        "sets": 1,
        "across_splits": 1,
        "across_labels": 0,
        "across_groups": 1,
    }


def test_images_of_other_classes_are_counted_as_other(tmp_path: Path) -> None:
    np.savez(tmp_path / "o.npz", images=np.zeros((3, 4, 4), np.uint8), labels=np.array(["a", "b", "c"]))
    source = open_source(tmp_path / "o.npz", negative="a", positive="b", keep_other=True)
    assert summarise(source).counts == {"all": {"a": 1, "b": 1, "other": 1}}


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_contact_sheet_is_a_png_even_when_a_class_is_missing(path: Path, tmp_path: Path, split: str) -> None:
    out = contact_sheet(open_source(path, split=split), tmp_path / "sheet.png", per_class=4, columns=2)
    with Image.open(out) as image:
        assert image.format == "PNG"
        assert len(set(image.convert("L").tobytes())) > 10
    assert not list(tmp_path.glob("*.part"))


def test_a_contact_sheet_that_cannot_be_written_is_one_clear_error(path: Path) -> None:
    with pytest.raises(UserError, match="Cannot write"):
        contact_sheet(open_source(path), path.parent / "missing" / "sheet.png", per_class=1, columns=1)
