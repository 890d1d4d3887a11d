"""What the stored numbers of a DICOM image mean: rescale, window and photometric interpretation (PS3.3 C.7.6.3, C.11).

Gray becomes a share of the brightness from 0 to 1, and then 8 bits where the file stores up to 8, else 16: an image
without a window keeps every value that it stores apart.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from cfdiff.data.readers.reading import Window

COLOURS = ("RGB", "PALETTE COLOR", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT")
GRAYS = ("MONOCHROME1", "MONOCHROME2")


class NoNumber(ValueError):
    """What a header says that must be a number and is none, in words that follow the name of the file."""


class Shown(NamedTuple):
    """How a frame is shown by its file: the window, None for all values; `function` is DICOM's name of its curve."""

    window: Window | None
    function: str = "LINEAR"


def of_frame(header: Any, frame: int, sequence: str) -> Any:
    """The data set that says `sequence` of a frame: its own, the one shared by all frames, or the file's."""
    for groups, place in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        found = header.get(groups)
        if found is not None and len(found) > place and found[place].get(sequence):
            return found[place].get(sequence)[0]
    return header


def shown_by_file(header: Any, frame: int) -> Shown:
    """The first window that a file names for a frame."""
    said = of_frame(header, frame, "FrameVOILUTSequence")
    centre, width = (_first(said, key) for key in ("WindowCenter", "WindowWidth"))
    function = str(said.get("VOILUTFunction") or "LINEAR").upper()
    least = 1 if function == "LINEAR" else 0
    if centre is None or width is None or width < least or (width == least and function != "LINEAR"):
        return Shown(None)
    return Shown(Window(centre, width, centred=True), function)


def rescale(header: Any, frame: int) -> tuple[float | None, float]:
    """Slope and intercept of a frame; slope None where its values stay."""
    said = of_frame(header, frame, "PixelValueTransformationSequence")
    slope, intercept = (_first(said, key) for key in ("RescaleSlope", "RescaleIntercept"))
    return slope or None, intercept or 0.0


def sides(header: Any, frame: int) -> tuple[float, float]:
    """Height and width of a pixel, in whatever unit; 1 and 1 where the file does not say."""
    said = of_frame(header, frame, "PixelMeasuresSequence")
    for key in ("PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio"):
        if (found := said.get(key)) is not None and not isinstance(found, str) and len(found) == 2:
            return float(found[0]), float(found[1])
    return 1.0, 1.0


def ends(header: Any, frame: int) -> tuple[float, float]:
    """The least and the greatest value that a gray frame can hold, as they mean: black and white without a window."""
    if header.get("ModalityLUTSequence"):
        return 0.0, float(2 ** int(header.ModalityLUTSequence[0].LUTDescriptor[2]) - 1)
    bits, signed = int(header.BitsStored), int(header.get("PixelRepresentation") or 0) == 1
    slope, intercept = rescale(header, frame)
    stored = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    first, last = (float(value if slope is None else value * slope + intercept) for value in stored)
    return min(first, last), max(first, last)


def brightness(stored: np.ndarray, header: Any, frame: int, window: Window | str | None, pixels: Any) -> np.ndarray:
    """The stored values (H, W) of a gray frame as shares of the full brightness, float64 in [0, 1].

    `window` is the one asked for, "full", or None for the file's own; `pixels` is the module pydicom.pixels.
    """
    values = stored.astype(np.float64)
    if header.get("ModalityLUTSequence"):
        values = pixels.apply_modality_lut(stored, header).astype(np.float64)
    else:
        slope, intercept = rescale(header, frame)
        if slope is not None:
            values = values * slope + intercept
    shown = shown_by_file(header, frame) if window is None else Shown(window if isinstance(window, Window) else None)
    if shown.window is not None:
        share = through(values, shown)
    elif window is None and header.get("VOILUTSequence"):
        most = 2 ** int(header.VOILUTSequence[0].LUTDescriptor[2]) - 1
        share = pixels.apply_voi(np.rint(values).astype(np.int64), header) / most
    else:
        low, high = ends(header, frame)
        share = (values - low) / (high - low)
    share = np.clip(share, 0, 1)
    inverse = header.PhotometricInterpretation == "MONOCHROME1" or header.get("PresentationLUTShape") == "INVERSE"
    return 1 - share if inverse else share


def through(values: np.ndarray, shown: Shown) -> np.ndarray:
    """Values through a window, 0 black and 1 white; beyond them what is to be cut (PS3.3 C.11.2.1.2 and .3)."""
    assert shown.window is not None
    a, b = shown.window.low, shown.window.high
    if not shown.window.centred:
        return (values - a) / (b - a)
    if shown.function == "SIGMOID":
        return 1 / (1 + np.exp(-4 * (values - a) / b))
    if shown.function == "LINEAR_EXACT":
        return (values - a) / b + 0.5
    if b == 1:  # the limit of the line below: a threshold
        return (values > a - 0.5).astype(np.float64)
    return (values - (a - 0.5)) / (b - 1) + 0.5


def as_pixels(share: np.ndarray, bits: int) -> np.ndarray:
    """Shares of the brightness in [0, 1] as uint8 for up to 8 bits, else uint16."""
    most, dtype = (255, np.uint8) if bits <= 8 else (65535, np.uint16)
    return np.rint(np.clip(share, 0, 1) * most).astype(dtype)


def _first(said: Any, key: str) -> float | None:
    """The one number that a data set says, or the first of several; None where there is none.

    Raises:
        NoNumber: it is infinite or not a number, and every pixel would be so.
    """
    value = said.get(key)
    if value is None or value == "":
        return None
    if not isinstance(value, int | float | str) and hasattr(value, "__len__"):
        if not len(value):
            return None
        value = value[0]
    number = float(value)
    if not math.isfinite(number):
        raise NoNumber(f"says {number} as its {key}")
    return number
