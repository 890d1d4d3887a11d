"""What a file is in truth that has the name of an image and is none that can be read."""

from __future__ import annotations

from pathlib import Path

HEAD = 400
"""Bytes by which a file is known; those of NIfTI stand at 344."""
RAW = "a raw file of a camera: develop it, and save it as PNG or TIFF"
TEXT = "a text"
PACKED = "an archive: unpack it"
BEGINNINGS = (
    (b"version https://git-lfs", "a pointer of Git LFS and not the image: fetch it with git lfs pull"),
    (b"<!doctype", "a web page: download the image itself"),
    (b"<html", "a web page: download the image itself"),
    (b"<?xml", "a text (XML or SVG): save it as PNG"),
    (b"<svg", "a drawing (SVG): save it as PNG"),
    (b"%pdf", "a PDF: save its picture as PNG"),
    (b"%!ps", "a PostScript: save its picture as PNG"),
    (b"\x1f\x8b", "packed by gzip: unpack it"),
    (b"pk\x03\x04", "a zip archive: unpack it"),
    (b"bzh", PACKED),
    (b"\xfd7zxz", PACKED),
    (b"7z\xbc\xaf", PACKED),
    (b"rar!", PACKED),
    (b"\x28\xb5\x2f\xfd", PACKED),
    (b"\x93numpy", "a NumPy array: put images into a .npz"),
    (b"\x89hdf", "an HDF5 file: give it by itself, as .h5"),
    (b"matlab 5.0", "a MATLAB file: put its images into a .npz"),
    (b"simple  =", "a FITS file: put its image into a .npz"),
    (b"objecttype =", "a MetaImage: save it as NIfTI or PNG"),
    (b"ndims =", "a MetaImage: save it as NIfTI or PNG"),
    (b"nrrd000", "a NRRD: save it as NIfTI or PNG"),
    (b"v/1\x01", "an OpenEXR: save it as float TIFF"),
    (b"dds ", "a DDS texture: save it as PNG"),
    (b"qoif", "a QOI: save it as PNG"),
    (b"p7\n", "a PAM: save it as PNG or PGM"),
    (b"#?radiance", "a Radiance HDR: save it as float TIFF"),
    (b"/* xpm", "an XPM: save it as PNG"),
    (b"\x01\xda", "an SGI picture: save it as PNG"),
    (b"\x00\x00\x01\x00", "an icon: save it as PNG"),
    (b"at&tform", "a DjVu: save it as PNG"),
    (b"sdpx", "a DPX: save it as TIFF"),
    (b"xpds", "a DPX: save it as TIFF"),
    (b"\xd7\xcd\xc6\x9a", "a drawing (WMF): save it as PNG"),
    (b"/annex/objects/", "a pointer of git-annex and not the file: fetch it with git annex get"),
    (b"8bps", "a Photoshop file: save it as PNG"),
    (b"zisrawfile", "a Zeiss CZI: save it as TIFF"),
    (b"\x00\x00\x00\x0cjp ", "a JPEG 2000, which this Pillow cannot read: save it as PNG"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000, which this Pillow cannot read: save it as PNG"),
    (b"\xff\x0a", "a JPEG XL: save it as PNG"),
    (b"\x00\x00\x00\x0cjxl ", "a JPEG XL: save it as PNG"),
    (b"ii\xbc\x01", "a JPEG XR: save it as PNG"),
    (b"iiro", RAW),
    (b"iirs", RAW),
    (b"fujifilmccd-raw", RAW),
    (b"\x89png\n", "a PNG whose line ends were changed on its way: copy it again, as binary"),
    (b"\x89png\r\r", "a PNG whose line ends were changed on its way: copy it again, as binary"),
    (b"\xc2\x89png", "a PNG that was saved as text on its way: copy it again, as binary"),
    (b"\xef\xbf\xbd", "a file that was saved as text on its way: copy it again, as binary"),
)
"""How a file begins, in lower case -> what it is, and what to do."""
FTYP = {b"avif": "an AVIF", b"avis": "an AVIF"} | dict.fromkeys(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"), "a HEIC photograph"
)
"""Brands of the ISO base media format that are pictures; all others are films."""
JPEGS = {
    0xC3: "a lossless JPEG",
    **dict.fromkeys((0xC5, 0xC6, 0xC7), "a hierarchical JPEG"),
    **dict.fromkeys((0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF), "a JPEG with arithmetic coding"),
    0xF7: "a JPEG-LS",
}
"""Markers of frames that Pillow's library does not decode, or not everywhere (ITU-T T.81, table B.1; T.87)."""


def in_truth(path: Path) -> str | None:
    """What a file is by its first bytes, and what to do; None where they say nothing."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
            if head[:3] == b"\xff\xd8\xff":
                return _kind_of_jpeg(head + file.read(1 << 20))
    except OSError:
        return None
    if head[128:132] == b"DICM":
        return "a DICOM file: name it .dcm, and it is read as one"
    if head[344:347] in (b"n+1", b"ni1") or head[4:7] in (b"n+2", b"ni2"):
        return "a NIfTI file: name it .nii, and it is read as one"
    if head[257:262] == b"ustar":
        return PACKED
    if head[4:8] == b"ftyp":
        return f"{FTYP.get(head[8:12], 'a film')}: save it as PNG"
    low = head.lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    found = next(
        (words for start, words in BEGINNINGS if low.startswith(start) or head.lower().startswith(start)), None
    )
    if found is not None:
        return found
    if not head.strip(b"\x00"):
        return "a file of zeros, as after a copy that did not end: copy it again"
    if head.isascii() and all(byte >= 32 or byte in b"\t\r\n\f" for byte in head):
        return f"{TEXT}: look at it, and copy the image itself"
    return None


def _kind_of_jpeg(data: bytes) -> str | None:
    """The kind of a JPEG that Pillow does not decode, by the header of its frame; None for an ordinary one."""
    place = 2
    while place + 9 < len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # filled up
            place += 1
            continue
        if marker in JPEGS:
            return f"{JPEGS[marker]}, which Pillow cannot read: save it as PNG or TIFF"
        if 0xC0 <= marker <= 0xC2:
            bits = data[place + 4]
            return None if bits == 8 else f"a JPEG of {bits} bits, which Pillow cannot read: save it as TIFF"
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return None
