"""Sound files of the clinic and the microscope for corpus.py: DICOM, NIfTI, a slide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile


def write(folder: Path) -> None:
    """`dicom/`, `nifti/` and `slides/`, each with a file a class."""
    rng = np.random.default_rng(1)
    for label in ("no", "yes"):
        for kind in ("dicom", "nifti", "slides"):
            (folder / kind / label).mkdir(parents=True)
        _dicom(rng.integers(0, 4096, (3, 12, 12)).astype(np.uint16), folder / "dicom" / label / "a.dcm")
        _nifti(rng.integers(0, 900, (12, 12, 4)).astype(np.int16), folder / "nifti" / label / "a.nii.gz")
        tissue = np.full((128, 128, 3), (200, 90, 160), np.uint8)
        resolution = {"resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER"}
        tifffile.imwrite(folder / "slides" / label / "a.tif", tissue, tile=(64, 64), photometric="rgb", **resolution)


def _dicom(pixels: np.ndarray, path: Path) -> None:
    import pydicom

    ds = pydicom.Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4.5"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.PatientID = "1.2.3", "1.2.3.4", f"P-{path.parent.name}"
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    ds.NumberOfFrames, ds.Rows, ds.Columns = pixels.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
    ds.WindowCenter, ds.WindowWidth, ds.RescaleSlope, ds.RescaleIntercept = "2000", "3000", "1", "0"
    ds.PixelData = pixels.tobytes()
    ds.save_as(path, enforce_file_format=True)


def _nifti(volume: np.ndarray, path: Path) -> None:
    import nibabel

    nibabel.save(nibabel.Nifti1Image(volume, np.diag([2.0, 2.0, 3.0, 1.0])), path)
