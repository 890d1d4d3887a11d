"""Classes as people store them: right, or one sentence; the same in every layout of images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from cfdiff.data import open_source
from cfdiff.errors import UserError

N = 6
IMAGES = np.random.default_rng(0).integers(0, 256, (N, 4, 4), dtype=np.uint8)
HALF = [0, 1, 0, 1, 0, 1]


def write_npz(folder: Path, labels: np.ndarray, **arrays: Any) -> Path:
    np.savez(folder / "d.npz", images=IMAGES, labels=labels, **arrays)
    return folder / "d.npz"


def write_medmnist(folder: Path, labels: np.ndarray, **arrays: Any) -> Path:
    parts = {f"{s}_{k}": v[rows] for s, rows in (("train", slice(0, 4)), ("test", slice(4, 6))) for k, v in (
        ("images", IMAGES), ("labels", labels[:, None] if labels.ndim == 1 else labels))}  # fmt: skip
    np.savez(folder / "d.npz", **parts, **arrays)
    return folder / "d.npz"


def write_h5(folder: Path, labels: np.ndarray, **arrays: Any) -> Path:
    with h5py.File(folder / "d.h5", "w") as file:
        for key, array in {"images": IMAGES, "labels": labels, **arrays}.items():
            file[key] = array.astype(object) if array.dtype.kind == "U" else array
    return folder / "d.h5"


def write_fixed_h5(folder: Path, labels: np.ndarray, **arrays: Any) -> Path:
    """Text as bytes of fixed length in UTF-8, as MATLAB and others write them."""
    with h5py.File(folder / "d.h5", "w") as file:
        for key, array in {"images": IMAGES, "labels": labels, **arrays}.items():
            file[key] = np.char.encode(array, "utf-8") if array.dtype.kind == "U" else array
    return folder / "d.h5"


def write_csv(folder: Path, labels: np.ndarray) -> Path:
    for i, image in enumerate(IMAGES):
        Image.fromarray(image).save(folder / f"{i}.png")
    rows = ["path,label", *(f"{i}.png,{label}" for i, label in enumerate(labels.tolist()))]
    (folder / "d.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder / "d.csv"


def write_folder(folder: Path, labels: np.ndarray) -> Path:
    for i, (image, label) in enumerate(zip(IMAGES, labels.tolist(), strict=True)):
        (folder / "d" / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / "d" / str(label) / f"{i}.png")
    return folder / "d"


Write = Callable[..., Path]
ARRAYS = [write_npz, write_medmnist, write_h5, write_fixed_h5]
ONE_COLUMN = [*ARRAYS, write_csv]
ALL = [*ONE_COLUMN, write_folder]


def by_id(path: Path, **options: Any) -> list[int]:
    """The labels in the order of the images."""
    source = open_source(path, keep_other=True, **options)
    images = source.read(np.arange(N))[..., 0]
    return [int(source.labels[next(k for k in range(N) if (images[k] == one).all())]) for one in IMAGES]


@pytest.mark.parametrize("write", ALL)
@pytest.mark.parametrize(
    ("labels", "options", "expected"),
    [
        (np.array(HALF), {}, HALF),
        (np.array(HALF) == 1, {}, HALF),
        (np.array(list("010101")), {}, HALF),
        (np.array([1, 2] * 3), {"negative": "1", "positive": "2"}, HALF),
        (np.array([1, 2] * 3), {"negative": "2"}, [1, 0] * 3),
        (np.array(["normal", "tumor"] * 3), {}, HALF),
        (np.array(["tumor", "normal"] * 3), {}, [1, 0] * 3),
        (np.array(["健康", "癌"] * 3), {"negative": "健康"}, HALF),
        (np.array(["سليم", "مريض"] * 3), {"positive": "مريض"}, HALF),
        (np.array(["gesund", "größer"] * 3), {"positive": "GRÖSSER"}, HALF),
        (np.array(["a b", "[/a]"] * 3), {"positive": "[/a]"}, HALF),
        (np.array([0, 1, 2, 0, 1, 2]), {"negative": "0", "positive": "2"}, [0, -1, 1, 0, -1, 1]),
        (np.array(["no"] * 5 + ["yes"]), {}, [0] * 5 + [1]),
        (np.array([-1, 1] * 3), {}, HALF),
    ],
)
def test_two_classes_are_told_apart_however_they_are_written(
    tmp_path: Path, write: Write, labels: np.ndarray, options: dict[str, str], expected: list[int]
) -> None:
    if write is write_folder and "[/a]" in labels:
        pytest.skip("no name of a folder")
    assert by_id(write(tmp_path, labels), **options) == expected


@pytest.mark.parametrize("write", ONE_COLUMN)
@pytest.mark.parametrize(
    "labels",
    [
        np.array([0.0, 1.0] * 3),
        np.array(["0.0", "1.0"] * 3),
        np.array(["0", "1.0"] * 3),
        np.array(["0.000000000000000000e+00", "1.000000000000000000e+00"] * 3),
        np.array(["0e0", "1."] * 3),
        np.array(["-0", "+1", "0", "1", "0.", "1E0"]),
    ],
)
def test_whole_numbers_are_one_class_however_they_are_written(tmp_path: Path, write: Write, labels: np.ndarray) -> None:
    path = write(tmp_path, labels)
    assert by_id(path) == HALF and open_source(path).classes == ("0", "1")


@pytest.mark.parametrize("write", ARRAYS)
@pytest.mark.parametrize("labels", [np.array(HALF), np.array(list("010101")), np.array([0.0, 1.0] * 3)])
def test_numbers_of_any_kind_are_places_in_the_classes_that_a_file_names(
    tmp_path: Path, write: Write, labels: np.ndarray
) -> None:
    path = write(tmp_path, labels, classes=np.array(["sound", "krank"]))
    assert by_id(path) == HALF and open_source(path).classes == ("sound", "krank")


@pytest.mark.parametrize("write", ONE_COLUMN)
@pytest.mark.parametrize("labels", [np.array([0.25, 0.75] * 3), np.array(["0.5", "1.5"] * 3)])
def test_fractions_are_no_classes(tmp_path: Path, write: Write, labels: np.ndarray) -> None:
    with pytest.raises(UserError, match="labels that are not whole numbers"):
        open_source(write(tmp_path, labels))


@pytest.mark.parametrize("write", [write_npz, write_h5])
@pytest.mark.parametrize("label", [1e20, -1e300])
def test_a_label_that_no_integer_holds_is_one_sentence(tmp_path: Path, write: Write, label: float) -> None:
    with pytest.raises(UserError, match="which numbers no class"):
        open_source(write(tmp_path, np.array([0, label] * 3)), negative="0")


@pytest.mark.parametrize("labels", [["00", "01"], ["-1", "+1"], ["0", "1e99"]])
def test_names_of_digits_stay_as_they_are_written(tmp_path: Path, labels: list[str]) -> None:
    assert open_source(write_csv(tmp_path, np.array(labels * 3)), negative=labels[0]).classes == tuple(labels)


@pytest.mark.parametrize("write", ARRAYS)
@pytest.mark.parametrize("labels", [np.eye(2, dtype=int)[HALF], np.ones((N, 14), int), np.eye(2)[HALF]])
def test_several_labels_an_image_are_one_sentence(tmp_path: Path, write: Write, labels: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"labels of shape .* one class per image is needed"):
        open_source(write(tmp_path, labels))


@pytest.mark.parametrize("write", ARRAYS)
@pytest.mark.parametrize("classes", [None, np.array(["no", "yes"])])
def test_nan_is_no_label_where_there_need_be_none(tmp_path: Path, write: Write, classes: np.ndarray | None) -> None:
    beside = {} if classes is None else {"classes": classes}
    path = write(tmp_path, np.array([0, 1, np.nan] * 2), **beside)
    source = open_source(path, unlabelled=("a", "b"), keep_other=True)
    assert source.labels.tolist() == [0, 1, -1] * 2
    with pytest.raises(UserError, match="not whole numbers"):
        open_source(path)


@pytest.mark.parametrize("write", ALL)
@pytest.mark.parametrize("labels", [np.array([1, 2] * 3), np.array([0, 1, 2] * 2), np.array(["ring", "disc"] * 3)])
def test_classes_that_could_be_either_are_asked_for_by_name(tmp_path: Path, write: Write, labels: np.ndarray) -> None:
    with pytest.raises(
        UserError, match=f"classes {', '.join(sorted({str(x) for x in labels}))}: choose two with --neg"
    ):
        open_source(write(tmp_path, labels))


@pytest.mark.parametrize("write", ARRAYS)
def test_labels_beyond_the_classes_that_a_file_names_are_one_sentence(tmp_path: Path, write: Write) -> None:
    with pytest.raises(UserError, match="labels from 1 to 2 but names 2 'classes'"):
        open_source(write(tmp_path, np.array([1, 2] * 3), classes=np.array(["a", "b"])))
