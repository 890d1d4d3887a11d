"""Files that were made to do harm, or are damaged so as to look like it: one sentence, and nothing is read for it."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from cfdiff.data import limits, open_source
from cfdiff.data.sheet import contact_sheet
from cfdiff.errors import UserError

LABELS = np.array([0, 1, 0, 1, 0, 1])


@pytest.fixture
def small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "memory", lambda: 50_000_000)


# Values from other files


def test_external_storage_does_not_give_another_files_bytes_as_pixels(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_bytes(b"do not read me" * 100)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("images", (6, 8, 8), "u1", external=[(str(tmp_path / "secret.txt"), 0, 384)])
        file["labels"] = LABELS
    with pytest.raises(UserError, match=r"'images' of a\.h5 is stored in 'secret\.txt', which is not followed") as said:
        open_source(tmp_path / "a.h5")
    assert str(tmp_path) not in str(said.value)


@pytest.mark.parametrize("key", ["images", "labels", "masks", "patient", "classes"])
@pytest.mark.parametrize("kind", ["link", "link to a link", "virtual"])
def test_links_out_of_the_file_and_virtual_data_sets_are_refused(
    tmp_path: Path, pixels: np.ndarray, key: str, kind: str
) -> None:
    values: dict[str, Any] = {"images": pixels, "labels": LABELS, "masks": pixels > 9, "patient": LABELS}
    values["classes"] = np.array([0, 1])
    with h5py.File(tmp_path / "b.h5", "w") as other:
        other["group/there"] = values[key]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name in values.keys() - {key}:
            file[name] = values[name]
        if kind == "link":
            file[key] = h5py.ExternalLink(str(tmp_path / "b.h5"), "group/there")
        elif kind == "link to a link":
            file["door"] = h5py.ExternalLink(str(tmp_path / "b.h5"), "group")
            file[key] = h5py.SoftLink("/door/there")
        else:
            layout = h5py.VirtualLayout(values[key].shape, values[key].dtype)
            layout[...] = h5py.VirtualSource(str(tmp_path / "b.h5"), "group/there", shape=values[key].shape)
            file.create_virtual_dataset(key, layout)
    with pytest.raises(UserError, match=rf"'{key}' of a\.h5 is .* not followed: copy the values into a\.h5 itself"):
        open_source(tmp_path / "a.h5")


def test_a_link_of_no_use_stops_nothing(tmp_path: Path, pixels: np.ndarray) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"], file["labels"] = pixels, LABELS
        file["notes"] = h5py.ExternalLink("nowhere.h5", "notes")
        file["gone"] = h5py.SoftLink("/nowhere")
    assert len(open_source(tmp_path / "a.h5")) == 6


# Sizes that a file only claims


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        ((10**12, 4, 4), (10**12,), r"names of the 1,000,000,000,000 images .* would take 100 TB"),
        ((6, 10**6, 10**6), (6,), r"images of 1000000x1000000, which is 1,000,000,000,000 pixels"),
        ((6, 4, 4), (10**12,), r"1,000,000,000,000 labels .* would take 10\d TB"),
    ],
)
def test_a_small_h5_that_declares_a_huge_shape_is_one_sentence_with_the_size(
    tmp_path: Path, images: tuple[int, ...], labels: tuple[int, ...], message: str
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("images", images, "u1", chunks=tuple(min(side, 4) for side in images))
        file.create_dataset("labels", labels, "u1", chunks=(4,))
    assert (tmp_path / "a.h5").stat().st_size < 10_000
    with pytest.raises(UserError, match=message):
        open_source(tmp_path / "a.h5")


def test_a_batch_that_would_not_fit_is_said_before_it_is_read(tmp_path: Path, small_machine: None) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("images", (6, 6000, 6000), "u1", chunks=(1, 64, 64))
        file["labels"] = LABELS
    source = open_source(tmp_path / "a.h5")
    with pytest.raises(UserError, match=r"Reading 6 images of a\.h5 would take 216 MB"):
        source.read(np.arange(6))


def test_an_array_that_nobody_uses_is_not_inflated(tmp_path: Path, pixels: np.ndarray) -> None:
    np.savez_compressed(
        tmp_path / "a.npz", images=pixels, labels=LABELS, features=np.zeros((6, 10_000_000), np.uint8), flags=LABELS
    )
    tracemalloc.start()
    try:
        source = open_source(tmp_path / "a.npz")
        assert source.read([0]).shape == (1, 5, 7, 1) and len(source.fingerprint) == 64
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_an_npz_member_that_claims_more_than_the_memory_is_one_sentence_with_the_size(
    tmp_path: Path, small_machine: None
) -> None:
    np.savez_compressed(tmp_path / "a.npz", images=np.zeros((6, 4000, 4000), np.uint8), labels=LABELS)
    assert (tmp_path / "a.npz").stat().st_size < 1_000_000
    with pytest.raises(UserError, match=r"array 'images' of a\.npz, .* would take 96 MB, and this machine has 50 MB"):
        open_source(tmp_path / "a.npz")


def npy(shape: tuple[int, ...], data: bytes, descr: str = "|u1") -> bytes:
    """The bytes of a .npy that claims a shape and holds what it likes."""
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": descr, "fortran_order": False, "shape": shape})
    return out.getvalue() + data


def test_an_npz_member_that_claims_more_than_it_holds_is_not_readable(tmp_path: Path, pixels: np.ndarray) -> None:
    np.savez(tmp_path / "a.npz", labels=LABELS)
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("images.npy", npy((6, 1000, 1000), bytes(50)))
    with pytest.raises(UserError, match="not a readable .npz .*cut short"):
        open_source(tmp_path / "a.npz")


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("side", [10_000, 60_000])
def test_an_image_that_claims_to_be_huge_is_one_sentence_with_the_pixels(
    folder: Path, suffix: str, side: int, recwarn: pytest.WarningsRecorder
) -> None:
    path = folder / "healthy" / f"huge.{suffix}"
    Image.fromarray(np.zeros((5, 7), np.uint8)).save(path)
    content = bytearray(path.read_bytes())
    if suffix == "png":
        content[16:24] = side.to_bytes(4, "big") * 2
        content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    else:  # the tags ImageWidth and ImageLength, of type LONG
        start = int.from_bytes(content[4:8], "little")
        for tag in range(2):
            at = start + 2 + 12 * tag
            assert int.from_bytes(content[at : at + 2], "little") == 256 + tag
            content[at + 2 : at + 12] = (
                (4).to_bytes(2, "little") + (1).to_bytes(4, "little") + side.to_bytes(4, "little")
            )
    path.write_bytes(content)
    with pytest.raises(
        UserError, match=rf"healthy/huge\.{suffix} cannot be read: its header claims {side**2:,} pixels"
    ):
        open_source(folder)
    assert not list(recwarn)


@pytest.mark.parametrize(
    ("length", "message"), [(200_000, "cannot be read as a CSV, in line 2"), (5_000, "5,000 characters in 'note'")]
)
def test_a_csv_with_a_huge_field_is_one_sentence(folder: Path, length: int, message: str) -> None:
    (folder.parent / "list.csv").write_text(f"path,label,note\ncells/healthy/0.png,healthy,{'x' * length}\n")
    with pytest.raises(UserError, match=message):
        open_source(folder.parent / "list.csv", group_key="note")


# Types that are no pixels and no names


def test_compound_opaque_and_vlen_arrays_do_not_break_a_read(tmp_path: Path, pixels: np.ndarray) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"], file["labels"] = pixels, LABELS
        file["boxes"] = np.zeros(6, [("x", "i4"), ("y", "f4")])
        file["raw"] = np.zeros(6, "V5")
        file["bytes"] = np.zeros(6, "S3")
        polygons = file.create_dataset("polygons", (6,), h5py.vlen_dtype(np.int32))
        polygons[0] = [1, 2, 3]
        file.create_dataset("refs", (6,), h5py.ref_dtype)
    source = open_source(tmp_path / "a.h5")
    assert len(source) == 6 and list(source.columns) == ["bytes"]
    np.savez(
        tmp_path / "a.npz", images=pixels, labels=LABELS, boxes=np.zeros(6, [("x", "i4")]), things=np.array([{}] * 6)
    )
    assert list(open_source(tmp_path / "a.npz").columns) == []


@pytest.mark.parametrize("key", ["labels", "patient"])
def test_what_should_be_names_and_cannot_be_is_said(tmp_path: Path, pixels: np.ndarray, key: str) -> None:
    values = {"labels": LABELS, key: np.zeros(6, [("x", "i4"), ("y", "f4")])}
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"] = pixels
        for name, array in values.items():
            file[name] = array
    np.savez(tmp_path / "a.npz", images=pixels, **values)
    for kind in ("h5", "npz"):
        with pytest.raises(UserError, match=rf"a\.{kind} has '{key}' of type .*: save it as numbers or text"):
            open_source(tmp_path / f"a.{kind}")


# Text that is no markup


def test_names_of_classes_are_drawn_as_they_are_and_not_as_formulas(tmp_path: Path, pixels: np.ndarray) -> None:
    names = np.array([r"$\frac$", "$x_"])
    np.savez(tmp_path / "a.npz", images=pixels, labels=LABELS, classes=names, patient=names[LABELS])
    assert contact_sheet(open_source(tmp_path / "a.npz"), tmp_path / "sheet.png").stat().st_size > 0
