from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from cfdiff.data import open_source
from cfdiff.errors import UserError

LABELS = np.array([0, 1, 0, 1, 0, 1], np.uint8)


def save(path: Path, **arrays: object) -> Path:
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            file[key] = array
    return path


def test_images_are_read_by_index_in_any_order(tmp_path: Path, pixels: np.ndarray) -> None:
    source = open_source(save(tmp_path / "a.h5", images=pixels, labels=LABELS, slide=["s"] * 6), group_key="slide")
    np.testing.assert_array_equal(source.read([4, 0, 4])[..., 0], pixels[[4, 0, 4]])
    assert source.groups.tolist() == ["s"] * 6
    assert source.labels.tolist() == LABELS.tolist()


def test_patchcamelyon_files_find_their_labels_and_slides_beside_them(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    stem = "camelyonpatch_level_2_split_test"
    save(tmp_path / f"{stem}_y.h5", y=LABELS.reshape(6, 1, 1, 1))
    path = save(tmp_path / f"{stem}_x.h5", x=images)
    source = open_source(path)
    assert source.labels.tolist() == LABELS.tolist()
    np.testing.assert_array_equal(source.select([3, 1]).read([0, 1]), images[[3, 1]])
    rows = "".join(f"{i},True,slide_{i // 3}\n" for i in range(6))
    (tmp_path / f"{stem}_meta.csv").write_text(f",tumor_patch,wsi\n{rows}")
    assert open_source(path).groups.tolist() == ["slide_0"] * 3 + ["slide_1"] * 3


def test_patchcamelyon_images_without_labels_say_which_file_is_missing(tmp_path: Path) -> None:
    path = save(tmp_path / "some_split_test_x.h5", x=np.zeros((2, 4, 4, 3), np.uint8))
    with pytest.raises(UserError, match=r"no file some_split_test_y\.h5 beside it"):
        open_source(path)


def test_masks_and_names_of_classes_are_taken_from_the_file(tmp_path: Path, pixels: np.ndarray) -> None:
    path = save(tmp_path / "m.h5", images=pixels, labels=LABELS, masks=pixels > 99, classes=["fine", "cracked"])
    source = open_source(path)
    assert source.classes == ("fine", "cracked")
    np.testing.assert_array_equal(source.read_masks([5, 2]), pixels[[5, 2]] > 99)


def test_float_pixels_out_of_range_are_found_when_they_are_read(tmp_path: Path) -> None:
    images = np.full((2, 4, 4), 0.5)
    images[1, 0, 0] = np.nan
    source = open_source(save(tmp_path / "f.h5", images=images, labels=[0, 1]))
    assert source.read([0]).dtype == np.float32
    with pytest.raises(UserError, match="NaN"):
        source.read([0, 1])


def test_a_truncated_or_foreign_file_is_one_clear_error(tmp_path: Path, pixels: np.ndarray) -> None:
    path = save(tmp_path / "a.h5", images=pixels, labels=LABELS)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"a\.h5 is not a readable HDF5 file"):
        open_source(path)
    (tmp_path / "b.h5").write_text("no HDF5")
    with pytest.raises(UserError, match=r"b\.h5 is not a readable HDF5 file"):
        open_source(tmp_path / "b.h5")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"labels": LABELS}, "no 'images' or 'x' but labels"),
        ({"images": np.zeros((6, 4, 4), np.uint8)}, "no 'labels' or 'y'"),
        ({"images": np.zeros((5, 4, 4), np.uint8), "labels": LABELS}, "5 images but 6 labels"),
        ({"images": np.zeros((6, 4), np.uint8), "labels": LABELS}, r"shape \(6, 4\)"),
        ({"images": np.zeros((6, 4, 4), np.int16), "labels": LABELS}, "pixels of type int16"),
        ({"images": h5py.Empty("u1"), "labels": LABELS}, "'images' of a.h5 is a link to nothing or empty"),
        ({"images": np.zeros((2, 4, 4), np.uint8), "labels": np.array([b"b", b"caf\xe9"])}, "not UTF-8"),
        (
            {"images": np.zeros((6, 4, 4), np.uint8), "labels": LABELS, "masks": np.zeros((5, 4, 4))},
            r"masks of shape \(5",
        ),
    ],
)
def test_files_without_what_is_needed_are_one_clear_error(tmp_path: Path, arrays: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_source(save(tmp_path / "a.h5", **arrays))


def test_matrices_beside_the_images_are_no_columns(tmp_path: Path, pixels: np.ndarray) -> None:
    path = save(tmp_path / "a.h5", images=pixels, labels=LABELS, features=np.zeros((6, 9)), slide=np.arange(6))
    with pytest.raises(UserError, match="the known ones are slide"):
        open_source(path, group_key="features")
