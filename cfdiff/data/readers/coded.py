"""What Pillow does not say of how colours are coded in a file: more bits than it reads, and code points of video."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageFile

HEAD = 1 << 16
"""Bytes in which the headers of AVIF and JPEG 2000 stand."""
PRIMARIES = {1: "BT.709", 5: "BT.601", 6: "BT.601", 9: "BT.2020", 11: "DCI-P3", 12: "Display P3"}
TRANSFERS = {1: "BT.709", 6: "BT.601", 8: "linear", 13: "sRGB", 14: "BT.2020", 15: "BT.2020", 16: "PQ", 18: "HLG"}
"""Code points of ITU-T H.273 -> what they are called."""
SRGB = (1, 13)
UNSAID = 2


def bits(image: Image.Image, path: Path) -> int:
    """Bits a channel of an image that is open and not loaded; 8 where its format has no more."""
    if image.format == "PPM":  # PNM of any suffix
        assert isinstance(image, ImageFile.ImageFile)
        told = image.tile[0][3]  # the mode, and the value that is white where it is not 255
        white = told[-1] if isinstance(told, tuple) else 255
        return max(8, white.bit_length()) if isinstance(white, int) else 8
    if image.format not in ("PNG", "JPEG2000", "AVIF"):
        return 8
    with path.open("rb") as file:
        head = file.read(25 if image.format == "PNG" else HEAD)
    if image.format == "PNG":
        return max(8, head[24])
    if image.format == "AVIF":
        place = head.find(b"av1C") + 4  # the configuration of AV1 (AV1-ISOBMFF, 2.3.3)
        flags = head[place + 2 : place + 3]  # nothing in a file that ends there
        return 8 if place < 4 or not flags or not flags[0] & 0x40 else 12 if flags[0] & 0x20 else 10
    place = head.find(b"\xff\x4f\xff\x51")  # the start of the code, and its sizes (ITU-T T.800, A.5.1)
    channels = int.from_bytes(head[place + 40 : place + 42], "big")
    return 8 if place < 0 else max([8, *(1 + (depth & 0x7F) for depth in head[place + 42 :][: 3 * channels : 3])])


def video_colours(image: Image.Image, path: Path) -> str | None:
    """The colours that a PNG (cICP) or an AVIF (nclx) says in code points of video; None for sRGB, or without any."""
    points = _png_points(path) if image.format == "PNG" else _avif_points(path) if image.format == "AVIF" else None
    if points is None or all(point in (usual, UNSAID) for point, usual in zip(points, SRGB, strict=True)):
        return None
    primaries, transfer = points
    return f"{PRIMARIES.get(primaries, f'primaries {primaries}')}, {TRANSFERS.get(transfer, f'transfer {transfer}')}"


def _png_points(path: Path) -> tuple[int, int] | None:
    with path.open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8 and head[4:] not in (b"IDAT", b"IEND"):
            if head[4:] == b"cICP":
                return _two(file.read(2))
            file.seek(int.from_bytes(head[:4], "big") + 4, 1)
    return None


def _avif_points(path: Path) -> tuple[int, int] | None:
    with path.open("rb") as file:
        head = file.read(HEAD)
    place = head.find(b"colrnclx") + 8
    return None if place < 8 else _two(head[place + 1 : place + 4 : 2])


def _two(points: bytes) -> tuple[int, int] | None:
    """Primaries and transfer; None where the file ends before them."""
    return (points[0], points[1]) if len(points) == 2 else None
