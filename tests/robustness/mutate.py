"""Sound files made unsound: the same (kind, number) gives the same bytes, on every machine.

Half of the mutations know nothing of the format (bits, cuts, holes); the others know it, as damage that keeps a file
readable gets further in: a data set that is missing, short, empty or leads nowhere, a number that nobody can mean.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Rng = np.random.Generator
ODD: list[Any] = [
    None, True, -1, 0, 1, 2**31, 2**63, 10**12, 10**30, -(10**30), 1e308, 1e-300, float("nan"), float("inf"),
    "", "x", "\x00", "x" * 5000, "\N{SHRUG}", "../..", "[/a]", "$x$", "a\nb", [], {}, [1], [[[]]], {"": None},
    [0] * 3, ["a", "b", "c"], {"name": "pixel", "more": 3},
]  # fmt: skip
DEEP = "[" * 200_000


def bytewise(data: bytes, rng: Rng) -> bytes:
    """A bit, a byte, a hole, a cut, a piece twice, noise or a number: often near the beginning, where headers are."""
    found = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        size = max(len(found), 1)
        place = int(rng.integers(min(size, 512))) if rng.random() < 0.5 else int(rng.integers(size))
        length = int(rng.integers(1, 1 + min(64, size)))
        way = int(rng.integers(7))
        if way == 0 and found:
            found[place % len(found)] ^= 1 << int(rng.integers(8))
        elif way == 1 and found:
            found[place % len(found)] = int(rng.choice([0, 1, 127, 128, 254, 255]))
        elif way == 2:
            found[place : place + length] = bytes(length)
        elif way == 3:
            del found[int(rng.integers(size)) :]
        elif way == 4:
            found[place:place] = found[place : place + length]
        elif way == 5:
            found[place : place + length] = rng.bytes(length)
        else:
            found[place : place + 4] = struct.pack("<I", int(rng.choice([0, 1, 2**16, 2**31 - 1, 2**32 - 1])))
    return bytes(found)


def twist(value: Any, rng: Rng) -> Any:
    """JSON with one thing in it gone, renamed, or turned into something odd."""
    odd = ODD[int(rng.integers(len(ODD)))]
    if isinstance(value, dict) and value:
        key = list(value)[int(rng.integers(len(value)))]
        way = rng.random()
        if way < 0.12:
            return {k: v for k, v in value.items() if k != key}
        if way < 0.18:
            return {f"{k}x" if k == key else k: v for k, v in value.items()}
        return {k: twist(v, rng) if k == key else v for k, v in value.items()}
    if isinstance(value, list) and value and rng.random() < 0.7:
        place = int(rng.integers(len(value)))
        return [twist(v, rng) if i == place else v for i, v in enumerate(value)]
    return odd


def hdf5(path: Path, rng: Rng) -> None:
    """In place: a data set or an attribute made odd, or a chunk of one damaged."""
    if rng.random() < 0.2:
        path.write_bytes(bytewise(path.read_bytes(), rng))
        return
    chunk = None
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        attributes = [name for name in file.attrs]
        if attributes and rng.random() < 0.35:
            _attribute(file, attributes[int(rng.integers(len(attributes)))], rng)
        else:
            chunk = _dataset(file, names[int(rng.integers(len(names)))], rng)
    if chunk is not None:
        data = bytearray(path.read_bytes())
        place, size = chunk
        data[place : place + size] = rng.bytes(size) if rng.random() < 0.5 else bytes(size)
        path.write_bytes(data)


def _attribute(file: h5py.File, name: str, rng: Rng) -> None:
    text = file.attrs[name]
    way = int(rng.integers(8))
    if way == 0:
        del file.attrs[name]
    elif way == 1:
        file.attrs[name] = h5py.Empty("f4")
    elif way == 2:
        file.attrs[name] = DEEP[:60_000]
    elif way == 3:
        file.attrs[name] = np.void(b"\xff\x00\xfe")
    elif way == 4:
        file.attrs[name] = np.arange(3)
    elif isinstance(text, str) and text[:1] in "{[":
        file.attrs[name] = json.dumps(twist(json.loads(text), rng)).replace("\\u0000", "")
    else:
        file.attrs[name] = [0, -1, 1.5, "", "x", b"\xff\xfe", 2**62][int(rng.integers(7))]


def _dataset(file: h5py.File, name: str, rng: Rng) -> tuple[int, int] | None:
    """A change of one data set; where and how large a chunk is that is to be damaged, instead."""
    item = file[name]
    way = int(rng.integers(13))
    if way == 12 or way == 11:
        if item.chunks and item.id.get_num_chunks():
            info = item.id.get_chunk_info(int(rng.integers(item.id.get_num_chunks())))
            return info.byte_offset, info.size
        return None
    values = item[()]
    dtype = item.dtype
    del file[name]
    if way == 0:
        return None
    if way == 1:
        file[name] = h5py.SoftLink("/nowhere")
    elif way == 2:
        file[name] = h5py.ExternalLink("other.h5", name)
    elif way == 3:
        file.create_group(name)
    elif way == 4:
        file[name] = h5py.Empty(dtype)
    elif way == 5:
        file.create_dataset(name, data=values[: int(rng.integers(max(1, len(values))))], dtype=dtype)
    elif way == 6:
        file.create_dataset(name, data=values[None], dtype=dtype)
    elif way == 7:
        file.create_dataset(
            name, data=np.array([f"{i}" for i in range(len(values))], object), dtype=h5py.string_dtype()
        )
    elif way == 8 and values.dtype.kind in "iufb":
        odd = np.array(rng.choice([0, -1, 1, 2, 127, 1e9, np.nan, np.inf], values.shape))
        with np.errstate(all="ignore"):
            mixed = np.where(rng.random(values.shape) < 0.3, odd, values).astype(values.dtype)
        file.create_dataset(name, data=mixed)
    elif way == 9:
        file.create_dataset(name, (10**9, *values.shape[1:]), np.uint8, chunks=(1, *values.shape[1:]))
    else:
        new = rng.choice(["f8", "i2", "u8", "S3", "V4"])
        file.create_dataset(name, data=np.zeros(values.shape, str(new)))
    return None


def npz(path: Path, rng: Rng) -> None:
    """In place: an array gone or odd, the archive damaged, or members that are no arrays."""
    if rng.random() < 0.45:
        path.write_bytes(bytewise(path.read_bytes(), rng))
        return
    with np.load(path) as file:
        arrays = dict(file)
    key = list(arrays)[int(rng.integers(len(arrays)))]
    values = arrays[key]
    way = int(rng.integers(10))
    made: Callable[[], Any] = [
        lambda: None,
        lambda: values[:-1],
        lambda: values[:0],
        lambda: values[None],
        lambda: np.array(values.tolist(), object),
        lambda: np.zeros(values.shape, rng.choice(["f8", "i1", "c8", "S3", "M8[D]", "V5", "b"])),
        lambda: np.array(5),
        lambda: np.zeros(values.shape, [("a", "u1"), ("b", "f4")]),
        lambda: np.full(values.shape, rng.choice([np.nan, np.inf, -1e9, 2e5])),
        lambda: np.array(["\N{SHRUG}" * 5000] * len(values)),
    ][way]
    changed = made()
    arrays = {k: v for k, v in arrays.items() if k != key} | ({} if changed is None else {key: changed})
    np.savez(path, **arrays)
    if rng.random() < 0.2:
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(str(rng.choice(["images.npy", "../x.npy", "labels.npy", "notes.txt"])), rng.bytes(40))


def text(path: Path, rng: Rng) -> None:
    """In place: a table or a config, by bytes or by its words."""
    data = path.read_bytes()
    if rng.random() < 0.3:
        path.write_bytes(bytewise(data, rng))
        return
    words = [b"\x00", b"\xff", b'"', b",", b"\r", b"\n\n", b"'", b"[" * 100_000, b"9" * 5000, b"10" + b"0" * 30, b"-1"]
    words += [b"nan", b"inf", b"1e999", b"2147483648", b"1000000000000", b"\xef\xbb\xbf", b"../" * 50, b"", b"[[a]]"]
    words += ["\N{SHRUG}".encode(), b"true", b"[]", b"{}", b"1979-05-27", b"x" * 70_000, b"a.png\x00b", b'"""']
    for _ in range(int(rng.integers(1, 3))):
        word = words[int(rng.integers(len(words)))]
        pieces = data.split(b"\n" if rng.random() < 0.3 else b"=" if b"=" in data else b",")
        place = int(rng.integers(len(pieces)))
        joint = b"=" if b"=" in data else b","
        if rng.random() < 0.5:
            end = pieces[place].find(b"\n")
            pieces[place] = word + (pieces[place][end:] if end >= 0 else b"")
        else:
            pieces.insert(place, word)
        data = joint.join(pieces)
    path.write_bytes(data)


def safetensors(path: Path, rng: Rng) -> None:
    """In place: the header of tensors, the card in it, or the bytes."""
    data = path.read_bytes()
    if rng.random() < 0.3:
        path.write_bytes(bytewise(data, rng))
        return
    (size,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    if rng.random() < 0.8:
        card = json.loads(header["__metadata__"]["card"])
        words = DEEP if rng.random() < 0.03 else json.dumps(twist(card, rng))
        header["__metadata__"]["card"] = words
    else:
        header = twist(header, rng)
    if rng.random() < 0.1:
        body = body[: int(rng.integers(len(body)))]
    if rng.random() < 0.05:
        body = b"\xff" * len(body)  # every number is NaN
    packed = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(packed)) + packed + body)


def image(path: Path, rng: Rng) -> None:
    """In place, by bytes: its format has headers enough."""
    path.write_bytes(bytewise(path.read_bytes(), rng))


def dicom(path: Path, rng: Rng) -> None:
    """In place: by bytes, or an element gone or with a value that nobody can mean."""
    import pydicom

    if rng.random() < 0.4:
        path.write_bytes(bytewise(path.read_bytes(), rng))
        return
    ds = pydicom.dcmread(path)
    element = list(ds)[int(rng.integers(len(ds)))]
    way = int(rng.integers(6))
    if way == 0:
        del ds[element.tag]
    elif way == 1:
        element.value = None
    elif way == 2 and element.VM <= 1 and not isinstance(element.value, bytes):
        element.value = [element.value] * 3
    elif isinstance(element.value, bytes):
        element.value = element.value[: int(rng.integers(len(element.value)))]
    elif isinstance(element.value, int):
        element.value = int(rng.choice([0, 1, 2, 3, 7, 12, 16, 32, 255, 65_535]))
    else:
        element.value = str(rng.choice(["", "0", "-1", "1e30", "NaN", "PALETTE COLOR", "YBR_FULL", "x" * 60]))
    ds.save_as(path, enforce_file_format=False)


def nifti(path: Path, rng: Rng) -> None:
    """In place: the volume or its header by bytes, below the compression or above it."""
    data = path.read_bytes()
    if path.suffix != ".gz" or rng.random() < 0.2:
        path.write_bytes(bytewise(data, rng))
        return
    path.write_bytes(gzip.compress(bytewise(gzip.decompress(data), rng)))


def table(rows: list[list[str]]) -> str:
    """A CSV."""
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue()
