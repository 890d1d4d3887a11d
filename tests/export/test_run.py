from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cfdiff.data.readers.reading import parse_reading
from cfdiff.errors import UserError
from cfdiff.export.nifti import write_difference
from cfdiff.export.original import Original
from cfdiff.export.run import export
from cfdiff.export.settings import ExportSettings
from cfdiff.store import open_result
from cfdiff.translate.run import translate

pydicom = pytest.importorskip("pydicom")
nibabel = pytest.importorskip("nibabel")


def toys(toy: Any) -> tuple[np.ndarray, np.ndarray]:
    """The toy images (N, 16, 16) uint8 and their labels."""
    with np.load(toy.data) as file:
        return file["images"].reshape(-1, 16, 16), file["labels"]


def dicom(pixels: np.ndarray, path: Path) -> None:
    ds = pydicom.Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.StudyDate = "1.2.3", "1.2.3.4", "20240102"
    ds.PatientID, ds.PatientName, ds.PatientBirthDate = "P1", "Doe^Jane", "19700101"
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    ds.NumberOfFrames, ds.Rows, ds.Columns = pixels.shape
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelData = 7, pixels.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)


@pytest.fixture(scope="module")
def scans(toy: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two multi-frame files of the toys, and a run of two frames of the sick one."""
    folder = tmp_path_factory.mktemp("dicom")
    images, labels = toys(toy)
    for name in ("healthy", "sick"):
        dicom(images[labels == name][:3], folder / "scans" / name / "a.dcm")
    out = folder / "run.h5"
    translate(toy.settings(out, data=str(folder / "scans"), from_="sick", limit=2, retries=0))
    return folder / "scans", out


def test_captures_hold_the_counterfactual_and_the_difference_in_the_study_of_their_original(
    scans: tuple[Path, Path], tmp_path: Path
) -> None:
    data, run = scans
    done = export(ExportSettings(run=run, data=data, out=tmp_path / "out"))
    assert len(done.files) == 4 and done.passed_over == 0
    with open_result(run) as result:
        for row, sample_id in enumerate(result["id"][:].tolist()):
            stem = tmp_path / "out" / sample_id.replace(".dcm#", "_")
            after = pydicom.dcmread(f"{stem}_counterfactual.dcm")
            np.testing.assert_array_equal(after.pixel_array, result.counterfactual[row][..., 0])
            change = pydicom.dcmread(f"{stem}_difference.dcm")
            shares = pydicom.pixels.apply_rescale(change.pixel_array, change)
            np.testing.assert_allclose(shares, result.difference[row][..., 0].astype(float), atol=2e-5)
            original = pydicom.dcmread(data / "sick" / "a.dcm")
            frame = int(sample_id.rpartition("#")[2]) + 1
            for ds in (after, change):
                assert ds.SOPClassUID == pydicom.uid.SecondaryCaptureImageStorage
                assert (ds.StudyInstanceUID, ds.StudyDate, ds.PatientID) == ("1.2.3", "20240102", "P1")
                assert ds.SourceImageSequence[0].ReferencedSOPInstanceUID == original.SOPInstanceUID
                assert ds.SourceImageSequence[0].ReferencedFrameNumber == frame
                assert "not for diagnosis" in ds.DerivationDescription and "healthy" in ds.SeriesDescription
            assert after.SeriesInstanceUID != change.SeriesInstanceUID != original.SeriesInstanceUID


def test_no_person_is_named_unless_asked_and_a_second_export_has_the_same_uids(
    scans: tuple[Path, Path], tmp_path: Path
) -> None:
    data, run = scans
    first = export(ExportSettings(run=run, data=data, out=tmp_path / "a"))
    # Whole words: four digits stand in a UID, and three letters among pixels, now and then by chance.
    assert not [p for p in first.files for word in (b"Doe^Jane", b"19700101") if word in p.read_bytes()]
    named = export(ExportSettings(run=run, data=data, out=tmp_path / "b", names=True))
    assert all(pydicom.dcmread(path).PatientName == "Doe^Jane" for path in named.files)
    uids = [[pydicom.dcmread(path).SOPInstanceUID for path in done.files] for done in (first, named)]
    assert uids[0] == uids[1] and len(set(uids[0])) == 4
    with pytest.raises(UserError, match="holds something"):
        export(ExportSettings(run=run, data=data, out=tmp_path / "a"))


def test_data_that_a_run_was_not_made_of_is_refused(scans: tuple[Path, Path], toy: Any, tmp_path: Path) -> None:
    data, run = scans
    with pytest.raises(UserError, match="There is no sick/a.dcm in"):
        export(ExportSettings(run=run, data=tmp_path, out=tmp_path / "out"))
    images, _ = toys(toy)
    dicom(255 - images[:3], tmp_path / "sick" / "a.dcm")
    with pytest.raises(UserError, match="is not the image that run.h5 was made of"):
        export(ExportSettings(run=run, data=tmp_path, out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("axis", ["axial", "sagittal"])
def test_the_difference_lies_in_the_volume_where_its_slices_do(toy: Any, tmp_path: Path, axis: str) -> None:
    images, labels = toys(toy)
    affine = np.array([[0, 2.0, 0, -9], [-3.0, 0, 0, 4], [0, 0, 1.5, 7], [0, 0, 0, 1]])
    for name in ("healthy", "sick"):
        volume = np.zeros((16, 16, 16), np.uint8)
        seen = images[labels == name][:16]
        # What lies where in the file does not matter: only that what comes back lies in the same places.
        volume[...] = np.transpose(seen, (2, 1, 0)) if axis == "axial" else np.transpose(seen, (1, 0, 2))
        (tmp_path / "d" / name).mkdir(parents=True)
        nibabel.save(nibabel.Nifti1Image(volume, affine), tmp_path / "d" / name / "v.nii.gz")
    run = tmp_path / "run.h5"
    reading = f"axis={axis},slices=3:6"
    translate(toy.settings(run, data=str(tmp_path / "d"), reading=reading, from_="sick", limit=2, retries=0))
    done = export(ExportSettings(run=run, data=tmp_path / "d"))
    assert done.files == (tmp_path / "run-files" / "sick" / "v_difference.nii.gz",)
    made = nibabel.load(done.files[0])
    np.testing.assert_array_equal(made.affine, affine)
    assert made.shape == (16, 16, 16)
    body = np.asarray(nibabel.as_closest_canonical(made).get_fdata())  # to the right, front and head
    with open_result(run) as result:
        assert result.settings["reading"] == reading
        expected = np.zeros_like(body)
        for row, sample_id in enumerate(result["id"][:].tolist()):
            k, change = int(sample_id.rpartition("#")[2]), result.difference[row][..., 0]
            if axis == "axial":
                expected[:, :, k] = change[::-1, ::-1].T
            else:
                expected[k] = change[::-1, ::-1].T
        np.testing.assert_allclose(body, expected, atol=1e-6)
        assert np.abs(body).max() > 0


def test_a_run_of_ordinary_images_has_nothing_to_export(toy: Any, tmp_path: Path) -> None:
    from PIL import Image

    images, labels = toys(toy)
    for i in range(4):
        (tmp_path / "d" / str(labels[i])).mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[i]).save(tmp_path / "d" / str(labels[i]) / f"{i}.png")
    translate(toy.settings(tmp_path / "run.h5", data=str(tmp_path / "d"), from_="sick", limit=1, retries=0))
    with pytest.raises(UserError, match="holds no image of a DICOM or NIfTI file"):
        export(ExportSettings(run=tmp_path / "run.h5", data=tmp_path / "d"))


def test_the_command_says_what_it_wrote(
    scans: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import cfdiff

    data, run = scans
    assert len(cfdiff.export(run, data=data, out=tmp_path / "out").files) == 4
    from cfdiff.cli.export import export as command

    command(run=run, data=data, out=tmp_path / "again")
    assert capsys.readouterr().out.strip().endswith("again: 4 files")


def test_a_difference_says_no_more_of_left_and_right_than_its_file(tmp_path: Path) -> None:
    """A viewer would lay one over the other turned, if only one of them named an orientation."""
    silent = nibabel.Nifti1Image(np.zeros((4, 5, 3), np.int16), None)
    silent.header.set_zooms((1.0, 2.0, 3.0))
    nibabel.save(silent, tmp_path / "v.nii")
    result: Any = SimpleNamespace(difference=np.ones((1, 5, 4, 1), np.float32))
    original = Original(tmp_path / "v.nii", "v.nii", parse_reading(None), [0], [1])
    made = nibabel.load(write_difference(result, original, tmp_path / "out", False)[0])
    there = nibabel.load(tmp_path / "v.nii")
    for key in ("qform_code", "sform_code"):
        assert int(made.header[key]) == int(there.header[key]) == 0
    np.testing.assert_array_equal(made.affine, there.affine)
    assert made.header.get_zooms() == (1.0, 2.0, 3.0) and made.get_fdata()[..., 1].all()
