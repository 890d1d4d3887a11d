"""DICOM by pydicom: every frame an image, the patient its group. No name of a person is read unless it is asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from cfdiff.data.limits import MAX_PIXELS
from cfdiff.data.readers.dicom_person import names_somebody
from cfdiff.data.readers.dicom_stored import check_stored, frames_of, stored_at
from cfdiff.data.readers.dicom_values import (
    COLOURS,
    GRAYS,
    NoNumber,
    as_pixels,
    brightness,
    ends,
    rescale,
    shown_by_file,
    sides,
)
from cfdiff.data.readers.foreign import in_truth
from cfdiff.data.readers.held import FileKind, Held, need, numbered, of_proportion, said_of, stamp
from cfdiff.data.readers.images import SUFFIXES as ORDINARY
from cfdiff.data.readers.reading import Reading, Window
from cfdiff.data.readers.shown import named
from cfdiff.errors import UserError, plain

SUFFIXES = (".dcm", ".dicom", ".ima")
WHAT = "a DICOM file"
MORE_FRAMES = "{files} with the pixels of more frames than NumberOfFrames says: those are not read."
WHOLE_SLIDE, BESIDE_A_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6", {"LABEL", "OVERVIEW", "LOCALIZER"}
"""Slides as DICOM, and what the pictures of them are called on which names stand: they are none of tissue."""
KEPT_HEADERS = 64
"""Headers in memory between two looks at the same file; those of many frames are long."""


def recognises(path: Path, reading: Reading) -> bool:
    """By its name, or by the letters DICM after 128 bytes: the files of scanners are often without a suffix.

    What is called as an ordinary image is none, so that thousands of those need no look.
    """
    suffix = path.suffix.lower()
    if suffix in SUFFIXES or suffix in ORDINARY:
        return suffix in SUFFIXES
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def hold(path: Path, shown: str, reading: Reading) -> Held | None:
    """The frames of a file; None for a report, a plan or whatever else has no picture.

    Columns: `patient` (PatientID, or what stands in its place, see `_patient`), `study`, `series` and `frame`. A
    column `PatientName` is there for whoever names it.
    """
    with _sentences(path, shown):
        header = header_of(path, shown)
        if header.get("Rows") is None or header.get("Columns") is None:
            return None
        kind = {str(word).upper() for word in header.get("ImageType") or ()}
        if header.get("SOPClassUID") == WHOLE_SLIDE and kind & BESIDE_A_SLIDE:
            return None
        if "MOSAIC" in kind:
            raise UserError(
                f"{shown} is a mosaic of the slices of a volume (Siemens): make a NIfTI file of it, as with dcm2niix."
            )
        stored = stored_at(path, header, _looked_at(path, shown)[1])
        check_stored(stored, shown)
        photometric, samples = _checked(header, shown, reading)
        bits = int(header.BitsStored)
        frames, more = frames_of(header, stored, shown)
        patient, hidden = _patient(header, path)
        # Beyond those that say something of their own, frames are shown all alike.
        said = range(min(frames, len(header.get("PerFrameFunctionalGroupsSequence") or ()) + 1))
        windows, between = set[Window | None]({None}), set[tuple[float, float]]()
        if samples == 1:
            if reading.window is None:
                windows = {shown_by_file(header, frame).window for frame in said}
            for frame in said:
                rescale(header, frame)  # to refuse what is no number before it is met in a run
            if windows == {None} and not isinstance(reading.window, Window) and not header.get("VOILUTSequence"):
                between = {ends(header, frame) for frame in said}
        notes = (*_window_notes(windows, samples, reading), *hidden, *_pixel_notes(header, said))
        profile = named(header.ICCProfile) if samples > 1 and header.get("ICCProfile") else None
    height, width = int(header.Rows), int(header.Columns)
    if height * width > MAX_PIXELS:
        raise UserError(
            f"{shown} claims {height * width:,} pixels, and {MAX_PIXELS:,} are the most: cut it into tiles."
        )
    if photometric == "PALETTE COLOR":
        bits = int(header.RedPaletteColorLookupTableDescriptor[2])
    columns = {
        "patient": [patient] * frames,
        "study": [str(header.get("StudyInstanceUID") or "")] * frames,
        "series": [str(header.get("SeriesInstanceUID") or "")] * frames,
        "frame": [str(i) for i in range(frames)],
    }
    return Held(
        shape=(height, width, samples),
        dtype=np.dtype(np.uint8 if bits <= 8 else np.uint16),
        parts=[""] if frames == 1 else numbered(frames),
        read=partial(_read, path, shown, reading),
        columns=columns,
        asked={"PatientName": lambda: str(header_of(path, shown).get("PatientName") or "")},
        group="patient",
        notes=(*notes, *([MORE_FRAMES] if more else [])),
        profile=profile,
        between=frozenset(between),
    )


def _read(path: Path, shown: str, reading: Reading, places: Sequence[int]) -> np.ndarray:
    pixels = need("pydicom.pixels", "dicom", shown, WHAT)
    with _sentences(path, shown):
        header = header_of(path, shown)
        return np.stack([_frame(path, shown, header, frame, reading, pixels) for frame in places])


def _frame(path: Path, shown: str, header: Any, frame: int, reading: Reading, pixels: Any) -> np.ndarray:
    """One frame (H, W, C) as it is to be seen."""
    packed_whole = header.file_meta.TransferSyntaxUID.is_deflated  # its frames cannot be found in the file
    source = need("pydicom", "dicom", shown, WHAT).dcmread(path) if packed_whole else path
    stored = pixels.pixel_array(source, index=frame)  # colours come as RGB, whatever YBR the file has
    photometric = header.PhotometricInterpretation
    if photometric in GRAYS:
        if stored.ndim != 2:
            raise UserError(f"{shown} has gray of several channels: export it again.")
        return as_pixels(brightness(stored, header, frame, reading.window, pixels), int(header.BitsStored))[..., None]
    if photometric == "PALETTE COLOR":
        coloured = pixels.apply_color_lut(stored, header)[..., :3]
        return coloured.astype(np.uint8 if coloured.dtype.itemsize == 1 else np.uint16)
    most = 2 ** int(header.BitsStored) - 1
    return as_pixels(stored / most, int(header.BitsStored))


def _checked(header: Any, shown: str, reading: Reading) -> tuple[str, int]:
    """The photometric interpretation and the channels that come of it; UserError for what is no picture."""
    photometric = str(header.get("PhotometricInterpretation") or "none")
    if photometric not in (*GRAYS, *COLOURS):
        raise UserError(f"{shown} has its colours as {plain(photometric)}: export it as gray or RGB.")
    bits, allocated, high = (header.get(key) for key in ("BitsStored", "BitsAllocated", "HighBit"))
    if not bits or not allocated or allocated < 8:
        raise UserError(f"{shown} has {allocated or 'no'} bits a pixel, as masks have: give images, and masks as PNG.")
    if high is not None and high != bits - 1:
        raise UserError(
            f"{shown} has its {bits} bits below bit {high} and not below {bits - 1}, where they are read: export it "
            "again."
        )
    if bits > 16 and not (photometric in GRAYS and isinstance(reading.window, Window)):
        raise UserError(
            f"{shown} has {bits} bits a pixel, of which no 16 can be chosen: say the values that are black and white "
            "with --reading window=BLACK:WHITE."
        )
    if isinstance(reading.window, Window) and reading.window.percent:
        raise UserError(f"--reading window in percent is for volumes, and {shown} is {WHAT}: say it in its values.")
    return photometric, 1 if photometric in GRAYS else 3


def _window_notes(windows: set[Window | None], samples: int, reading: Reading) -> tuple[str, ...]:
    if samples > 1 or reading.window is not None or windows == {None}:
        return ()
    said = ", ".join(sorted(f"{w.low:g}/{w.high:g}" for w in windows if w is not None)[:3])
    return (
        f"{{files}} shown through the window that DICOM files name themselves ({said}): --reading window says one.",
    )


def _pixel_notes(header: Any, frames: range) -> tuple[str, ...]:
    """What is to be known of pixels that are not square."""
    return tuple(sorted({note for frame in frames for note in of_proportion(*sides(header, frame))}))


def _patient(header: Any, path: Path) -> tuple[str, tuple[str, ...]]:
    """What stands for the patient, and a note where that is not the PatientID.

    Without a PatientID it is the study, then the file. A PatientID that may name a person is replaced by a hash, which
    joins what belongs together and can be told to nobody.
    """
    patient = str(header.get("PatientID") or "").strip()
    if not patient:
        return str(header.get("StudyInstanceUID") or path.stem), (
            "{files} without a PatientID: what belongs together is told by the study.",
        )
    if names_somebody(patient, str(header.get("PatientName") or "")):
        return f"patient-{hashlib.sha256(patient.encode()).hexdigest()[:12]}", (
            "{files} with what may be the name of a person as PatientID: a hash stands in its place.",
        )
    return patient, ()


def header_of(path: Path, shown: str) -> Any:
    """All that a file says beside its pixels."""
    return _looked_at(path, shown)[0]


def _looked_at(path: Path, shown: str) -> tuple[Any, int]:
    """The header of a file, and where its pixels begin."""
    pydicom = need("pydicom", "dicom", shown, WHAT)
    try:
        return _kept_header(path, stamp(path), pydicom)
    except pydicom.errors.InvalidDicomError as error:
        if path.stat().st_size == 0:
            raise
        truth = in_truth(path)
        raise UserError(
            f"{shown} does not begin as a DICOM file does (with a preamble of 128 bytes and DICM)"
            + (f" but is {truth}." if truth else ": save it again as one, or remove it.")
        ) from error


@lru_cache(maxsize=KEPT_HEADERS)
def _kept_header(path: Path, when: int, pydicom: Any) -> tuple[Any, int]:
    with path.open("rb") as file:
        return pydicom.dcmread(file, stop_before_pixels=True), file.tell()


@contextmanager
def _sentences(path: Path, shown: str) -> Iterator[None]:
    """Whatever pydicom and the decoders say of a file is a UserError."""
    with said_of(path, shown, "DICOM", "it may be truncated or corrupt, copy it again or remove it"):
        try:
            yield
        except NoNumber as error:
            raise UserError(f"{shown} {error}, which is no number: mend its header or remove it.") from error
        except Exception as error:
            if "plugin" not in str(error) or isinstance(error, UserError | MemoryError | OSError):
                raise
            raise UserError(
                f"{shown} is packed in a way that needs one more package: pip install pylibjpeg pylibjpeg-libjpeg "
                "pylibjpeg-openjpeg."
            ) from error


KIND = FileKind(recognises, hold, ("window",))
