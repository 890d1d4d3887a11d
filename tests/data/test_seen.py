"""A digest is taken from where it was left, while the files are those that it was of."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cfdiff.data import open_source, seen
from cfdiff.data.seen import Seen
from cfdiff.data.source import Source


@pytest.fixture(autouse=True)
def _settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen, "_SETTLED", -1.0)  # files that were written just now count as old


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four images, the first two with a mask."""
    folder = tmp_path / "data"
    folder.mkdir()
    lines = ["path,label,mask"]
    for i in range(4):
        Image.fromarray(np.full((8, 8), 40 * i, np.uint8)).save(folder / f"{i}.png")
        lines.append(f"{i}.png,{i % 2},{'m.png' if i < 2 else ''}")
    Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(folder / "m.png")
    (folder / "d.csv").write_text("\n".join(lines))
    return folder / "d.csv"


def read_by(source: Source, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, int]:
    """The fingerprint as a process finds it that works in a folder, and how many times it had the files read."""
    calls = []
    with monkeypatch.context() as patch:
        digest = source.digest
        patch.setitem(source.__dict__, "digest", lambda rows: calls.append(1) or digest(rows))
        found = Seen(source, folder)
        fingerprint = found.source.fingerprint
        found.keep()
    return fingerprint, len(calls)


def test_the_second_process_reads_nothing_and_says_the_same(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "parts").mkdir()
    own = open_source(data).fingerprint
    assert read_by(open_source(data), tmp_path / "parts", monkeypatch) == (own, 1)
    assert read_by(open_source(data), tmp_path / "parts", monkeypatch) == (own, 0)
    part = open_source(data, limit=3)  # other rows of the same files
    assert read_by(part, tmp_path / "parts", monkeypatch) == (part.fingerprint, 1)


def same_size_and_mtime(path: Path) -> None:
    """Another picture in the place of 3.png, as long, that says it is as old."""
    told, old = path.with_name("3.png").stat(), path.with_name("3.png").read_bytes()
    path.with_name("3.png").write_bytes(old[:-20] + bytes([old[-20] ^ 1]) + old[-19:])
    os.utime(path.with_name("3.png"), ns=(told.st_atime_ns, told.st_mtime_ns))


def another_file(path: Path) -> None:
    shutil.copy(path.with_name("0.png"), path.with_name("new"))
    path.with_name("new").rename(path.with_name("3.png"))


def mask_of_another(path: Path) -> None:
    path.write_text(path.read_text().replace("1.png,1,m.png", "1.png,1,").replace("2.png,0,", "2.png,0,m.png"))


@pytest.mark.parametrize("change", [same_size_and_mtime, another_file, mask_of_another])
def test_a_change_is_noticed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    before, _ = read_by(open_source(data), tmp_path, monkeypatch)
    time.sleep(0.05)  # the clock of some file systems ticks every hundredth of a second
    change(data)
    after, calls = read_by(open_source(data), tmp_path, monkeypatch)
    assert after != before and calls == 1 and after == open_source(data).fingerprint


def test_files_that_changed_just_now_are_not_trusted_and_neither_is_what_is_no_digest(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for left in ("{", "[1]", '{"files": 1, "digest": 2}'):
        (tmp_path / seen.NAME).write_text(left)
        assert read_by(open_source(data), tmp_path, monkeypatch)[1] == 1
    monkeypatch.setattr(seen, "_SETTLED", 3600.0)
    assert read_by(open_source(data), tmp_path, monkeypatch)[1] == 1


def test_where_no_folder_is_nothing_is_kept(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_by(open_source(data), tmp_path / "none", monkeypatch)[1] == 1
    assert not (tmp_path / "none").exists()
