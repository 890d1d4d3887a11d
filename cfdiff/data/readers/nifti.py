"""NIfTI by nibabel: the slices of a volume along an axis of the body, the subject their group.

Slices lie as on a radiologist's screen, whatever the order in the file: axial ones with the front of the body above and
its right on the left, coronal ones with the head above and the right on the left, sagittal ones with the head above and
the front on the left.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from cfdiff.data.arrays import AS_0_AND_1, GROUNDLESS, SHADED, groundless, shaded
from cfdiff.data.limits import MAX_PIXELS, check_memory
from cfdiff.data.readers.held import DIGITS, FileKind, Held, need, of_proportion, said_of, stamp
from cfdiff.data.readers.reading import Reading, Slices, Window
from cfdiff.errors import UserError

WHAT = "a NIfTI file"
PLANES = {"axial": (2, 1, 0), "coronal": (1, 2, 0), "sagittal": (0, 2, 1)}
"""Axis -> where the axes of a volume that runs to the right, front and head go: slices, rows, columns."""
NEAR = 0.25
"""Of a voxel: how far a mask may lie from its image, as affines are rounded where they are saved."""


def recognises(path: Path, reading: Reading) -> bool:
    """By its name: .nii or .nii.gz."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def hold(path: Path, shown: str, reading: Reading) -> Held:
    """The slices of a volume.

    Columns: `subject` (`sub-XX` in the path below the source, as BIDS has it, else the name of the file), and `slice`,
    their number in the whole volume, from 0 at the feet, the back or the left. They are uint8 where the file stores
    that, else uint16, with all between the least and the greatest value of the volume where no window is said.
    """
    with _sentences(path, shown):
        image = opened(path, shown)
        slices, height, width = _seen(_shape(image, shown, reading), image, reading, shown)
        if height * width > MAX_PIXELS:
            raise UserError(f"{shown} has slices of {height}x{width} pixels, which is beyond {MAX_PIXELS:,}: cut them.")
        check_memory(4 * slices * height * width, f"The volume {shown}")
        sides, header = _sides(image, reading), image.header
    chosen = (reading.slices or Slices(None, None, 1, False)).of(slices)
    digits = max(DIGITS, len(str(slices - 1)))
    notes = [f"{{files}} read in {reading.axis or 'axial'} slices."]
    if image.get_data_dtype().kind == "f":
        notes.append("{files} of floats: what is no number (NaN), where there is such, is shown black.")
    if not (int(header["qform_code"]) or int(header["sform_code"])):
        notes.append(
            "{files} without a word on left and right (neither qform nor sform): taken as stored from right to left, "
            "from back to front and from the feet up."
        )
    if reading.window is None and not _is_8_bit(image):
        named = "the window that NIfTI files name themselves (cal_min, cal_max)"
        how = f"through {named}" if _named(image) is not None else "between the least and the greatest value of each"
        notes.append(f"{{files}} shown {how}: --reading window says one for all.")
    return Held(
        shape=(height, width, 1),
        dtype=np.dtype(np.uint8 if _is_8_bit(image) and reading.window in (None, "full") else np.uint16),
        parts=[f"#{i:0{digits}d}" for i in chosen],
        read=partial(_read, path, shown, reading, list(chosen)),
        columns={"subject": [_subject(shown)] * len(chosen), "slice": [str(i) for i in chosen]},
        group="subject",
        notes=(*notes, *of_proportion(*sides)),
    )


def masks(path: Path, shown: str, reading: Reading) -> np.ndarray:
    """The slices of a mask (N, H, W) bool: where a value is a number and not 0."""
    volume = _volume(path, shown, reading, stamp(path))
    values = np.nan_to_num(volume)
    if groundless(values.reshape(1, -1, 1)).any():
        raise UserError(f"{shown} is {GROUNDLESS}: {AS_0_AND_1}.")
    if shaded(values.reshape(1, -1, volume.shape[2])).any():
        raise UserError(f"{shown} is one {SHADED}: {AS_0_AND_1}.")
    slices = (reading.slices or Slices(None, None, 1, False)).of(len(volume))
    return np.asarray(values[list(slices)] != 0)


def _read(path: Path, shown: str, reading: Reading, slices: list[int], places: Sequence[int]) -> np.ndarray:
    """Slices (B, H, W, 1)."""
    volume = _volume(path, shown, reading, stamp(path))
    values = volume[[slices[place] for place in places]][..., None]
    if _is_8_bit(opened(path, shown)) and reading.window in (None, "full"):
        return values.astype(np.uint8)
    low, high = _ends(path, shown, reading, stamp(path))
    share = (values.astype(np.float64) - low) / (high - low) if high > low else np.zeros(values.shape)
    return np.rint(np.clip(np.nan_to_num(share), 0, 1) * 65535).astype(np.uint16)


@lru_cache(maxsize=256)
def _ends(path: Path, shown: str, reading: Reading, when: int) -> tuple[float, float]:
    """The values that are black and white."""
    window = reading.window
    image = opened(path, shown)
    if window is None and (named := _named(image)) is not None:
        return named
    if isinstance(window, Window) and not window.percent:
        half = window.high / 2
        return (window.low - half, window.low + half) if window.centred else (window.low, window.high)
    volume = _volume(path, shown, reading, stamp(path))
    if isinstance(window, Window):
        low, high = np.nanpercentile(volume, [window.low, window.high])
        return float(low), float(high)
    return float(np.nanmin(volume)), float(np.nanmax(volume))


def _named(image: Any) -> tuple[float, float] | None:
    """The values that a file itself names as black and white."""
    low, high = (float(image.header[key]) for key in ("cal_min", "cal_max"))
    return (low, high) if np.isfinite([low, high]).all() and high > low else None


@lru_cache(maxsize=2)
def _volume(path: Path, shown: str, reading: Reading, when: int) -> np.ndarray:
    """The volume as it is to be seen, (slices, rows, columns) float32; NaN stays.

    UserError for infinite values, beside which all others would be one gray, and where there is no number.
    """
    with _sentences(path, shown):
        image = opened(path, shown)
        shape = _shape(image, shown, reading)
        data = image.dataobj
        if len(image.shape) > 3:
            data = data[..., reading.volume or 0] if len(image.shape) == 4 else data[..., 0, reading.volume or 0]
        values = np.asarray(data, np.float32).reshape(shape)
        if np.isinf(values).any():
            raise UserError(f"{shown} has values that are infinite or beyond float32: replace them, or scale it.")
        if np.isnan(values).all():
            raise UserError(f"{shown} has no number in it (all is NaN): remove it, or save it again.")
        return np.ascontiguousarray(_as_seen(values, image, reading, shown))


def _as_seen(values: np.ndarray, image: Any, reading: Reading, shown: str) -> np.ndarray:
    """A volume in the file's order of axes as (slices, rows, columns)."""
    nibabel = need("nibabel", "nifti", shown, WHAT)
    body = nibabel.orientations.io_orientation(image.affine)
    if np.isnan(body).any():
        raise UserError(f"{shown} does not say how it lies in the body (its affine is singular): mend its header.")
    body = nibabel.orientations.apply_orientation(values, body)  # to the right, front and head
    planes = np.transpose(body, PLANES[reading.axis or "axial"])
    return planes[:, ::-1, ::-1]


def same_place(one: Path, other: Path) -> bool:
    """Whether two volumes of one shape lie in one place of the body, in whatever order their files have them."""
    ends, others = _ends_of_axes(one), _ends_of_axes(other)
    side = np.linalg.norm(opened(one, one.name).affine[:3, :3], axis=0).min()
    return bool(np.abs(ends - others).max() <= NEAR * side)


def _ends_of_axes(path: Path) -> np.ndarray:
    """(4, 3) the places of the first voxel, and of the last to the right, to the front and to the head."""
    nibabel = need("nibabel", "nifti", path.name, WHAT)
    image = opened(path, path.name)
    shape = np.array((*image.shape, 1)[:3])
    axes = nibabel.orientations.io_orientation(image.affine)
    affine = image.affine @ nibabel.orientations.inv_ornt_aff(axes, shape)
    last = np.diag(shape[axes[:, 0].argsort()] - 1)
    return np.vstack([np.zeros(3), last]) @ affine[:3, :3].T + affine[:3, 3]


def places_in_file(image: Any, shown: str, reading: Reading) -> np.ndarray:
    """(slices, rows, columns) of the volume as it is seen: the place of each value in the file's, laid out flat."""
    shape = _shape(image, shown, reading)
    return _as_seen(np.arange(int(np.prod(shape))).reshape(shape), image, reading, shown)


def _seen(shape: tuple[int, ...], image: Any, reading: Reading, shown: str) -> tuple[int, int, int]:
    """The shape (slices, rows, columns) of a volume of that shape, without its values."""
    values = np.broadcast_to(np.float32(0), shape)
    found = _as_seen(values, image, reading, shown).shape
    return found[0], found[1], found[2]


def _sides(image: Any, reading: Reading) -> tuple[float, float]:
    """Height and width of a pixel in the units of the file."""
    sizes = np.sqrt((np.asarray(image.affine)[:3, :3] ** 2).sum(axis=0))
    at = np.abs(np.asarray(image.affine)[:3, :3]).argmax(axis=0)  # the axis of the body along each axis of the file
    of_body = dict(zip(at.tolist(), sizes.tolist(), strict=True))
    _, rows, columns = PLANES[reading.axis or "axial"]
    return of_body.get(rows, 1.0), of_body.get(columns, 1.0)


def _shape(image: Any, shown: str, reading: Reading) -> tuple[int, int, int]:
    """The shape of one volume in the file's order; UserError where it holds several and none is chosen, or colours."""
    shape = tuple(int(n) for n in image.shape)
    if image.get_data_dtype().kind not in "biuf":
        raise UserError(f"{shown} holds {image.get_data_dtype()} and no gray: save it as numbers.")
    if len(shape) == 2:
        shape = (*shape, 1)
    volumes = int(np.prod(shape[3:]))
    if len(shape) < 3 or len(shape) > 5 or (len(shape) == 5 and shape[3] != 1) or 0 in shape:
        raise UserError(f"{shown} is of shape {shape}: a volume (X, Y, Z) or several (X, Y, Z, N) are needed.")
    if volumes > 1 and reading.volume is None:
        raise UserError(f"{shown} holds {volumes} volumes: choose one with --reading volume=0.")
    if (reading.volume or 0) >= volumes:
        raise UserError(f"{shown} has no volume {reading.volume}: it has {volumes}, counted from 0.")
    return shape[0], shape[1], shape[2]


def _is_8_bit(image: Any) -> bool:
    """Whether values are bytes as they stand; their scale is asked of the pixels, as nibabel empties the header's."""
    return bool(image.get_data_dtype() == np.uint8 and image.dataobj.slope == 1 and image.dataobj.inter == 0)


def _subject(shown: str) -> str:
    """By the file's name, then by the folders that the source has it in: those above are of no subject."""
    parts = shown.split("/")
    for part in reversed(parts):
        if found := re.match(r"(sub-[A-Za-z0-9]+)", part):
            return found[1]
    return re.sub(r"\.nii(\.gz)?$", "", parts[-1], flags=re.IGNORECASE)


def opened(path: Path, shown: str) -> Any:
    nibabel = need("nibabel", "nifti", shown, WHAT)
    with _sentences(path, shown):
        return nibabel.load(path)


_sentences = partial(said_of, kind="NIfTI", hint="it may be truncated or corrupt, copy it again or remove it")
"""Whatever nibabel says of a file is a UserError."""


KIND = FileKind(recognises, hold, ("window", "axis", "slices", "volume"), masks, same_place)
