"""Image files: what a file says of itself is respected or refused, and never read as something else."""

from __future__ import annotations

import errno
import io
import os
import shutil
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, features

from cfdiff.data import open_source
from cfdiff.data.fit import Fit
from cfdiff.data.readers.coded import bits
from cfdiff.data.readers.images import decode, look
from cfdiff.data.readers.masks import decode_mask
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


COLOURS = RNG.integers(0, 65536, (3, 256)).astype(np.uint16)


@pytest.mark.parametrize(
    ("image", "how", "expected"),
    [
        (GRAY, {}, GRAY),
        (GRAY > 99, {"photometric": "minisblack"}, np.where(GRAY > 99, 255, 0)),
        (DEEP[..., 0].astype(np.uint32), {}, DEEP[..., 0]),
        (GRAY, {"photometric": "palette", "colormap": COLOURS}, np.moveaxis(COLOURS >> 8, 0, -1)[GRAY]),
    ],
)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_what_pillow_does_not_open_is_read_all_the_same(
    tmp_path: Path, image: np.ndarray, how: dict[str, Any], expected: np.ndarray, order: str, big: bool
) -> None:
    path = tiff(tmp_path / "a.tif", image, byteorder=order, bigtiff=big, **how)
    np.testing.assert_array_equal(decode(path), expected.reshape(look(path).shape))


@pytest.mark.parametrize("image", [RGB, DEEP], ids=["u1", "u2"])
@pytest.mark.parametrize("first", [True, False])
def test_a_thumbnail_beside_the_picture_is_not_the_picture(tmp_path: Path, image: np.ndarray, first: bool) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for small in (first, not first):
            file.write(image[::2, ::2] if small else image, photometric="rgb", subfiletype=int(small))
    np.testing.assert_array_equal(decode(tmp_path / "a.tif"), image)


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_white_may_be_zero(tmp_path: Path, dtype: str) -> None:
    image = RNG.integers(0, np.iinfo(dtype).max, (6, 8)).astype(dtype)
    path = tiff(tmp_path / "a.tif", image, photometric="miniswhite")
    np.testing.assert_array_equal(decode(path)[..., 0], np.iinfo(dtype).max - image)


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_a_palette_gives_its_colours_however_many_it_has(tmp_path: Path, dtype: str) -> None:
    numbers = RNG.integers(0, np.iinfo(dtype).max, (6, 8)).astype(dtype)
    colours = RNG.integers(0, 65536, (3, np.iinfo(dtype).max + 1)).astype(np.uint16)
    path = tiff(tmp_path / "a.tif", numbers, photometric="palette", colormap=colours)
    assert look(path).dtype == decode(path).dtype == np.uint8
    np.testing.assert_array_equal(decode(path), np.moveaxis(colours >> 8, 0, -1)[numbers])


def cmyk(path: Path) -> Path:
    Image.fromarray(RGB).convert("CMYK").save(path)
    return path


def frames(path: Path) -> Path:
    Image.fromarray(RGB).save(path, save_all=True, append_images=[Image.fromarray(RGB[::-1])])
    return path


def stack(path: Path, **how: Any) -> Path:
    """Two frames behind one header."""
    with tifffile.TiffWriter(path, **how) as file:
        file.write(np.stack([GRAY, GRAY]), truncate=True, photometric="minisblack")
    return path


def sparse(path: Path) -> Path:
    tiff(path, np.tile(GRAY, (8, 8)), tile=(16, 16))
    with tifffile.TiffFile(path, mode="r+b") as file:
        page: Any = file.pages[0]
        for name, values in (("TileOffsets", page.dataoffsets), ("TileByteCounts", page.databytecounts)):
            page.tags[name].overwrite([0, *values[1:]])
    return path


def jpeg(marker: int, bits: int = 8) -> bytes:
    """The beginning of a JPEG of some kind."""
    frame = bytes([0xFF, marker]) + b"\x00\x0b" + bytes([bits]) + b"\x00\x08\x00\x08\x01\x01\x11\x00"
    return b"\xff\xd8\xff\xe0\x00\x04ab" + frame + bytes(300)


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
        ("a.tif", lambda p: tiff(p, RGB, photometric="minisblack", planarconfig=1), "3 channels, called"),
        ("a.tif", lambda p: tiff(p, GRAY / np.float32(256), photometric="miniswhite"), "its 0 is white, and its"),
        ("a.tif", lambda p: tiff(p, GRAY.astype(np.int32), photometric="miniswhite"), "its 0 is white, and its"),
        ("a.tif", stack, "has 2 pages"),
        ("a.tif", lambda p: stack(p, imagej=True), "has 2 pages"),
        ("a.tif", sparse, "leaves out some of its pixels"),
        ("a.tif", cmyk, "has its colours as SEPARATED"),
        ("a.jpg", cmyk, "has its colours as CMYK"),
        ("a.png", frames, "has 2 frames: save each"),
        ("a.tif", frames, "has 2 pages: save each"),
        ("a.png", bytes_of(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "a pointer of Git LFS"),
        ("a.jpg", bytes_of(b"<!DOCTYPE html><html></html>"), "a web page"),
        ("a.jpg", bytes_of(b"\x00\x00\x00\x18ftypheic" + bytes(200)), "a HEIC photograph"),
        ("a.jpg", bytes_of(b"\x00\x00\x00\x18ftypmp42" + bytes(200)), "a film"),
        ("a.jpg", bytes_of(jpeg(0xC1, 12)), "a JPEG of 12 bits"),
        ("a.jpg", bytes_of(jpeg(0xF7)), "a JPEG-LS"),
        ("a.png", bytes_of(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "a PostScript"),
        ("a.png", bytes_of(bytes(500)), "a file of zeros"),
        ("a.png", bytes_of(b"404: not found\n"), "a text"),
        ("a.png", bytes_of(b"\x89PNG\n\x1a\n" + bytes(200)), "line ends were changed"),
        ("a.png", lambda p: p.mkdir() or p, "a folder and no image"),
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


@pytest.mark.parametrize("packed", [None, "tiff_adobe_deflate", "packbits", "tiff_lzw"])
def test_a_tiff_without_its_last_bytes_is_refused_and_not_read_as_something_else(
    tmp_path: Path, packed: str | None
) -> None:
    """libtiff writes the tags last; without the last of them, the pixels would be taken for 1 bit and not packed."""
    path = tmp_path / "a.tif"
    Image.fromarray(RGB).save(path, compression=packed)
    whole = path.read_bytes()
    for cut in range(1, 150, 7):
        path.write_bytes(whole[:-cut])
        with pytest.raises(UserError, match="cut short|truncated|damaged"):
            decode(path)


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


WIDE = RNG.integers(0, 65536, (6, 20)).astype(np.uint16)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("dtype", ["u1", "u2", ">u2", "i4", "f4"])
def test_a_tiff_that_is_turned_has_the_pixels_of_the_same_one_stored_upright(
    tmp_path: Path, dtype: str, orientation: int
) -> None:
    image = (WIDE / 65536 if dtype == "f4" else WIDE >> 8 if dtype == "u1" else WIDE).astype(dtype)
    path = tiff(tmp_path / "a.tif", image, byteorder=">" if dtype[0] == ">" else "<",
                extratags=[(274, "H", 1, orientation, True)])  # fmt: skip
    turned = image.T if orientation >= 5 else image
    turned = turned[::-1] if orientation in (3, 4, 7, 8) else turned
    turned = turned[:, ::-1] if orientation in (2, 3, 6, 7) else turned
    expected = decode(tiff(tmp_path / "upright.tif", turned))
    assert look(path).shape == expected.shape
    np.testing.assert_array_equal(decode(path), expected)


def test_the_colour_numbers_of_a_mask_are_turned_with_it(tmp_path: Path) -> None:
    colours = np.zeros((3, 256), np.uint16)
    colours[0, 1] = 65535
    mask = WIDE > 30000
    tiff(tmp_path / "a.tif", mask.astype(np.uint8), photometric="palette", colormap=colours,
         extratags=[(274, "H", 1, 6, True)])  # fmt: skip
    np.testing.assert_array_equal(decode_mask(tmp_path / "a.tif"), np.rot90(mask, -1))


def test_transparency_is_refused_where_it_shows_and_dropped_where_it_does_not(tmp_path: Path) -> None:
    alpha = np.full((6, 8), 255, np.uint8)
    for name, mode, colour in (("rgb.png", "RGBA", RGB), ("gray.png", "LA", GRAY[..., None])):
        Image.fromarray(np.concatenate([colour, alpha[..., None]], 2), mode).save(tmp_path / name)
        np.testing.assert_array_equal(decode(tmp_path / name), colour)
        Image.fromarray(np.concatenate([colour, (alpha * 0 + GRAY)[..., None]], 2), mode).save(tmp_path / name)
        with pytest.raises(UserError, match="transparent in places"):
            decode(tmp_path / name)
    with pytest.raises(UserError, match="a channel beside its colours"):
        decode(tiff(tmp_path / "x.tif", np.dstack([RGB, GRAY]), photometric="rgb", extrasamples=[0]))
    Image.fromarray(DEEP[..., 0]).save(tmp_path / "deep.png", transparency=int(DEEP[0, 0, 0]))
    with pytest.raises(UserError, match="transparent in places"):
        decode(tmp_path / "deep.png")
    deep = np.concatenate([DEEP, np.full((6, 8, 1), 65535, np.uint16)], 2)
    np.testing.assert_array_equal(decode(tiff(tmp_path / "a.tif", deep, photometric="rgb", extrasamples=[2])), DEEP)
    palette = Image.fromarray(RGB).quantize(8)
    palette.save(tmp_path / "p.png", transparency=0)
    with pytest.raises(UserError, match="transparent in places"):
        decode(tmp_path / "p.png")


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.tga", b"\0\0\2" + bytes(15), "no other kind of picture is read"),
        ("a.png", b"DDS |\0\0\0", "a DDS texture: save it as PNG"),
        ("a.png", b"\0\0\1\0\1\0", "an icon: save it as PNG"),
        ("a.nii.gz", b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        ("a.nii.gz", b"/annex/objects/SHA256E-s1--0.nii.gz\n", "a pointer of git-annex"),
        ("a.nii", b"\x1f\x8b\x08\0", "packed by gzip: unpack it"),
        ("a.nii.gz", b"\x1f\x8b\x08\0", "truncated or corrupt"),
        ("a.nii", b"<!DOCTYPE html>", "a web page"),
    ],
)
def test_what_is_sound_but_of_another_kind_is_not_called_corrupt(
    tmp_path: Path, name: str, data: bytes, words: str
) -> None:
    if ".nii" in name:
        pytest.importorskip("nibabel")
    (tmp_path / name).write_bytes(data)
    (tmp_path / "t.csv").write_text(f"path,label\n{name},0\n")
    with pytest.raises(UserError, match=words):
        open_source(tmp_path / "t.csv")


def test_a_colour_profile_other_than_srgb_is_said(tmp_path: Path) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for label, profile in (("no", srgb), ("yes", lab)):
        (tmp_path / "d" / label).mkdir(parents=True)
        Image.fromarray(RGB).save(tmp_path / "d" / label / "a.png", icc_profile=profile)
    notes = [note for note in open_source(tmp_path / "d").notes if "colour profile" in note]
    assert len(notes) == 1 and notes[0].startswith("1 image has the colour profile") and "not sRGB" in notes[0]
    Image.fromarray(GRAY).save(tmp_path / "gray.png", icc_profile=lab)
    assert look(tmp_path / "gray.png").profile


def chromatic(red: tuple[float, float], green: tuple[float, float]) -> bytes:
    """A PNG that says its primaries (cHRM) and nothing else of its colours."""
    values = [round(100_000 * v) for v in (0.3127, 0.329, *red, *green, 0.15, 0.06)]
    chunk = b"cHRM" + struct.pack(">8I", *values)
    out = io.BytesIO()
    Image.fromarray(RGB).save(out, "PNG")
    whole = out.getvalue()
    return whole[:33] + struct.pack(">I", 32) + chunk + struct.pack(">I", zlib.crc32(chunk)) + whole[33:]


def test_colours_that_primaries_or_a_camera_says_are_said(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    for red, green, said in (
        ((0.64, 0.33), (0.30, 0.60), None),
        ((0.68, 0.32), (0.265, 0.69), "Display P3"),
        ((0.64, 0.33), (0.21, 0.71), "Adobe RGB"),
        ((0.7, 0.3), (0.1, 0.8), "of other primaries"),
    ):
        path.write_bytes(chromatic(red, green))
        assert look(path).profile == said
    for space, index, camera in ((1, "R98", None), (2, "R98", "Adobe RGB"), (65535, "R03", "Adobe RGB")):
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0xA001] = space
        exif.get_ifd(0x8769)[0xA005] = {1: index}
        Image.fromarray(RGB).save(tmp_path / "a.jpg", exif=exif)
        assert look(tmp_path / "a.jpg").profile == camera
    Image.fromarray(RGB).save(tmp_path / "a.jpg", exif=exif, icc_profile=SRGB)
    assert look(tmp_path / "a.jpg").profile is None, "a profile goes before"


def test_a_profile_is_srgb_by_what_it_does_and_not_by_its_name(tmp_path: Path) -> None:
    path, name = tmp_path / "a.png", "sRGB built-in".encode("utf-16-be")
    assert name in SRGB
    Image.fromarray(RGB).save(path, icc_profile=SRGB.replace(name, "c2 by someone".encode("utf-16-be")))
    assert look(path).profile is None
    curve = b"para\0\0\0\0\0\3\0\0"
    place = SRGB.index(curve) + len(curve)
    Image.fromarray(RGB).save(path, icc_profile=SRGB.replace(SRGB[place : place + 4], b"\0\1\0\0"))  # gamma 1
    assert look(path).profile == "sRGB built-in (sRGB in its name alone)"


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LAB = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


def png(colours: bytes | None = None, icc: bytes | None = LAB, pixels: np.ndarray = RGB) -> bytes:
    """A PNG with a colour profile, or with a chunk cICP of these code points."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", icc_profile=icc)
    data = out.getvalue()
    if colours is None:
        return data
    chunk = b"cICP" + colours
    return data[:33] + struct.pack(">I", len(colours)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]


def in_a_folder(root: Path, image: bytes) -> Path:
    (root / "normal").mkdir(parents=True)
    for i in range(2):
        (root / "normal" / f"{i}.png").write_bytes(image)
    return root


def in_a_csv(root: Path, image: bytes) -> Path:
    in_a_folder(root, image)
    (root / "a.csv").write_text("path,label\nnormal/0.png,normal\nnormal/1.png,normal\n")
    return root / "a.csv"


def beside_a_dicom(root: Path, image: bytes) -> Path:
    data = pytest.importorskip("pydicom.data")
    in_a_folder(root, image)
    shutil.copy(data.get_testdata_file("MR_small.dcm"), root / "normal" / "a.dcm")
    return root


def in_an_h5(root: Path, image: bytes) -> Path:
    root.mkdir()
    with h5py.File(root / "a.h5", "w") as file:
        images = file.create_dataset("images", 2, h5py.vlen_dtype(np.uint8))
        for i in range(2):
            images[i] = np.frombuffer(image, np.uint8)
        file["labels"] = np.zeros(2, int)
    return root / "a.h5"


def in_shards(root: Path, image: bytes) -> Path:
    root.mkdir()
    with tarfile.open(root / "a.tar", "w") as file:
        for name, content in (("0.png", image), ("0.cls", b"normal"), ("1.png", image), ("1.cls", b"normal")):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return root / "a.tar"


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (in_a_folder, "2 images have the"),
        (in_a_csv, "2 images have the"),
        (in_an_h5, "2 images have the"),
        (beside_a_dicom, "2 files have the"),
        (in_shards, "1 image of the 1 that was looked at has the"),
    ],
)
def test_a_colour_profile_is_said_wherever_images_lie(
    tmp_path: Path, write: Callable[[Path, bytes], Path], words: str
) -> None:
    for name, icc in (("yes", LAB), ("no", None)):
        path = write(tmp_path / name, png(icc=icc, pixels=DEEP[..., 0]))
        notes = open_source(path, fit=Fit(size=4), keep_other=True, unlabelled=("normal", "tumor")).notes
        said = [note.startswith(words) for note in notes if "colour profile" in note]
        assert said == ([True] if icc else [])


@pytest.mark.parametrize(
    ("points", "said"),
    [
        (b"\x09\x10\x00\x01", "BT.2020, PQ"),
        (b"\x0c\x0d\x00\x01", "Display P3, sRGB"),
        (b"\x16\x08\x00\x01", "primaries 22, linear"),
        (b"\x01\x0d\x00\x01", None),
    ],
)
def test_a_png_may_say_its_colours_in_code_points(tmp_path: Path, points: bytes, said: str | None) -> None:
    (tmp_path / "a.png").write_bytes(png(points, None))
    assert look(tmp_path / "a.png").profile == said
    np.testing.assert_array_equal(decode(tmp_path / "a.png"), RGB)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_an_avif_says_its_colours_and_is_refused_above_8_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.BytesIO()
    Image.fromarray(RGB).save(out, "AVIF")
    data = out.getvalue()
    (tmp_path / "a.png").write_bytes(data)
    assert look(tmp_path / "a.png").profile is None
    (tmp_path / "a.png").write_bytes(data.replace(b"colrnclx\0\x01\0\x0d", b"colrnclx\0\x09\0\x10"))
    assert look(tmp_path / "a.png").profile == "BT.2020, PQ"
    monkeypatch.setattr("cfdiff.data.readers.images.bits", lambda image, path: bits(image, tmp_path / "deep"))
    place = data.index(b"av1C") + 6  # where its header says that it has more; the decoder would look, too
    (tmp_path / "deep").write_bytes(data[:place] + bytes([data[place] | 0x40]) + data[place + 1 :])
    with pytest.raises(UserError, match="is an AVIF of 10 bits a channel in RGB"):
        look(tmp_path / "a.png")


@pytest.mark.parametrize("white", [255, 100, 4095, 65535])
@pytest.mark.parametrize("kind", [b"P6", b"P3"])
def test_a_ppm_of_more_than_8_bits_is_refused_whatever_it_is_called(tmp_path: Path, kind: bytes, white: int) -> None:
    values = (RGB.astype(float) * white / 255).round().astype(">u2" if white > 255 else "u1")
    body = values.tobytes() if kind == b"P6" else b" ".join(str(v).encode() for v in values.ravel().tolist())
    (tmp_path / "a.png").write_bytes(kind + b"\n8 6\n%d\n" % white + body)
    if white > 255:
        with pytest.raises(UserError, match=f"is a PPM of {white.bit_length()} bits a channel in RGB, of which only 8"):
            decode(tmp_path / "a.png")
    else:
        np.testing.assert_allclose(decode(tmp_path / "a.png"), RGB, atol=1.5)


@pytest.mark.skipif(not features.check("jpg_2000"), reason="this Pillow has no JPEG 2000")
def test_a_jpeg_2000_of_more_than_8_bits_is_refused_in_colour(tmp_path: Path) -> None:
    for image in (RGB, DEEP[..., 0]):
        Image.fromarray(image).save(tmp_path / "a.jp2")
        assert look(tmp_path / "a.jp2").dtype == image.dtype
    out = io.BytesIO()
    Image.fromarray(RGB).save(out, "JPEG2000")
    place = out.getvalue().index(b"\xff\x4f\xff\x51") + 42  # where its header says the bits of each channel
    (tmp_path / "a.jp2").write_bytes(out.getvalue()[:place] + b"\x0b\1\1" * 3 + out.getvalue()[place + 9 :])
    with pytest.raises(UserError, match="is a JPEG2000 of 12 bits a channel in RGB"):
        look(tmp_path / "a.jp2")


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
    noise = RNG.integers(0, 9, white.shape)
    Image.fromarray(np.abs(white - noise).astype(np.uint8)).save(tmp_path / "again.png")
    with pytest.raises(UserError, match="as a JPEG that was saved again"):
        decode_mask(tmp_path / "again.png")
    with pytest.raises(UserError, match="no numbers"):
        decode_mask(tiff(tmp_path / "nan.tif", np.where(mask, 1, np.nan).astype(np.float32)))
    with pytest.raises(UserError, match="its 0 is white"):
        decode_mask(tiff(tmp_path / "bool.tif", mask))
    for name, colours in (("voc", [0, 0, 0, 128, 0, 0]), ("light", [255, 255, 255, 128, 0, 0])):
        numbered = Image.fromarray(mask.astype(np.uint8))
        numbered.putpalette(colours)
        numbered.save(tmp_path / f"{name}.png")
    np.testing.assert_array_equal(decode_mask(tmp_path / "voc.png"), mask)
    with pytest.raises(UserError, match="a palette in which"):
        decode_mask(tmp_path / "light.png")


def test_a_damaged_file_says_what_the_decoder_says(tmp_path: Path) -> None:
    out = io.BytesIO()
    Image.fromarray(np.tile(RGB, (30, 30, 1))).save(out, "JPEG")
    (tmp_path / "a.jpg").write_bytes(out.getvalue()[: len(out.getvalue()) // 2])
    with pytest.raises(UserError, match=r"a\.jpg cannot be read as an image \(.*truncated.*\): it may be truncated"):
        decode(tmp_path / "a.jpg")


def hot(height: int, width: int) -> np.ndarray:
    """A map of heat, 0 in its corner."""
    return (np.add.outer(np.arange(height), np.arange(width)) * 3).astype(np.uint8)


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (hot(40, 40), "most neighbours differ"),
        (hot(40, 40).astype(np.float32) / 255, "most neighbours differ"),
        (np.kron([[1, 2], [3, 1]], np.ones((20, 20), np.uint8)).astype(np.uint8), "several values and no 0"),
    ],
)
def test_masks_that_say_no_place_are_refused_in_files_and_arrays(tmp_path: Path, mask: np.ndarray, words: str) -> None:
    path = tiff(tmp_path / "a.tif", mask)
    with pytest.raises(UserError, match=words):
        decode_mask(path)
    np.savez(
        tmp_path / "a.npz", images=np.zeros((2, 40, 40), np.uint8), labels=[0, 1], masks=np.stack([mask * 0, mask])
    )
    with pytest.raises(UserError, match=words):
        open_source(tmp_path / "a.npz").read_masks([0, 1])


def test_a_mask_in_colours_on_a_ground_that_is_not_black_is_refused(tmp_path: Path) -> None:
    inside = np.zeros((20, 20), bool)
    inside[4:9, 4:9] = True
    path = tmp_path / "a.png"
    Image.fromarray(np.where(inside[..., None], np.uint8([253, 231, 37]), np.uint8([68, 1, 84]))).save(path)
    with pytest.raises(UserError, match="several values and no 0"):
        decode_mask(path)
    Image.fromarray(np.where(inside[..., None], np.uint8([253, 231, 37]), np.uint8([0, 0, 0]))).save(path)
    assert np.array_equal(decode_mask(path), inside)
    Image.fromarray(np.full((20, 20), 7, np.uint8)).save(path)
    assert decode_mask(path).all(), "one value everywhere is a mask of all"
    many = np.kron(np.arange(25).reshape(5, 5), np.ones((4, 4), np.int64)).astype(np.uint16)
    assert np.array_equal(decode_mask(tiff(tmp_path / "a.tif", many)), many != 0), "numbered objects are a mask"


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_a_disk_that_does_not_answer_is_no_damage_of_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")

    def gone(*arguments: Any, **how: Any) -> Any:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("cfdiff.data.readers.images.Image.open", gone)
    with pytest.raises(UserError, match=r"a\.png cannot be read from its disk .*: check the disk or the network"):
        decode(tmp_path / "a.png")
