"""What stands where the pixels of a DICOM file begin, held against the frames that its header claims."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, NamedTuple

from cfdiff.data.limits import BYTES_A_NAME, check_memory
from cfdiff.errors import UserError

PIXELS, FLOATS = 0x7FE00010, (0x7FE00008, 0x7FE00009)
UNDEFINED = 0xFFFFFFFF
"""The length of pixels that are packed frame by frame."""
DEFLATED = 1032
"""Bytes that one deflated byte can be at most."""
COLUMNS = 5
"""Texts that are kept of a frame: its id, patient, study, series and number."""


class Stored(NamedTuple):
    """The pixels of a file: the tag that holds them (None: there is none) and how many bytes of them there are.

    `exact` where that is what they take unpacked; otherwise they are packed.
    """

    tag: int | None
    size: int
    exact: bool


def stored_at(path: Path, header: Any, offset: int) -> Stored:
    """What stands in a file at `offset`, up to which its header was read."""
    syntax, size = header.file_meta.TransferSyntaxUID, path.stat().st_size
    if syntax.is_deflated:  # the header was read from a copy
        return Stored(PIXELS, size, False)
    with path.open("rb") as file:
        file.seek(offset)
        start, more = file.read(8), file.read(4)
    if len(start) < 8:
        return Stored(None, 0, True)
    order = "<" if syntax.is_little_endian else ">"
    group, element = struct.unpack(f"{order}HH", start[:4])
    length = start[4:] if syntax.is_implicit_VR else more
    rest = max(0, size - offset - (8 if syntax.is_implicit_VR else 12))
    claimed = struct.unpack(f"{order}L", length)[0] if len(length) == 4 else 0
    if claimed == UNDEFINED or syntax.is_compressed:
        return Stored(group << 16 | element, rest, False)
    return Stored(group << 16 | element, min(claimed, rest), True)


def check_stored(stored: Stored, shown: str) -> None:
    """Raise UserError where there are no pixels, or such as are not read."""
    if stored.tag is None:
        raise UserError(f"{shown} has the header of a picture and no pixels: it may be truncated, copy it again.")
    if stored.tag in FLOATS:
        raise UserError(f"{shown} has its pixels as floats, which are not read: export it as whole numbers.")


def frames_of(header: Any, stored: Stored, shown: str) -> tuple[int, bool]:
    """How many frames there are, and whether more are stored than the header says.

    Raises:
        UserError: the file cannot hold as many as its header claims.
    """
    height, width, allocated = (int(header.get(key) or 0) for key in ("Rows", "Columns", "BitsAllocated"))
    frames = int(header.get("NumberOfFrames") or 1)
    if frames < 1 or height < 1 or width < 1:
        raise UserError(f"{shown} says that it has {_counted(frames)} of {height}x{width}: mend its header.")
    size = height * width * int(header.get("SamplesPerPixel") or 1) * allocated // 8
    if header.PhotometricInterpretation == "YBR_FULL_422" and stored.exact:
        size = size // 3 * 2  # two neighbours share their colours
    most = stored.size // size if stored.exact else _most_packed(header, stored, size)
    if frames > most:
        there = f"there is room for {most:,}" if stored.exact and most else "it is too short for that"
        raise UserError(
            f"{shown} says that it has {_counted(frames)} of {height}x{width}, and {there}: it is truncated or its "
            "NumberOfFrames is wrong, copy it again or mend it."
        )
    check_memory(frames * COLUMNS * BYTES_A_NAME, f"What {shown} says of its {frames:,} frames")
    return frames, stored.exact and most > frames


def _most_packed(header: Any, stored: Stored, size: int) -> int:
    """The frames that packed bytes may be; each begins with a tag and a length, 8 bytes."""
    if header.file_meta.TransferSyntaxUID.is_deflated:
        return stored.size * DEFLATED // size
    return stored.size // 8


def _counted(frames: int) -> str:
    return f"{frames:,} frame{'' if frames == 1 else 's'}"
