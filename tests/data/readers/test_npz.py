from __future__ import annotations

import io
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from cfdiff.data import open_source
from cfdiff.errors import UserError

LABELS = np.array([0, 1, 0, 1, 0, 1])


def save(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def test_images_and_labels_come_back_as_they_were_stored(tmp_path: Path, pixels: np.ndarray) -> None:
    source = open_source(save(tmp_path / "a.npz", images=pixels, labels=LABELS))
    assert len(source) == 6
    assert source.shape == (5, 7, 1)
    assert source.dtype == np.uint8
    assert source.classes == ("0", "1")
    assert source.labels.tolist() == LABELS.tolist()
    np.testing.assert_array_equal(source.read([4, 0, 4])[..., 0], pixels[[4, 0, 4]])


def test_colour_and_16_bit_images_keep_their_channels_and_dtype(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 65536, (2, 4, 4, 3), dtype=np.uint16)
    source = open_source(save(tmp_path / "a.npz", images=images, labels=LABELS[:2]))
    assert (source.shape, source.dtype) == ((4, 4, 3), np.uint16)
    np.testing.assert_array_equal(source.read([0, 1]), images)


def test_medmnist_keys_give_the_splits_train_val_and_test(tmp_path: Path, pixels: np.ndarray) -> None:
    parts = {"train": slice(0, 3), "val": slice(3, 4), "test": slice(4, 6)}
    arrays = {f"{s}_images": pixels[at] for s, at in parts.items()}
    arrays |= {f"{s}_labels": LABELS[at, None] for s, at in parts.items()}
    path = save(tmp_path / "m.npz", **arrays)
    assert open_source(path).splits.tolist() == ["train"] * 3 + ["val"] + ["test"] * 2
    source = open_source(path, split="val+test")
    assert source.ids.tolist() == ["val/000000", "test/000000", "test/000001"]
    np.testing.assert_array_equal(source.read([0, 1, 2])[..., 0], pixels[3:])


def test_further_arrays_give_ids_groups_splits_and_class_names(tmp_path: Path, pixels: np.ndarray) -> None:
    path = save(
        tmp_path / "a.npz",
        images=pixels,
        labels=LABELS,
        id=np.array(list("abcdef")),
        patient=np.array(["p", "p", "q", "q", "r", "r"]),
        field=np.arange(6),
        split=np.array(["train"] * 4 + ["test"] * 2),
        classes=np.array(["clean", "infected"]),
    )
    source = open_source(path)
    assert source.ids.tolist() == list("abcdef")
    assert source.groups.tolist() == ["p", "p", "q", "q", "r", "r"]
    assert source.classes == ("clean", "infected")
    assert open_source(path, group_key="field", split="test").groups.tolist() == ["4", "5"]
    with pytest.raises(UserError, match=r"no column 'slide', .*id, patient, field, split"):
        open_source(path, group_key="slide")
    with pytest.raises(UserError, match=r"no split 'valid': the known ones are test, train"):
        open_source(path, split="test+valid")


def test_masks_are_read_plain_or_bit_packed(tmp_path: Path, pixels: np.ndarray) -> None:
    masks = pixels > 200
    for name, stored in {"plain": masks, "packed": np.packbits(masks, axis=-1)}.items():
        source = open_source(save(tmp_path / f"{name}.npz", images=pixels, labels=LABELS, masks=stored))
        read = source.select([5, 1]).read_masks([0, 1])
        assert read.dtype == bool
        np.testing.assert_array_equal(read, masks[[5, 1]])


SQUARE = np.zeros((6, 40, 40), np.uint8)
SQUARE[:, 9:27, 11:30] = 255


def through_jpeg(masks: np.ndarray) -> np.ndarray:
    out = np.empty_like(masks)
    for i, mask in enumerate(masks):
        file = io.BytesIO()
        Image.fromarray(mask).save(file, "JPEG", quality=75)
        out[i] = np.asarray(Image.open(file))
    return out


@pytest.mark.parametrize("dtype", ["u1", "u2", "i8", "f4"])
@pytest.mark.parametrize("only", [slice(0, 6), slice(4, 5)])
@pytest.mark.parametrize("ending", ["npz", "h5"])
def test_masks_that_were_a_jpeg_are_refused_as_files_of_them_are(
    tmp_path: Path, dtype: str, only: slice, ending: str
) -> None:
    masks = SQUARE.copy()
    masks[only] = through_jpeg(SQUARE[only])
    arrays = {"images": SQUARE, "labels": LABELS}
    scale = 255 if dtype == "f4" else 1
    for name, stored in (("good", SQUARE), ("bad", masks)):
        path = tmp_path / f"{name}.{ending}"
        given = {**arrays, "masks": (stored / scale).astype(dtype)}
        if ending == "npz":
            save(path, **given)
        else:
            with h5py.File(path, "w") as file:
                file.update(given)
    np.testing.assert_array_equal(open_source(tmp_path / f"good.{ending}").read_masks(range(6)), SQUARE > 0)
    with pytest.raises(UserError, match=r"bad\.\w+ has masks with many values near black and white"):
        open_source(tmp_path / f"bad.{ending}").read_masks(range(6))


@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "f4"])
def test_masks_of_numbered_objects_and_of_soft_edges_count_where_they_are_not_0(tmp_path: Path, dtype: str) -> None:
    masks = np.zeros((6, 40, 40))
    masks[:, 5:20, 5:20] = np.arange(6)[:, None, None]
    masks[0, 5:20, 5] = 3
    soft = np.where(SQUARE, 255, 0) - 128 * (np.roll(SQUARE, 1, axis=2) != SQUARE) * (SQUARE > 0)
    for stored in (masks, soft / (255 if dtype == "f4" else 1)):
        path = save(tmp_path / "a.npz", images=SQUARE, labels=LABELS, masks=stored.astype(dtype))
        np.testing.assert_array_equal(open_source(path).read_masks(range(6)), stored != 0)


def test_repeated_names_are_numbered_but_repeated_ids_are_an_error(tmp_path: Path, pixels: np.ndarray) -> None:
    twice = np.array(["a", "b", "a", "c", "d", "e"])
    named = open_source(save(tmp_path / "n.npz", images=pixels, labels=LABELS, name=twice))
    assert named.ids.tolist() == ["a", "b", "a#2", "c", "d", "e"]
    with pytest.raises(UserError, match="id 'a' more than once"):
        open_source(save(tmp_path / "i.npz", images=pixels, labels=LABELS, id=twice))


def test_float_images_are_read_as_float32(tmp_path: Path, pixels: np.ndarray) -> None:
    source = open_source(save(tmp_path / "f.npz", images=pixels / 255, labels=LABELS))
    assert source.dtype == np.float32
    np.testing.assert_allclose(source.read([0])[0, ..., 0], pixels[0] / 255, rtol=1e-6)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": np.zeros((6, 4, 4))}, "no array 'images' but labels, pictures"),
        ({"images": np.full((6, 4, 4), np.nan)}, "NaN or infinite"),
        ({"images": np.full((6, 4, 4), 1.5)}, r"from 1.5 to 1.5, outside \[0, 1\]"),
        ({"images": np.zeros((6, 4, 4), np.int32)}, "pixels of type int32"),
        ({"images": np.zeros((6, 4, 4, 2), np.uint8)}, r"shape \(6, 4, 4, 2\)"),
        ({"images": np.zeros((5, 4, 4), np.uint8)}, "5 images but 6 labels"),
        ({"images": np.zeros((0, 4, 4), np.uint8), "labels": np.zeros(0, int)}, "empty"),
        ({"images": np.zeros((6, 4, 4), np.uint8), "labels": np.eye(6)}, r"labels of shape \(6, 6\)"),
        ({"images": np.zeros((6, 4, 4), np.uint8), "labels": LABELS + 0.5}, "not whole numbers"),
        ({"images": np.zeros((6, 4, 4), np.uint8), "labels": LABELS + np.inf}, "not whole numbers"),
        ({"images": np.zeros((6, 4, 4), np.uint8), "labels": np.array([b"b", b"caf\xe9"] * 3)}, "not UTF-8"),
        (
            {"images": np.zeros((6, 4, 4), np.uint8), "masks": np.zeros((6, 3, 3))},
            r"masks of shape \(6, 3, 3\)",
        ),
        ({"images": np.zeros((6, 4, 4), np.uint8), "classes": np.array(["a"])}, "names 1 'classes'"),
    ],
)
def test_arrays_that_make_no_source_are_named_in_the_error(
    tmp_path: Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        open_source(save(tmp_path / "bad.npz", **({"labels": LABELS} | arrays)))


def test_an_array_that_is_there_twice_is_refused_and_one_of_any_version_is_read(
    tmp_path: Path, pixels: np.ndarray
) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for key, values, version in (("images", pixels, (3, 0)), ("labels", LABELS, (2, 0))):
            out = io.BytesIO()
            np.lib.format.write_array(out, np.asarray(values), version=version)
            archive.writestr(f"{key}.npy", out.getvalue())
    assert open_source(path).read([0]).shape[0] == 1
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning):
        archive.writestr("images.npy", b"")
    with pytest.raises(UserError, match="the array 'images' twice"):
        open_source(path)


def test_pickled_objects_are_refused(tmp_path: Path, pixels: np.ndarray) -> None:
    path = save(tmp_path / "p.npz", images=pixels, labels=np.array([{}] * 6, dtype=object))
    with pytest.raises(UserError, match="pickled Python objects, which are refused"):
        open_source(path)


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.98])
def test_a_file_cut_short_anywhere_is_one_clear_error(tmp_path: Path, pixels: np.ndarray, kept: float) -> None:
    path = tmp_path / "cut.npz"
    np.savez_compressed(path, images=pixels, labels=LABELS)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(UserError, match=r"cut\.npz is (empty|not a readable \.npz)"):
        open_source(path)


def test_flipped_bytes_inside_a_npz_are_one_clear_error(tmp_path: Path, pixels: np.ndarray) -> None:
    path = tmp_path / "bad.npz"
    np.savez_compressed(path, images=pixels, labels=LABELS)
    content = bytearray(path.read_bytes())
    content[120:160] = bytes(40)
    path.write_bytes(content)
    with pytest.raises(UserError, match="not a readable"):
        open_source(path)


def test_further_arrays_of_a_medmnist_file_are_columns_and_label_shapes_may_differ(tmp_path: Path) -> None:
    images = np.zeros((4, 8, 8), np.uint8)
    labels = np.array([0, 1, 0, 1])
    arrays = {
        "train_images": images, "train_labels": labels[:, None], "train_patient": np.array(["a", "a", "b", "b"]),
        "val_images": images[:2], "val_labels": labels[:2], "val_patient": np.array([["c"], ["d"]]),
        "val_only": np.arange(2),
    }  # fmt: skip
    np.savez(tmp_path / "med.npz", **arrays)
    source = open_source(tmp_path / "med.npz", group_key="patient")
    assert source.groups is not None and source.groups.tolist() == ["a", "a", "b", "b", "c", "d"]
    assert source.labels.tolist() == [0, 1, 0, 1, 0, 1]
    with pytest.raises(UserError, match="only"):
        open_source(tmp_path / "med.npz", group_key="only")
    np.savez(tmp_path / "wide.npz", **{**arrays, "val_labels": np.zeros((2, 3))})
    with pytest.raises(UserError, match=r"labels of shape .*\(2, 3\)"):
        open_source(tmp_path / "wide.npz")


def test_splits_of_different_sizes_and_classes_that_are_no_list_are_one_sentence(tmp_path: Path) -> None:
    labels = np.array([0, 1, 0, 1])
    np.savez(
        tmp_path / "sizes.npz",
        train_images=np.zeros((4, 28, 28), np.uint8), train_labels=labels,
        val_images=np.zeros((4, 32, 32), np.uint8), val_labels=labels,
    )  # fmt: skip
    with pytest.raises(UserError, match=r"different shapes \(train \(28, 28\), val \(32, 32\)\)"):
        open_source(tmp_path / "sizes.npz")
    np.savez(tmp_path / "classes.npz", images=np.zeros((4, 8, 8), np.uint8), labels=labels, classes=np.array("ab"))
    with pytest.raises(UserError, match="'classes' of shape"):
        open_source(tmp_path / "classes.npz")
