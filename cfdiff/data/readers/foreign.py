"""What a file is in truth that has the name of an image and is none that can be read."""

from __future__ import annotations

from pathlib import Path

BEGINNINGS = (
    (b"version https://git-lfs", "a pointer of Git LFS and not the image: fetch it with git lfs pull"),
    (b"<!doctype", "a web page: download the image itself"),
    (b"<html", "a web page: download the image itself"),
    (b"<?xml", "a text (XML or SVG): save it as PNG"),
    (b"%pdf", "a PDF: save its picture as PNG"),
    (b"\x1f\x8b", "packed by gzip: unpack it"),
    (b"pk\x03\x04", "a zip archive: unpack it"),
    (b"\x93numpy", "a NumPy array: put images into a .npz"),
    (b"\x89hdf", "an HDF5 file: give it by itself, as .h5"),
    (b"\x00\x00\x00\x0cjp ", "a JPEG 2000, which this Pillow cannot read: save it as PNG"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000, which this Pillow cannot read: save it as PNG"),
    (b"\xff\x0a", "a JPEG XL: save it as PNG"),
)


def in_truth(path: Path) -> str | None:
    """What a file is by its first bytes, and what to do; None where they say nothing."""
    try:
        with path.open("rb") as file:
            head = file.read(132)
    except OSError:
        return None
    if head[128:] == b"DICM":
        return "a DICOM file: name it .dcm, and it is read as one"
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"mif1", b"avif", b"hevc"):
        return f"a {'AVIF' if head[8:12] == b'avif' else 'HEIC'} photograph: save it as PNG"
    low = head.lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    return next((words for start, words in BEGINNINGS if low.startswith(start) or head.startswith(start)), None)
