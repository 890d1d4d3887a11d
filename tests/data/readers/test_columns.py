"""One value an image, in every layout that has arrays: shapes that fit, shapes that do not, labels of -1."""

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


def write_npz(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "d.npz", **{"images": IMAGES, **arrays})
    return folder / "d.npz"


def write_h5(folder: Path, **arrays: Any) -> Path:
    with h5py.File(folder / "d.h5", "w") as file:
        for key, array in {"images": IMAGES, **arrays}.items():
            file[key] = array.astype(object) if array.dtype.kind == "U" else array
    return folder / "d.h5"


def write_csv(folder: Path, **arrays: Any) -> Path:
    for i, image in enumerate(IMAGES):
        Image.fromarray(image).save(folder / f"{i}.png")
    head = ["path", *("label" if key == "labels" else key for key in arrays)]
    rows = [[f"{i}.png", *(str(array[i]) for array in arrays.values())] for i in range(N)]
    (folder / "d.csv").write_text("\n".join(",".join(row) for row in (head, *rows)))
    return folder / "d.csv"


Write = Callable[..., Path]
ARRAYS = pytest.mark.parametrize("write", [write_npz, write_h5])
ALL = pytest.mark.parametrize("write", [write_npz, write_h5, write_csv])
LABELS = np.array(["neg", "pos"] * 3)
KNOWN = {"labels": LABELS, "split": np.array(["train", "test"] * 3), "patient": np.array(list("xxyyzz"))}
KNOWN |= {"id": np.array(list("abcdef")), "group": np.array(list("xxyyzz")), "name": np.array(list("abcdef"))}


@ARRAYS
@pytest.mark.parametrize("shape", [(1, N), (N, 1), (1, 1, N), (N, 1, 1, 1)])
@pytest.mark.parametrize("key", KNOWN)
def test_a_column_with_further_axes_of_length_one_is_taken_as_one_value_an_image(
    tmp_path: Path, write: Write, key: str, shape: tuple[int, ...]
) -> None:
    plain = open_source(write(tmp_path, **{"labels": LABELS, key: KNOWN[key]}))
    source = open_source(write(tmp_path, **{"labels": LABELS, key: KNOWN[key].reshape(shape)}))
    for field in ("ids", "labels", "groups", "splits"):
        np.testing.assert_array_equal(getattr(source, field), getattr(plain, field))


@ARRAYS
@pytest.mark.parametrize("key", sorted(KNOWN.keys() - {"labels"}))
@pytest.mark.parametrize("shape", [(N + 1,), (N - 1,), (N, 2), (1, N - 1), ()])
def test_a_known_column_of_unfit_shape_is_an_error_that_names_key_and_shapes(
    tmp_path: Path, write: Write, key: str, shape: tuple[int, ...]
) -> None:
    path = write(tmp_path, labels=LABELS, **{key: np.zeros(shape, np.int64)})
    with pytest.raises(UserError, match=rf"'{key}' of shape {str(shape).replace('(', '.').replace(')', '.')} for 6 im"):
        open_source(path)


@ARRAYS
@pytest.mark.parametrize("shape", [(N + 1,), (N, 2), ()])
def test_an_array_of_unknown_name_that_fits_nothing_is_ignored(
    tmp_path: Path, write: Write, shape: tuple[int, ...]
) -> None:
    assert list(open_source(write(tmp_path, labels=LABELS, features=np.zeros(shape))).columns) == []


def test_a_known_column_that_one_split_of_a_medmnist_file_lacks_is_an_error(tmp_path: Path) -> None:
    arrays = {f"{s}_images": IMAGES for s in ("train", "val")} | {f"{s}_labels": LABELS for s in ("train", "val")}
    np.savez(tmp_path / "d.npz", **arrays, train_patient=KNOWN["patient"])
    with pytest.raises(UserError, match="'train_patient' but not 'val_patient'"):
        open_source(tmp_path / "d.npz")
    np.savez(tmp_path / "d.npz", **arrays, train_patient=KNOWN["patient"], val_patient=KNOWN["patient"][:4])
    with pytest.raises(UserError, match=r"split val of d.npz has 'patient' of shape \(4,\) for 6"):
        open_source(tmp_path / "d.npz")
    np.savez(tmp_path / "d.npz", **arrays, train_masks=IMAGES > 9, val_masks=IMAGES > 99)
    source = open_source(tmp_path / "d.npz")
    np.testing.assert_array_equal(source.read_masks(np.arange(12)), np.concatenate([IMAGES > 9, IMAGES > 99]))


JUDGE = {"keep_other": True, "unlabelled": ("healthy", "sick")}


@ALL
@pytest.mark.parametrize("options", [{}, JUDGE])
def test_minus_one_is_the_negative_class_beside_nothing_but_one(
    tmp_path: Path, write: Write, options: dict[str, Any]
) -> None:
    source = open_source(write(tmp_path, labels=np.array([-1, 1, 1, -1, -1, 1])), **options)
    assert source.labels.tolist() == [0, 1, 1, 0, 0, 1] and source.classes == ("-1", "1")


@ARRAYS
@pytest.mark.parametrize("options", [{}, JUDGE])
def test_minus_one_beside_one_is_the_first_of_two_named_classes(
    tmp_path: Path, write: Write, options: dict[str, Any]
) -> None:
    names = np.array(["healthy", "sick"])
    source = open_source(write(tmp_path, labels=np.array([-1, 1, 1, -1, -1, 1]), classes=names), **options)
    assert source.labels.tolist() == [0, 1, 1, 0, 0, 1] and source.classes == ("healthy", "sick")


@ALL
def test_minus_one_beside_both_classes_is_unlabelled(tmp_path: Path, write: Write) -> None:
    source = open_source(write(tmp_path, labels=np.array([-1, 1, 0, -1, 0, 1])), **JUDGE)
    assert source.labels.tolist() == [-1, 1, 0, -1, 0, 1] and source.classes == ("0", "1")


@ALL
def test_spellings_of_a_class_that_differ_in_case_blanks_or_unicode_form_are_one(tmp_path: Path, write: Write) -> None:
    labels = np.array(["Benign", "benign", "BENIGN ", "Malign\u0061nt", "malignant", "\uff4dalignant"])
    source = open_source(write(tmp_path, labels=labels))
    assert source.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert any("'Benign'" in note and "'benign'" in note for note in source.notes)


@ARRAYS
def test_a_stated_order_that_contradicts_what_the_names_mean_is_refused_with_the_way_out(
    tmp_path: Path, write: Write
) -> None:
    path = write(tmp_path, labels=np.array([0, 1] * 3), classes=np.array(["Parasitized", "Uninfected"]))
    with pytest.raises(UserError, match="--negative Uninfected --positive Parasitized"):
        open_source(path)
    source = open_source(path, negative="uninfected", positive="PARASITIZED")
    assert source.labels.tolist() == [1, 0] * 3 and source.classes == ("Uninfected", "Parasitized")
