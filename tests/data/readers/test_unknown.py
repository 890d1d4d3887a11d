"""What lies beside images in a file and means nothing here never stops a read; names are UTF-8 in every container."""

from __future__ import annotations

import io
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from cfdiff.data import open_source
from cfdiff.errors import UserError

LABELS = np.array([0, 1, 0, 1, 0, 1])


def encoded(pixels: np.ndarray, kind: str) -> np.ndarray:
    """Images as the bytes of files (N,) objects."""
    found = np.empty(len(pixels), object)
    for i, image in enumerate(pixels):
        out = io.BytesIO()
        Image.fromarray(image).save(out, kind)
        found[i] = np.frombuffer(out.getvalue(), np.uint8)
    return found


def test_arrays_of_any_type_are_passed_over(tmp_path: Path, pixels: np.ndarray) -> None:
    compound = np.zeros(6, [("x", "f4"), ("y", "S3")])
    np.savez(
        tmp_path / "a.npz", images=pixels, labels=LABELS, meta=compound, raw=np.zeros(6, "V9"), z=np.zeros(6, "c8")
    )
    assert len(open_source(tmp_path / "a.npz")) == 6
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"], file["labels"], file["meta"] = pixels, LABELS, compound
        file.create_dataset("lists", (6,), h5py.vlen_dtype(np.int32))
        file.create_dataset("refs", (6,), h5py.ref_dtype)
        file.create_dataset("none", data=h5py.Empty("f4"))
        file["opaque"] = np.zeros(6, h5py.opaque_dtype(np.dtype("V7")))
        file["kinds"] = np.zeros(6, h5py.enum_dtype({"a": 0, "b": 1}, "i1"))
        file["times"] = np.zeros(6, "M8[s]").astype(h5py.opaque_dtype("M8[s]"))
        file.create_group("group")
        file["type"] = np.dtype("f4")
    source = open_source(tmp_path / "a.h5")
    assert len(source) == 6 and source.read([5]).shape == (1, 5, 7, 1)


KINDS = h5py.enum_dtype({"tumor": 0, "normal": 1}, "i4")


def test_numbers_that_have_names_in_the_file_are_these_names(tmp_path: Path, pixels: np.ndarray) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"] = pixels
        file.create_dataset("labels", data=LABELS.astype("i4"), dtype=KINDS)
    source = open_source(tmp_path / "a.h5")
    assert source.classes == ("normal", "tumor") and source.labels.tolist() == (1 - LABELS).tolist()


@pytest.mark.parametrize("key", ["labels", "patient", "masks"])
@pytest.mark.parametrize("how", ["dangling", "null", "lists", "references"])
def test_a_known_array_that_is_none_is_one_sentence(tmp_path: Path, pixels: np.ndarray, key: str, how: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"] = pixels
        if key != "labels":
            file["labels"] = LABELS
        if how in ("lists", "references"):
            file.create_dataset(key, (6,), h5py.vlen_dtype(np.int32) if how == "lists" else h5py.ref_dtype)
        else:
            file[key] = h5py.SoftLink("/nowhere") if how == "dangling" else h5py.Empty("f4")
    with pytest.raises(UserError, match=f"{key}|has masks of shape"):
        open_source(tmp_path / "a.h5")


@pytest.mark.parametrize("key", ["id", "patient", "labels"])
def test_names_are_utf8_also_as_bytes_of_fixed_length(tmp_path: Path, pixels: np.ndarray, key: str) -> None:
    names = np.array(["größe", "癌"] * 3 if key != "id" else ["größe", "癌", "c", "d", "e", "ف"])
    arrays = {"images": pixels, "labels": LABELS, key: np.char.encode(names, "utf-8")}
    np.savez(tmp_path / "a.npz", **arrays)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, array in arrays.items():
            file[name] = array
    for path in (tmp_path / "a.npz", tmp_path / "a.h5"):
        source = open_source(path, **({"negative": "größe"} if key == "labels" else {}))
        found = source.ids if key == "id" else source.groups if key == "patient" else np.array(source.classes)
        assert found is not None and {"größe", "癌"} <= set(found.tolist())


def test_names_of_another_encoding_are_one_sentence(tmp_path: Path, pixels: np.ndarray) -> None:
    latin = np.char.encode(np.array(["größe"] * 6), "latin-1")
    np.savez(tmp_path / "a.npz", images=pixels, labels=LABELS, patient=latin)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"], file["labels"], file["patient"] = pixels, LABELS, latin
    for path in (tmp_path / "a.npz", tmp_path / "a.h5"):
        with pytest.raises(UserError, match="not UTF-8"):
            open_source(path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_images_as_bytes_of_any_length_in_an_h5_are_read(tmp_path: Path, pixels: np.ndarray, kind: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("images", data=encoded(pixels, kind), dtype=h5py.vlen_dtype(np.uint8))
        file["labels"] = LABELS
    source = open_source(tmp_path / "a.h5")
    assert source.shape == (5, 7, 1)
    found = source.read([4, 1])[..., 0].astype(int)
    np.testing.assert_allclose(found, pixels[[4, 1]], atol=90 if kind == "JPEG" else 0)
    assert len(source.fingerprint) == 64


def test_a_damaged_one_of_those_is_named(tmp_path: Path, pixels: np.ndarray) -> None:
    images = encoded(pixels, "PNG")
    images[2] = images[2][:40]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("images", data=images, dtype=h5py.vlen_dtype(np.uint8))
        file["labels"], file["id"] = LABELS, np.array(list("abcdef"), object)
    with pytest.raises(UserError, match=r"The image 'c' of a\.h5 .*truncated"):
        open_source(tmp_path / "a.h5").read(np.arange(6))


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((6, 3, 8, 8), np.uint8), r"channels first: put them last"),
        (np.zeros((6, 8, 8, 4), np.uint8), "4 channels: leave alpha out"),
        (np.array([b"\xff\xd8\xff"] * 6), "names or encoded bytes"),
        (np.array([b"\xff\xd8\xff"] * 6, "V700"), "names or encoded bytes"),
        (np.zeros((6, 8, 8), np.int16), "pixels of type int16"),
        (np.zeros((6, 8, 8), np.complex64), "pixels of type complex64"),
    ],
)
def test_images_that_are_stored_otherwise_are_one_sentence(tmp_path: Path, images: np.ndarray, words: str) -> None:
    np.savez(tmp_path / "a.npz", images=images, labels=LABELS)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"], file["labels"] = images, LABELS
    for path in (tmp_path / "a.npz", tmp_path / "a.h5"):
        with pytest.raises(UserError, match=words):
            open_source(path)


def test_floats_that_are_hardly_beyond_1_are_not_said_to_be_1(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.full((6, 8, 8), 1.0000001), labels=LABELS)
    with pytest.raises(UserError, match=r"float pixels from 1\.0000001\d* to 1\.0000001\d*, outside"):
        open_source(tmp_path / "a.npz")
