"""Image files: what a file says of itself is respected or refused, and never read as something else."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from cfdiff.data import open_source
from cfdiff.data.readers.images import decode, decode_mask, look
from cfdiff.errors import UserError

RNG = np.random.default_rng(0)
DEEP = RNG.integers(0, 65536, (6, 8, 3)).astype(np.uint16)
RGB = RNG.integers(0, 256, (6, 8, 3)).astype(np.uint8)
GRAY = RGB[..., 0]


def tiff(path: Path, image: np.ndarray, **how: Any) -> Path:
    tifffile.imwrite(path, image, **how)
    return path


@pytest.mark.parametrize(
    "how", [{}, {"compression": "zlib"}, {"compression": "zlib", "predictor": True}, {"tile": (16, 16)}]
)
@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("image", [DEEP, RGB, (DEEP / 65535).astype(np.float32)], ids=["u2", "u1", "f4"])
def test_colour_tiffs_keep_all_bits_in_every_layout(
    tmp_path: Path, image: np.ndarray, byteorder: str, planes: bool, how: dict[str, Any]
) -> None:
    if image.dtype.kind == "f" and how.get("predictor"):
        pytest.skip("tifffile itself cannot write these")
    stored = np.moveaxis(image, -1, 0) if planes else image
    path = tiff(
        tmp_path / "a.tif",
        stored,
        photometric="rgb",
        planarconfig="separate" if planes else "contig",
        byteorder=byteorder,
        **how,
    )
    found = look(path)
    assert (found.shape, found.dtype) == ((6, 8, 3), image.dtype)
    np.testing.assert_array_equal(decode(path), image)


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4", "f2", "f8"])
def test_gray_tiffs_keep_all_bits(tmp_path: Path, dtype: str) -> None:
    image = GRAY.astype(dtype) if dtype[0] == "u" else (GRAY / 256).astype(dtype)
    path = tiff(tmp_path / "a.tif", image)
    np.testing.assert_array_equal(decode(path)[..., 0], image.astype(look(path).dtype))
    assert look(path).dtype == {"u1": np.uint8, "u2": np.uint16}.get(dtype, np.float32)


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_white_may_be_zero(tmp_path: Path, dtype: str) -> None:
    image = RNG.integers(0, np.iinfo(dtype).max, (6, 8)).astype(dtype)
    path = tiff(tmp_path / "a.tif", image, photometric="miniswhite")
    np.testing.assert_array_equal(decode(path)[..., 0], np.iinfo(dtype).max - image)


def cmyk(path: Path) -> Path:
    Image.fromarray(RGB).convert("CMYK").save(path)
    return path


def frames(path: Path) -> Path:
    Image.fromarray(RGB).save(path, save_all=True, append_images=[Image.fromarray(RGB[::-1])])
    return path


def bytes_of(content: bytes) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        path.write_bytes(content)
        return path

    return write


@pytest.mark.parametrize(
    ("name", "write", "words"),
    [
        ("a.tif", lambda p: tiff(p, np.stack([GRAY, GRAY]), photometric="minisblack"), "has 2 pages: save each"),
        ("a.tif", lambda p: tiff(p, GRAY.astype(np.int16)), r"16 bits a channel \(int\)"),
        ("a.tif", lambda p: tiff(p, GRAY.astype(np.int8)), r"8 bits a channel \(int\)"),
        ("a.tif", lambda p: tiff(p, np.zeros((6, 8, 5), "u1"), photometric="minisblack", planarconfig=1), "5 channels"),
        ("a.tif", cmyk, "has its colours as SEPARATED"),
        ("a.jpg", cmyk, "has its colours as CMYK"),
        ("a.png", frames, "has 2 frames: save each"),
        ("a.tif", frames, "has 2 pages: save each"),
        ("a.png", bytes_of(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "a pointer of Git LFS"),
        ("a.jpg", bytes_of(b"<!DOCTYPE html><html></html>"), "a web page"),
        ("a.jpg", bytes_of(b"\x00\x00\x00\x18ftypheic" + bytes(200)), "a HEIC photograph"),
        ("a.tif", bytes_of(bytes(128) + b"DICM" + bytes(200)), r"a DICOM file: name it \.dcm"),
        ("a.png", bytes_of(b"\x1f\x8b" + bytes(200)), "packed by gzip"),
    ],
)  # fmt: skip
def test_what_would_be_read_wrongly_is_refused_with_the_reason(
    tmp_path: Path, name: str, write: Callable[[Path], Path], words: str
) -> None:
    path = write(tmp_path / name)
    for read in (look, decode):
        with pytest.raises(UserError, match=words):
            read(path)


def test_a_tiff_that_is_cut_short_is_not_filled_with_zeros(tmp_path: Path) -> None:
    path = tiff(tmp_path / "a.tif", np.tile(DEEP, (20, 20, 1)), photometric="rgb")
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(UserError, match=r"a\.tif"):
        decode(path)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "deep.tif"])
def test_pictures_are_turned_upright_as_they_say(tmp_path: Path, name: str, orientation: int) -> None:
    image = np.zeros((16, 24, 3), np.uint8)
    image[:8, :8] = 255
    if name == "deep.tif":
        path = tiff(tmp_path / name, image.astype(np.uint16) * 257, photometric="rgb",
                    extratags=[(274, "H", 1, orientation, False)])  # fmt: skip
    else:
        path, exif = tmp_path / name, Image.Exif()
        exif[274] = orientation
        Image.fromarray(image).save(path, exif=exif, **({"tiffinfo": {274: orientation}} if name == "a.tif" else {}))
    found, shape = decode(path), look(path).shape
    assert found.shape == shape == ((24, 16, 3) if orientation >= 5 else (16, 24, 3))
    high = found[..., 0] > np.iinfo(found.dtype).max // 2
    rows, columns = np.flatnonzero(high.any(1)), np.flatnonzero(high.any(0))
    below, right = rows.min() > 4, columns.min() > 4
    # Where the first corner of what is stored is to be seen (TIFF 6.0, tag 274).
    assert (below, right) == {1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}[
        orientation
    ]


def test_transparency_is_refused_where_it_shows_and_dropped_where_it_does_not(tmp_path: Path) -> None:
    alpha = np.full((6, 8), 255, np.uint8)
    for name, mode, colour in (("rgb.png", "RGBA", RGB), ("gray.png", "LA", GRAY[..., None])):
        Image.fromarray(np.concatenate([colour, alpha[..., None]], 2), mode).save(tmp_path / name)
        np.testing.assert_array_equal(decode(tmp_path / name), colour)
        Image.fromarray(np.concatenate([colour, (alpha * 0 + GRAY)[..., None]], 2), mode).save(tmp_path / name)
        with pytest.raises(UserError, match="transparent in places"):
            decode(tmp_path / name)
    deep = np.concatenate([DEEP, np.full((6, 8, 1), 65535, np.uint16)], 2)
    np.testing.assert_array_equal(decode(tiff(tmp_path / "a.tif", deep, photometric="rgb", extrasamples=[2])), DEEP)
    palette = Image.fromarray(RGB).quantize(8)
    palette.save(tmp_path / "p.png", transparency=0)
    with pytest.raises(UserError, match="transparent in places"):
        decode(tmp_path / "p.png")


def test_a_colour_profile_other_than_srgb_is_said(tmp_path: Path) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for label, profile in (("no", srgb), ("yes", lab)):
        (tmp_path / "d" / label).mkdir(parents=True)
        Image.fromarray(RGB).save(tmp_path / "d" / label / "a.png", icc_profile=profile)
    notes = [note for note in open_source(tmp_path / "d").notes if "colour profile" in note]
    assert len(notes) == 1 and notes[0].startswith("1 image has the colour profile") and "not sRGB" in notes[0]


def test_masks_are_colours_or_transparency_and_never_smeared(tmp_path: Path) -> None:
    mask = GRAY > 128
    white = np.where(mask, 255, 0).astype(np.uint8)
    Image.fromarray(white).save(tmp_path / "a.png")
    np.testing.assert_array_equal(decode_mask(tmp_path / "a.png"), mask)
    for colour in (0, 255):
        flat = np.full((6, 8), colour, np.uint8)
        Image.fromarray(np.dstack([flat, flat, flat, white])).save(tmp_path / "alpha.png")
        np.testing.assert_array_equal(decode_mask(tmp_path / "alpha.png"), mask)
    Image.fromarray(np.dstack([white, white, white, white])).save(tmp_path / "both.png")
    np.testing.assert_array_equal(decode_mask(tmp_path / "both.png"), mask)
    Image.fromarray(np.dstack([white, white, white, GRAY])).save(tmp_path / "odd.png")
    with pytest.raises(UserError, match=r"odd\.png has colours and transparency"):
        decode_mask(tmp_path / "odd.png")
    Image.fromarray(white).save(tmp_path / "a.jpg")
    with pytest.raises(UserError, match=r"a\.jpg is a JPEG or alike, which smears"):
        decode_mask(tmp_path / "a.jpg")
    Image.fromarray(np.dstack([white] * 3)).save(tmp_path / "a.tif", compression="jpeg")
    with pytest.raises(UserError, match=r"a\.tif is a JPEG or alike"):
        decode_mask(tmp_path / "a.tif")


def test_a_damaged_file_says_what_the_decoder_says(tmp_path: Path) -> None:
    out = io.BytesIO()
    Image.fromarray(np.tile(RGB, (30, 30, 1))).save(out, "JPEG")
    (tmp_path / "a.jpg").write_bytes(out.getvalue()[: len(out.getvalue()) // 2])
    with pytest.raises(UserError, match=r"a\.jpg cannot be read as an image \(.*truncated.*\): it may be truncated"):
        decode(tmp_path / "a.jpg")
