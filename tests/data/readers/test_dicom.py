from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ImageCms

from cfdiff.data import open_source
from cfdiff.data.convert import convert
from cfdiff.errors import UserError

pydicom = pytest.importorskip("pydicom")
pixels = pytest.importorskip("pydicom.pixels")
SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files"


def dicom(
    stored: np.ndarray, path: Path, photometric: str = "MONOCHROME2", bits: int | None = None, **said: Any
) -> pydicom.Dataset:
    """Save stored values, (H, W), (H, W, 3) or with frames (N, H, W), as a DICOM file that says so."""
    ds = pydicom.Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    ds.PatientID, ds.PatientName = "P1", "Doe^Jane"
    colour = stored.shape[-1] == 3
    ds.SamplesPerPixel, ds.PhotometricInterpretation = (3 if colour else 1), photometric
    if colour:
        ds.PlanarConfiguration = 0
    if stored.ndim == 3 and not colour:
        ds.NumberOfFrames = len(stored)
    ds.Rows, ds.Columns = stored.shape[-3:-1] if colour else stored.shape[-2:]
    ds.BitsAllocated = stored.dtype.itemsize * 8
    ds.BitsStored = bits or ds.BitsAllocated
    ds.HighBit, ds.PixelRepresentation = ds.BitsStored - 1, int(stored.dtype.kind == "i")
    for key, value in said.items():
        setattr(ds, key, value)
    ds.PixelData = stored.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return ds


def one(path: Path, tmp_path: Path, reading: str | None = None) -> np.ndarray:
    """The first image of a file, as a source of it reads it."""
    folder = tmp_path / "one" / "normal"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, folder / "a.dcm")
    return open_source(tmp_path / "one", reading=reading).read([0])[0]


def windowed(name: str) -> np.ndarray:
    """What pydicom itself makes of a shipped file's gray: rescaled, through its window, as a share of full."""
    ds = pydicom.dcmread(SHIPPED / name)
    values = pixels.apply_rescale(ds.pixel_array, ds)
    shown = pixels.apply_windowing(values, ds)
    bits = ds.BitsStored
    ends = np.array([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] if ds.PixelRepresentation else [0, 2**bits - 1])
    low, high = ends * float(ds.get("RescaleSlope", 1)) + float(ds.get("RescaleIntercept", 0))
    return (shown - low) / (high - low)


@pytest.mark.parametrize("name", ["MR_small.dcm", "examples_overlay.dcm", "MR_small_RLE.dcm"])
def test_the_window_of_a_file_gives_what_pydicom_gives(tmp_path: Path, name: str) -> None:
    image = one(SHIPPED / name, tmp_path)
    assert image.dtype == np.uint16
    np.testing.assert_allclose(image[..., 0] / 65535, windowed(name), atol=2e-5)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_every_curve_of_a_window_is_that_of_pydicom(tmp_path: Path, function: str) -> None:
    stored = np.arange(0, 4096, 16, dtype=np.uint16).reshape(16, 16)
    said = {"WindowCenter": 40, "WindowWidth": 400, "RescaleSlope": 1, "RescaleIntercept": -1024}
    ds = dicom(stored, tmp_path / "a.dcm", bits=12, VOILUTFunction=function, **said)
    expected = pixels.apply_windowing(pixels.apply_rescale(stored, ds), ds)
    image = one(tmp_path / "a.dcm", tmp_path)
    np.testing.assert_allclose(image[..., 0] / 65535, (expected + 1024) / 4095, atol=2e-5)


def test_16_bits_without_a_window_are_kept_as_they_are_and_12_stay_apart(tmp_path: Path) -> None:
    stored = np.random.default_rng(0).integers(0, 65536, (8, 8)).astype(np.uint16)
    dicom(stored, tmp_path / "a.dcm")
    np.testing.assert_array_equal(one(tmp_path / "a.dcm", tmp_path)[..., 0], stored)
    every = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    dicom(every, tmp_path / "b.dcm", bits=12)
    image = one(tmp_path / "b.dcm", tmp_path)
    assert len(np.unique(image)) == 4096
    np.testing.assert_array_equal(image[..., 0], np.rint(every / 4095 * 65535))


def test_a_window_that_is_said_counts_in_rescaled_values_and_takes_the_place_of_the_files(tmp_path: Path) -> None:
    stored = np.array([[0, 864, 1064, 1264, 4000]], np.uint16)
    dicom(stored, tmp_path / "a.dcm", bits=12, RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=0, WindowWidth=9)
    image = one(tmp_path / "a.dcm", tmp_path, "window=-160:240")
    np.testing.assert_array_equal(image[0, :, 0], [0, 0, np.rint(0.5 * 65535), 65535, 65535])
    ds = pydicom.dcmread(tmp_path / "a.dcm")
    ds.WindowCenter, ds.WindowWidth = 40, 400
    expected = (pixels.apply_windowing(pixels.apply_rescale(stored, ds), ds) + 1024) / 4095
    image = one(tmp_path / "a.dcm", tmp_path, "window=40/400")
    np.testing.assert_allclose(image[..., 0] / 65535, expected, atol=2e-5)


def test_white_may_be_zero(tmp_path: Path) -> None:
    stored = np.array([[0, 1, 254, 255]], np.uint8)
    dicom(stored, tmp_path / "a.dcm", "MONOCHROME1")
    np.testing.assert_array_equal(one(tmp_path / "a.dcm", tmp_path)[..., 0], 255 - stored)


def test_tables_of_values_are_applied_as_pydicom_applies_them(tmp_path: Path) -> None:
    stored = np.arange(16, dtype=np.uint8).reshape(4, 4)
    table = pydicom.Dataset()
    table.LUTDescriptor, table.LUTData = [16, 0, 8], (np.arange(16, dtype="<u2") ** 2).tobytes()
    ds = dicom(stored, tmp_path / "a.dcm", VOILUTSequence=[table])
    expected = pixels.apply_voi(stored, ds)
    np.testing.assert_array_equal(one(tmp_path / "a.dcm", tmp_path)[..., 0], expected)
    table.ModalityLUTType = "US"
    ds = dicom(stored, tmp_path / "b.dcm", ModalityLUTSequence=[table])
    expected = pixels.apply_modality_lut(stored, ds)
    np.testing.assert_array_equal(one(tmp_path / "b.dcm", tmp_path)[..., 0], expected)


@pytest.mark.parametrize("name", ["examples_rgb_color.dcm", "SC_ybr_full_422_uncompressed.dcm", "SC_rgb_rle_16bit.dcm"])
def test_colours_come_as_rgb(tmp_path: Path, name: str) -> None:
    expected = pixels.pixel_array(SHIPPED / name)
    image = one(SHIPPED / name, tmp_path)
    assert image.dtype == expected.dtype
    np.testing.assert_array_equal(image, expected)


def test_a_palette_gives_its_colours(tmp_path: Path) -> None:
    ds = pydicom.dcmread(SHIPPED / "examples_palette.dcm")
    expected = pixels.apply_color_lut(ds.pixel_array, ds)[..., :3]
    np.testing.assert_array_equal(one(SHIPPED / "examples_palette.dcm", tmp_path), expected)


def test_a_deflated_file_is_read(tmp_path: Path) -> None:
    expected = pydicom.dcmread(SHIPPED / "image_dfl.dcm").pixel_array
    np.testing.assert_array_equal(one(SHIPPED / "image_dfl.dcm", tmp_path)[..., 0], expected)


def test_every_frame_is_an_image_with_its_own_rescale_and_window(tmp_path: Path) -> None:
    stored = np.stack([np.full((3, 4), value, np.uint16) for value in (10, 20, 30)])
    frames = []
    for slope in (1, 2, 3):
        rescale, window, frame = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
        rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = slope, 0, "US"
        frame.PixelValueTransformationSequence = [rescale]
        window.WindowCenter, window.WindowWidth, window.VOILUTFunction = 50, 100, "LINEAR_EXACT"
        frame.FrameVOILUTSequence = [window]
        frames.append(frame)
    dicom(stored, tmp_path / "d" / "normal" / "scan", PerFrameFunctionalGroupsSequence=frames)
    source = open_source(tmp_path / "d")
    assert source.ids.tolist() == [f"normal/scan#000{i}" for i in range(3)]
    assert source.column("frame").tolist() == ["0", "1", "2"]
    np.testing.assert_allclose(source.read([2, 0, 1])[:, 0, 0, 0] / 65535, [0.9, 0.1, 0.4], atol=1e-5)


@pytest.mark.parametrize("claimed", [3, 100_000, 2**31 - 1, -1])
def test_frames_that_a_file_cannot_hold_are_refused_before_they_are_looked_at(tmp_path: Path, claimed: int) -> None:
    stored = np.zeros((2, 8, 8), np.uint16)
    for syntax in (pydicom.uid.ExplicitVRLittleEndian, pydicom.uid.ImplicitVRLittleEndian, pydicom.uid.JPEG2000):
        ds = dicom(stored, tmp_path / "d" / "normal" / "a.dcm", NumberOfFrames=claimed)
        ds.file_meta.TransferSyntaxUID = syntax
        if syntax.is_compressed:
            ds.PixelData = pydicom.encaps.encapsulate([b"no", b"no"])
            ds["PixelData"].is_undefined_length = True
            if claimed == 3:  # whether packed frames are as many is seen when they are unpacked
                continue
        ds.save_as(
            tmp_path / "d" / "normal" / "a.dcm",
            implicit_vr=syntax.is_implicit_VR,
            little_endian=True,
            enforce_file_format=True,
        )
        words = f"{claimed:,} frames of 8x8, and" if claimed > 0 else "says that it has -1 frames of 8x8: mend"
        with pytest.raises(UserError, match=words):
            open_source(tmp_path / "d")


def test_frames_that_the_header_does_not_count_are_said(tmp_path: Path) -> None:
    stored = np.arange(128, dtype=np.uint16).reshape(2, 8, 8)
    dicom(stored, tmp_path / "d" / "normal" / "a.dcm", NumberOfFrames=None)
    source = open_source(tmp_path / "d")
    assert len(source) == 1 and any("1 file with the pixels of more frames" in note for note in source.notes)


def test_patients_are_groups_and_studies_columns_and_no_name_of_a_person_is_kept_unless_asked(tmp_path: Path) -> None:
    image = np.zeros((4, 4), np.uint8)
    dicom(image, tmp_path / "d" / "normal" / "a.dcm", PatientID="P1")
    dicom(image, tmp_path / "d" / "normal" / "b.dcm", PatientID="", StudyInstanceUID="1.9")
    dicom(image, tmp_path / "d" / "abnormal" / "c.dcm", PatientID="DOE_JANE_1970")
    source = open_source(tmp_path / "d")
    assert source.groups is not None
    hashed, patient, study = source.groups.tolist()
    assert (patient, study) == ("P1", "1.9") and hashed.startswith("patient-")
    assert source.column("study").tolist() == ["1.2.3", "1.2.3", "1.9"]
    assert "PatientName" not in list(source.columns)
    told = " ".join([*source.notes, *map(str, source.ids), *(str(v) for c in source.columns.values() for v in c)])
    assert "doe" not in told.lower() and "jane" not in told.lower()
    assert any("name of a person" in note for note in source.notes)
    asked = open_source(tmp_path / "d", group_key="PatientName")
    assert asked.groups is not None and set(asked.groups.tolist()) == {"Doe^Jane"}
    written = convert(source, tmp_path / "out.npz").read_bytes()
    assert b"Doe" not in written and b"DOE" not in written


def test_a_csv_names_labels_groups_and_single_frames(tmp_path: Path) -> None:
    stored = np.random.default_rng(0).integers(0, 255, (3, 4, 4)).astype(np.uint8)
    dicom(stored, tmp_path / "a.dcm")
    (tmp_path / "m.csv").write_text("path,label,frame,group\na.dcm,sick,1,g1\na.dcm,healthy,2,g2\n")
    source = open_source(tmp_path / "m.csv", negative="healthy", positive="sick")
    assert source.ids.tolist() == ["a.dcm#0001", "a.dcm#0002"]
    assert source.labels.tolist() == [1, 0]
    assert source.groups is not None and source.groups.tolist() == ["g1", "g2"]
    np.testing.assert_array_equal(source.read([0, 1])[..., 0], stored[1:])
    (tmp_path / "all.csv").write_text("path,label\na.dcm,sick\n")
    assert len(open_source(tmp_path / "all.csv", negative="normal", unlabelled=("normal", "sick"))) == 3
    (tmp_path / "no.csv").write_text("path,label,frame\na.dcm,sick,7\n")
    with pytest.raises(UserError, match="has no image with frame '7'"):
        open_source(tmp_path / "no.csv")


def test_files_without_an_image_are_counted_and_files_without_a_suffix_read(tmp_path: Path) -> None:
    folder = tmp_path / "d" / "normal"
    dicom(np.zeros((4, 4), np.uint8), folder / "IM-0001.5")
    shutil.copy(SHIPPED / "reportsi.dcm", folder / "report.dcm")
    (folder / "readme.txt").write_text("no image")
    source = open_source(tmp_path / "d")
    assert source.ids.tolist() == ["normal/IM-0001.5"]
    assert any("1 .txt" in note and "1 DICOM file without an image" in note for note in source.notes)


def test_ordinary_images_may_lie_beside(tmp_path: Path, folder: Path, pixels: np.ndarray) -> None:
    dicom(pixels[0], folder / "healthy" / "9.dcm")
    source = open_source(folder)
    assert source.ids[-1] == "healthy/9.dcm" and len(source) == 7
    np.testing.assert_array_equal(source.read([6, 5])[..., 0], pixels[[0, 2]])


def test_the_fingerprint_depends_on_how_files_are_read(tmp_path: Path) -> None:
    dicom(np.arange(16, dtype=np.uint16).reshape(4, 4), tmp_path / "d" / "normal" / "a.dcm")
    prints = {open_source(tmp_path / "d", reading=how).fingerprint for how in (None, "window=0:9", "window=0:10")}
    assert len(prints) == 3


@pytest.mark.parametrize(
    ("name", "reading", "words"),
    [
        ("liver_1frame.dcm", None, "has 1 bits a pixel, as masks have"),
        ("rtdose.dcm", None, "has 32 bits a pixel"),
        ("JPEG-lossy.dcm", None, "pip install pylibjpeg"),
        ("MR_truncated.dcm", None, "has 1 frame of 64x64, and it is too short for that: it is truncated"),
        ("rtstruct.dcm", None, "does not begin as a DICOM file does"),
        ("MR_small.dcm", "window=1%:99%", "in percent is for volumes"),
        ("MR_small.dcm", "axis=axial", "axis, which is for files of the kind NIfTI, and there are none"),
    ],
)
def test_what_cannot_be_read_rightly_is_refused_in_a_sentence(
    tmp_path: Path, name: str, reading: str | None, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        one(SHIPPED / name, tmp_path, reading)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"HighBit": 15}, "has its 12 bits below bit 15 and not below 11"),
        ({"RescaleSlope": "NaN"}, "says nan as its RescaleSlope"),
        ({"WindowCenter": "NaN", "WindowWidth": "100"}, "says nan as its WindowCenter"),
        ({"WindowCenter": "40", "WindowWidth": "inf"}, "says inf as its WindowWidth"),
        ({"FloatPixelData": bytes(256)}, "has its pixels as floats"),
        ({"PixelData": None}, "has the header of a picture and no pixels"),
    ],
)
def test_a_header_by_which_values_would_be_read_wrongly_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: dict[str, Any], words: str
) -> None:
    for mode in ("reading_validation_mode", "writing_validation_mode"):
        monkeypatch.setattr(pydicom.config.settings, mode, pydicom.config.IGNORE)
    path = tmp_path / "d" / "normal" / "a.dcm"
    ds = dicom(np.zeros((8, 8), np.uint16), path, bits=12)
    for key, value in said.items():
        setattr(ds, key, value)
    if not {"FloatPixelData", "PixelData"}.isdisjoint(said):
        del ds.PixelData
    ds.save_as(path, enforce_file_format=True)
    with pytest.raises(UserError, match=words):
        open_source(tmp_path / "d")


def test_pixels_out_of_proportion_and_colours_of_another_profile_are_said(tmp_path: Path) -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    image = np.zeros((4, 4, 3), np.uint8)
    dicom(image, tmp_path / "d" / "normal" / "a.dcm", "RGB", PixelSpacing=[1, 0.25], ICCProfile=lab)
    dicom(image, tmp_path / "d" / "normal" / "b.dcm", "RGB", PixelSpacing=[2, 2], ICCProfile=None)
    notes = " ".join(open_source(tmp_path / "d").notes)
    assert "1 file with pixels that are not square" in notes
    assert "1 file has the colour profile" in notes and "not sRGB: the values are taken as they stand" in notes


def test_an_rt_dose_is_read_through_a_window(tmp_path: Path) -> None:
    ds = pydicom.dcmread(SHIPPED / "rtdose.dcm")
    expected = np.clip(ds.pixel_array / 1e6, 0, 1)
    folder = tmp_path / "d" / "normal"
    folder.mkdir(parents=True)
    shutil.copy(SHIPPED / "rtdose.dcm", folder)
    source = open_source(tmp_path / "d", reading="window=0:1000000")
    np.testing.assert_allclose(source.read(range(len(source)))[..., 0] / 65535, expected, atol=1e-5)


def test_without_pydicom_the_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dicom(np.zeros((4, 4), np.uint8), tmp_path / "d" / "normal" / "a.dcm")
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(UserError, match=r"pip install 'cfdiff\[dicom\]'"):
        open_source(tmp_path / "d")


def test_files_of_other_bits_or_scales_are_said_to_be_of_other_grays(tmp_path: Path) -> None:
    """The same values would be 16 times as bright in files of 12 bits as in those of 16."""
    values, folder = np.arange(16, dtype=np.uint16).reshape(4, 4), tmp_path / "d" / "normal"
    dicom(values, folder / "a.dcm", bits=12)
    dicom(values, folder / "b.dcm", bits=12)
    assert not any("one gray is not one value" in note for note in open_source(tmp_path / "d").notes)
    dicom(values, folder / "b.dcm", bits=16)
    assert any("(0:4095, 0:65535), so that one gray is not one value" in n for n in open_source(tmp_path / "d").notes)
    dicom(values, folder / "b.dcm", bits=12, RescaleSlope="0.5", RescaleIntercept="0", Modality="PT")
    assert any("(0:2047.5, 0:4095)" in note for note in open_source(tmp_path / "d").notes)
    source = open_source(tmp_path / "d", reading="window=0:100")
    assert not any("one gray is not one value" in note for note in source.notes)
    both = source.read([0, 1]).astype(int)
    assert np.abs(both[0] - 2 * both[1]).max() <= 1


def test_the_label_of_a_slide_is_not_read_and_a_mosaic_refused(tmp_path: Path) -> None:
    picture, folder = np.zeros((4, 4, 3), np.uint8), tmp_path / "d" / "normal"
    for kind in ("LABEL", "OVERVIEW", "VOLUME"):
        said = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.6", "ImageType": ["ORIGINAL", "PRIMARY", kind, "NONE"]}
        dicom(picture, folder / f"{kind}.dcm", "RGB", **said)
    source = open_source(tmp_path / "d")
    assert source.ids.tolist() == ["normal/VOLUME.dcm"]
    assert any("2 DICOM files without an image" in note for note in source.notes)
    dicom(np.zeros((4, 4), np.uint16), folder / "m.dcm", ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"])
    with pytest.raises(UserError, match="mosaic of the slices"):
        open_source(tmp_path / "d")
