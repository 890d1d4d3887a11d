from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cfdiff.data import open_source
from cfdiff.data.fit import Fit
from cfdiff.errors import UserError


def save(image: np.ndarray, path: Path, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, **options)


def test_a_folder_per_class_gives_relative_ids_and_the_stored_pixels(folder: Path, pixels: np.ndarray) -> None:
    source = open_source(folder)
    assert source.name == "cells"
    assert source.classes == ("healthy", "diseased")
    assert source.ids.tolist() == [f"diseased/{i}.png" for i in (3, 4, 5)] + [f"healthy/{i}.png" for i in (0, 1, 2)]
    assert source.labels.tolist() == [1, 1, 1, 0, 0, 0]
    np.testing.assert_array_equal(source.read([0, 5])[..., 0], pixels[[3, 2]])


def test_a_level_of_splits_above_the_classes_is_recognised(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "root").mkdir()
    folder.rename(tmp_path / "root" / "train")
    source = open_source(tmp_path / "root", split="train")
    assert source.ids[0] == "train/diseased/3.png"
    assert source.classes == ("healthy", "diseased")
    with pytest.raises(UserError, match="no split 'test': the known ones are train"):
        open_source(tmp_path / "root", split="test")


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "jpg"])
def test_rgb_files_of_every_kind_are_read(tmp_path: Path, suffix: str) -> None:
    image = np.full((6, 4, 3), (200, 30, 90), dtype=np.uint8)
    save(image, tmp_path / "d" / "neg" / f"a.{suffix}")
    source = open_source(tmp_path / "d")
    assert (source.shape, source.dtype) == ((6, 4, 3), np.uint8)
    np.testing.assert_allclose(source.read([0])[0].astype(int), image, atol=3)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_gray_files_keep_all_bits(tmp_path: Path, suffix: str) -> None:
    image = np.arange(0, 65536, 2048, dtype=np.uint16).reshape(4, 8) + 1
    save(image, tmp_path / "d" / "pos" / f"a.{suffix}")
    source = open_source(tmp_path / "d")
    assert source.dtype == np.uint16
    np.testing.assert_array_equal(source.read([0])[0, ..., 0], image)


def test_float_tiffs_are_checked_when_they_are_read(tmp_path: Path) -> None:
    save(np.full((4, 4), 0.5, np.float32), tmp_path / "d" / "neg" / "good.tif")
    save(np.full((4, 4), 7.0, np.float32), tmp_path / "d" / "pos" / "bright.tif")
    source = open_source(tmp_path / "d")
    assert source.read([0]).dtype == np.float32
    with pytest.raises(UserError, match=r"from 7 to 7, outside \[0, 1\]"):
        source.read([1])


def test_alpha_and_palette_files_are_read_as_colour(tmp_path: Path) -> None:
    image = np.full((4, 4, 3), (10, 200, 30), dtype=np.uint8)
    save(np.dstack([image, np.full((4, 4), 255, np.uint8)]), tmp_path / "d" / "neg" / "a.png")
    Image.fromarray(image).quantize(4).save(tmp_path / "d" / "neg" / "p.png")
    read = open_source(tmp_path / "d").read([0, 1])
    np.testing.assert_array_equal(read, np.stack([image, image]))


def test_a_colour_png_of_16_bits_is_refused_instead_of_cut_to_8(tmp_path: Path) -> None:
    path = tmp_path / "d" / "neg" / "deep.png"
    save(np.zeros((4, 4, 3), np.uint8), path)
    content = bytearray(path.read_bytes())
    content[24] = 16
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)
    with pytest.raises(UserError, match="deep.png is a PNG of 16 bits a channel"):
        open_source(tmp_path / "d")


def test_images_of_two_sizes_are_an_error_that_names_both_files_and_sizes(folder: Path) -> None:
    save(np.zeros((9, 9), np.uint8), folder / "healthy" / "big.png")
    with pytest.raises(UserError, match=r"diseased/3.png is 5x7 .* but healthy/big.png is 9x9 .*--size"):
        open_source(folder)


def test_gray_and_colour_in_one_source_are_an_error_that_names_both(folder: Path) -> None:
    save(np.zeros((5, 7, 3), np.uint8), folder / "healthy" / "rgb.png")
    with pytest.raises(UserError, match=r"1 channel of uint8 but healthy/rgb.png is 5x7 with 3 channels of uint8"):
        open_source(folder)


def test_a_fit_makes_unlike_images_alike(folder: Path) -> None:
    save(np.zeros((9, 20, 3), np.uint8), folder / "healthy" / "rgb.png")
    source = open_source(folder, fit=Fit(size=4, channels=1))
    assert source.shape == (4, 4, 1)
    assert source.read(np.arange(len(source))).shape == (7, 4, 4, 1)


@pytest.mark.parametrize(("kept", "message"), [(0, "is empty"), (20, "truncated"), (60, "truncated")])
def test_a_damaged_image_is_named(folder: Path, kept: int, message: str) -> None:
    path = folder / "healthy" / "1.png"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=rf"1\.png .*{message}"):
        open_source(folder).read(np.arange(6))


def test_a_header_that_claims_a_giant_picture_is_one_clear_error(folder: Path) -> None:
    path = folder / "healthy" / "1.png"
    content = bytearray(path.read_bytes())
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"1\.png cannot be read"):
        open_source(folder).read(np.arange(6))


def test_a_text_file_with_an_image_name_is_no_image(folder: Path) -> None:
    (folder / "healthy" / "1.png").write_text("not an image at all")
    with pytest.raises(UserError, match=r"1\.png is no image"):
        open_source(folder)


def test_an_image_that_vanishes_after_opening_is_named(folder: Path) -> None:
    source = open_source(folder)
    (folder / "healthy" / "0.png").unlink()
    with pytest.raises(UserError, match=r"0\.png is missing"):
        source.read([3])


def test_folders_without_classes_say_how_to_lay_them_out(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="it holds no images"):
        open_source(tmp_path / "empty")
    save(np.zeros((4, 4), np.uint8), tmp_path / "flat" / "a.png")
    with pytest.raises(UserError, match="its images are not in folders.*flat/CLASS/image.png"):
        open_source(tmp_path / "flat")


def test_the_fingerprint_of_a_folder_follows_its_content(folder: Path) -> None:
    before = open_source(folder).fingerprint
    assert open_source(folder).fingerprint == before
    save(np.zeros((5, 7), np.uint8), folder / "healthy" / "1.png")
    assert open_source(folder).fingerprint != before
