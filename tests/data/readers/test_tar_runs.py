"""A .tar looked at in runs says what it says member by member."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cfdiff.data.readers import shard_rows, tar_runs
from cfdiff.data.readers.shard_rows import Rows, _Image
from cfdiff.data.readers.tar_index import Member, pieces
from cfdiff.errors import UserError

PNG = b"\x89PNG"  # what opens a shard for its names does not look at its pixels
Files = list[tuple[str, bytes]]


def pack(path: Path, files: Files, how: int = tarfile.USTAR_FORMAT, mtime: float = 1e9, begin: str = "") -> Path:
    """A .tar of files; names that end in a slash are folders."""
    with tarfile.open(path, "w", format=how) as archive:
        for name, data in files:
            info = tarfile.TarInfo(begin + name)
            info.mtime = mtime  # type: ignore[assignment]
            if name.endswith("/"):
                info.type = tarfile.DIRTYPE
            else:
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def cells(n: int, more: Callable[[int], Files] = lambda i: []) -> Files:
    """An image and a class each, the class of some empty; and more."""
    files: Files = []
    for i in range(n):
        files += [(f"cells/{i:03d}.png", PNG * (1 + i % 300)), (f"cells/{i:03d}.cls", b" sick\n" if i % 3 else b"")]
        files += more(i)
    return files


def classed(said: bytes) -> Files:
    """Sixty images, and one among them with such a class."""
    return cells(60, lambda i: [("n/0.png", PNG), ("n/0.cls", said)] if i == 30 else [])


def told(path: Path) -> Any:
    """All that the members of a shard say, or the sentence that it ends with."""
    rows = Rows()
    try:
        rows.scan(7, path)
    except UserError as error:
        return str(error)
    keys = rows.keys()
    words = {key: some.column(len(keys), key, "x").tolist() for key, some in rows.words.items()}
    return keys.tolist(), rows.at.tolist(), rows.masks().tolist(), words, dict(rows.others)


def both(path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """In runs, and member by member."""
    with monkeypatch.context() as patch:
        in_runs = told(path)
        patch.setattr(shard_rows, "pieces", partial(pieces, runs=False))
        return in_runs, told(path)


DEEP = "/".join(["a-folder-with-a-long-name"] * 6)
INNER = io.BytesIO()
with tarfile.open(fileobj=INNER, mode="w") as inner:
    for number in range(40):
        inner.addfile(tarfile.TarInfo(f"inner/{number}.png"))
SHARDS: dict[str, tuple[Files, dict[str, Any]]] = {
    "plain": (cells(80), {}),
    "of WebDataset, with pax times": (cells(80), {"how": tarfile.PAX_FORMAT, "mtime": 1e9 + 0.25}),
    "of GNU": (cells(80), {"how": tarfile.GNU_FORMAT}),
    "packed in a folder": ([("cells/", b""), *cells(80)], {"begin": "./"}),
    "masks and columns": (
        cells(
            80,
            lambda i: [
                (f"cells/{i:03d}.mask.png", PNG),
                (f"cells/{i:03d}.json", json.dumps({"label": "json", "age": i, "note": "x" * (i * 9)}).encode()),
            ][: i % 3],
        ),
        {},
    ),
    "without an image, and others": (
        [
            *cells(40),
            *((f"text/{i}.cls", b"alone") for i in range(9)),
            *cells(40, lambda i: [(f"cells/{i:03d}.txt", b"")]),
        ],
        {},
    ),
    "what is no name of an image": (
        cells(80, lambda i: [("README", b""), (f"cells/{i:03d}.", b""), ("cells/.hidden", b"")][: i % 4]),
        {},
    ),
    "long names": (cells(50, lambda i: [(f"{DEEP}/{i}.png", PNG)] if i % 9 == 0 else []), {"how": tarfile.GNU_FORMAT}),
    "long names in ustar": (cells(50, lambda i: [(f"{DEEP}/{i}.png", PNG)] if i % 9 == 0 else []), {}),
    "long names in pax": (cells(50, lambda i: [(f"{DEEP}/ü{i}.png", PNG)]), {"how": tarfile.PAX_FORMAT}),
    "an archive in the archive": (cells(60, lambda i: [(f"cells/{i:03d}.tar", INNER.getvalue())][: i % 2]), {}),
    "large images": (cells(50, lambda i: [(f"large/{i}.png", PNG * 9000)]), {}),
    "names of the system": (cells(60, lambda i: [("cells/Thumbs.db", b"")] if i == 30 else []), {}),
    "Apple's": (cells(60, lambda i: [(f"__MACOSX/{i}.png", b"")] if i == 30 else []), {}),
    "letters": (cells(60, lambda i: [("cells/größe.png", PNG)] if i == 30 else []), {}),
    "from the root": (cells(60, lambda i: [(f"/{i}.png", PNG)] if i == 30 else []), {}),
    "one name twice, apart": ([*cells(60), *cells(60)], {}),
    "two images": (cells(60, lambda i: [(f"cells/{i:03d}.jpg", PNG)] if i == 30 else []), {}),
    "two classes": (cells(60, lambda i: [(f"cells/{i:03d}.label", b"well")] if i == 30 else []), {}),
    "no text": (cells(60, lambda i: [(f"cells/{i:03d}.label", b"\xff")] if i == 30 else []), {}),
    "a class too long": (classed(b"x" * 70_000), {}),
    "a long class": (classed(b"x" * 700), {}),
    "a NUL": (classed(b"x\0"), {}),
    "no JSON": (cells(60, lambda i: [(f"cells/{i:03d}.json", b"{")] if i == 30 else []), {}),
}


@pytest.mark.parametrize("name", SHARDS)
@pytest.mark.parametrize("window", [tar_runs.WINDOW, 16 << 10])
def test_runs_say_what_the_members_say_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, window: int
) -> None:
    files, how = SHARDS[name]
    monkeypatch.setattr(tar_runs, "WINDOW", window)
    monkeypatch.setattr(tar_runs, "FEW", 4)
    in_runs, one_by_one = both(pack(tmp_path / "a.tar", files, **how), monkeypatch)
    assert in_runs == one_by_one and (isinstance(in_runs, str) or len(in_runs[0]) >= 50)


@pytest.mark.parametrize(
    "name", ["plain", "of WebDataset, with pax times", "of GNU", "packed in a folder", "large images"]
)
def test_what_is_plain_is_found_in_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    files, how = SHARDS[name]
    alone, look = list[Member](), _Image.member

    def member(image: _Image, member: Member) -> None:
        alone.append(member)
        look(image, member)

    monkeypatch.setattr(_Image, "member", member)
    assert len(told(pack(tmp_path / "a.tar", files, **how))[0]) >= 50
    assert 0 < len(alone) < len(files) / 8


def test_an_archive_with_any_byte_changed_says_the_same_either_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pack(tmp_path / "a.tar", cells(12), tarfile.PAX_FORMAT, 1e9 + 0.25).read_bytes()
    heads = [place for place in range(0, len(whole), 512) if whole[place + 257 :].startswith(b"ustar")]
    rng, different = np.random.default_rng(0), set()
    monkeypatch.setattr(tar_runs, "FEW", 2)
    for _ in range(120):
        data, head = bytearray(whole), int(rng.choice(heads))
        place = head + int(rng.choice([0, 5, 100, *range(120, 137), 156, 257, 262, 300, 345, 400, 514, 525]))
        data[place] = int(rng.choice([0, 32, 47, 46, 48, 49, 55, 56, 120, 76, 103, 255]))
        (tmp_path / "b.tar").write_bytes(data[: int(rng.choice([len(data), len(data), head + 300, head + 900]))])
        in_runs, one_by_one = both(tmp_path / "b.tar", monkeypatch)
        assert in_runs == one_by_one
        different.add(str(in_runs))
    assert len(different) > 5  # or nothing was changed that counts
