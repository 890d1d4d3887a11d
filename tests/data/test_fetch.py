"""Data at an URL: read as the same data here, fetched once, whole, and anew when it changed."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image
from stores import Odd, failing, memory, odd

from cfdiff.data import fetch, open_source
from cfdiff.errors import UserError
from cfdiff.remote import TRIES

__all__ = ["memory", "odd"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(fetch.CACHE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def png(value: int) -> bytes:
    held = io.BytesIO()
    Image.fromarray(np.full((4, 4), value, "u1")).save(held, "png")
    return held.getvalue()


def npz(value: int = 0) -> bytes:
    held = io.BytesIO()
    images = np.arange(value, value + 6, dtype="u1")[:, None, None] * np.ones((1, 4, 4), "u1")
    np.savez(held, images=images, labels=["no", "yes"] * 3)
    return held.getvalue()


def make(folder: Path) -> dict[str, Path]:
    """Data of each kind, in a folder of this machine."""
    for n in range(4):
        for part in ("tree", "beside"):
            path = folder / part / ("no", "yes")[n % 2] / f"{n}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(40 * n))
    (folder / "lists").mkdir()
    rows = [f"../beside/{c}/{n}.png,{c}," for n, c in enumerate(["no", "yes", "no"])]
    rows[0] += "./../lists/m.png"
    (folder / "lists" / "m.png").write_bytes(png(255))
    (folder / "lists" / "cells.csv").write_text("\n".join(["path,label,mask", *rows]))
    (folder / "cells.npz").write_bytes(npz())
    with h5py.File(folder / "cells.h5", "w") as file:
        file["images"], file["labels"] = np.arange(96, dtype="u1").reshape(6, 4, 4), [0, 1] * 3
    names = {"folder": "tree", ".csv": "lists/cells.csv", ".npz": "cells.npz", ".h5": "cells.h5"}
    return {kind: folder / name for kind, name in names.items()}


@pytest.mark.parametrize("kind", ["folder", ".csv", ".npz", ".h5"])
@pytest.mark.parametrize("where", ["memory://bucket", "file"])
def test_data_at_an_url_is_the_same_data_under_another_name(
    tmp_path: Path, memory: Any, where: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path / "here")[kind]
    url = f"file://{path}"
    if where != "file":
        memory.put(f"{tmp_path}/here/", "/bucket/", recursive=True)
        url = f"{where}/{path.relative_to(tmp_path / 'here')}"
    mine, theirs = open_source(path), open_source(url)
    assert theirs.name == url and theirs.ids.tolist() == mine.ids.tolist() and theirs.classes == mine.classes
    every = np.arange(len(mine))
    assert (theirs.read(every) == mine.read(every)).all()
    assert theirs.fingerprint == mine.fingerprint
    masks, same = mine.read_masks(every), theirs.read_masks(every)
    assert same is None if masks is None else (same == masks).all()
    monkeypatch.setattr(fetch.Store, "fetch", None)  # a second time nothing is
    assert open_source(url).fingerprint == mine.fingerprint


def test_an_object_that_changed_is_fetched_anew_and_the_old_copy_stays_for_its_readers(memory: Any) -> None:
    memory.pipe("/b/cells.npz", npz(0))
    old = open_source("memory://b/cells.npz")
    memory.pipe("/b/cells.npz", npz(9))
    new = open_source("memory://b/cells.npz")
    assert new.read([0]).max() == 9 and old.fingerprint != new.fingerprint


def test_two_of_one_name_are_two(memory: Any) -> None:
    memory.pipe({"/a/cells.npz": npz(0), "/b/cells.npz": npz(9)})
    read = [open_source(f"memory://{bucket}/cells.npz").read([0]).max() for bucket in "aba"]
    assert read == [0, 9, 0]


def test_what_changes_while_it_is_fetched_is_not_taken(odd: type[Odd], cache: Path) -> None:
    fs = odd()
    fs.pipe_file("/b/cells.npz", npz(0))
    odd.on["get"] = lambda path: fs.pipe_file(path, npz(9))
    with pytest.raises(UserError, match="was changed while it was fetched"):
        open_source("odd://b/cells.npz")
    odd.on.clear()
    assert open_source("odd://b/cells.npz").read([0]).max() == 9


def test_a_fetch_that_fails_leaves_nothing_to_read_and_goes_on_where_it_was(odd: type[Odd], cache: Path) -> None:
    fs = odd()
    for n in range(200):
        fs.pipe_file(f"/b/tree/{('no', 'yes')[n % 2]}/{n}.png", png(n))
    calls: list[str] = []

    def fail(path: str) -> None:
        calls.append(path)
        if len(calls) > 70:
            raise OSError("the net is gone")

    odd.on["get"] = fail
    with pytest.raises(UserError, match=r"odd://b/tree cannot be fetched \(the net is gone\)"):
        open_source("odd://b/tree")
    (begun,) = cache.iterdir()
    assert begun.name.endswith(".partial") and not list(begun.rglob("*.tmp"))
    kept = len(list(begun.rglob("*.png")))
    assert kept == 64
    calls.clear()
    odd.on["get"] = calls.append  # type: ignore[assignment]
    assert len(open_source("odd://b/tree")) == 200 and len(calls) == 200 - kept
    assert [path.suffix for path in cache.iterdir()] == [""]


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from cfdiff.data.fetch import fetched
from cfdiff.remote import Store

real, left = Store.fetch, [1]

def fetch(self, paths, files, done):
    left[0] -= 1
    if left[0] < 0:
        files[0].write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    real(self, paths, files, done)

Store.fetch = fetch
fetched(sys.argv[2])
"""


def test_a_fetch_that_was_killed_goes_on_and_none_of_its_scratch_is_in_the_copy(tmp_path: Path, cache: Path) -> None:
    tree = tmp_path / "tree"
    for n in range(100):
        path = tree / ("no", "yes")[n % 2] / f"{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(n))
    (tree / "no" / "theirs.tmp").write_bytes(b"1")  # of the data, whatever it is called
    words = [sys.executable, "-c", KILLED, str(Path(fetch.__file__).parents[2]), f"file://{tree}"]
    killed = subprocess.run(words, env={**os.environ, fetch.CACHE: str(cache)}, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    (scratch,) = cache.glob("*.tmp")
    begun = scratch.with_name(scratch.name.split(".")[0] + ".partial")
    kept = {path for path in begun.rglob("*") if path.is_file()}
    assert len(kept) == 64 and (scratch / "0").read_bytes() == b"half"
    (begun / "tree" / "no" / "1.png.12-ab.tmp").write_bytes(b"of a version that fetched there")
    before = {path.name: path.stat().st_ino for path in kept}
    place = fetch.fetched(f"file://{tree}")
    after = {path.name: path for path in place.rglob("*") if path.is_file()}
    assert after.keys() == {path.name for path in tree.rglob("*") if path.is_file()}
    assert all(after[name].stat().st_ino == inode for name, inode in before.items())
    assert list(cache.iterdir()) == [place.parent]


@pytest.mark.parametrize("locks", [True, False])
def test_what_another_process_is_fetching_is_left_to_it_and_never_in_the_copy(
    odd: type[Odd], cache: Path, monkeypatch: pytest.MonkeyPatch, locks: bool
) -> None:
    fs = odd()
    for n in range(200):
        fs.pipe_file(f"/b/tree/{('no', 'yes')[n % 2]}/{n}.png", png(n))

    def no_locks(handle: int, how: int) -> None:
        raise OSError("no locks")

    if not locks:
        monkeypatch.setattr(fetch.fcntl, "flock", no_locks)
    here: list[Path] = []

    def meanwhile(path: str) -> None:
        (scratch,) = cache.glob("*.tmp")
        (scratch / "half").write_bytes(b"half")
        odd.on.clear()
        begun = scratch.with_name(scratch.name.split(".")[0] + ".partial")
        with fetch._scratch(begun):  # as the other does
            assert (scratch / "half").exists()
        here.append(scratch)
        place = fetch.fetched("odd://b/tree")
        assert len(list(place.rglob("*"))) == 202 and scratch.exists()

    odd.on["get"] = meanwhile
    place = fetch.fetched("odd://b/tree")
    assert here and len(list(place.rglob("*"))) == 202
    assert list(cache.iterdir()) == [place.parent]


def test_a_fetch_that_was_cut_short_is_said_and_a_hiccup_is_not(odd: type[Odd]) -> None:
    fs = odd()
    fs.pipe_file("/b/cells.npz", npz(0))
    odd.on["get"] = failing(TRIES - 1, lambda: TimeoutError("slow"))
    assert len(open_source("odd://b/cells.npz")) == 6
    fs.pipe_file("/b/cells.npz", npz(3))
    held = fs.store["/b/cells.npz"]
    odd.on["get"] = lambda path: held.truncate(10)
    with pytest.raises(UserError, match="cut short"):
        open_source("odd://b/cells.npz")


def test_another_process_that_fetched_the_same_meanwhile_is_no_harm(odd: type[Odd], cache: Path) -> None:
    fs = odd()
    fs.pipe_file("/b/cells.npz", npz(0))

    def meanwhile(path: str) -> None:
        odd.on.clear()
        assert len(open_source("odd://b/cells.npz")) == 6

    odd.on["get"] = meanwhile
    assert len(open_source("odd://b/cells.npz")) == 6
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize("name", ["../../evil.png", "a/../../evil.png", "a\0b.png"])
def test_a_name_in_a_store_never_leads_out_of_the_cache(odd: type[Odd], tmp_path: Path, name: str) -> None:
    fs = odd()
    fs.pipe_file("/b/tree/no/1.png", png(1))
    fs.store[f"/b/tree/{name}"] = fs.store["/b/tree/no/1.png"]
    with pytest.raises(UserError, match="can be no path of a file here"):
        open_source("odd://b/tree")
    assert not list(tmp_path.rglob("*evil*"))


def test_what_a_csv_lists_and_the_store_has_not_is_said_with_its_row(memory: Any) -> None:
    memory.pipe({"/b/a.png": png(1), "/b/cells.csv": b"path,label\na.png,no\nc.png,yes\n../../../../up.png,yes\n"})
    with pytest.raises(UserError, match=r"memory://b/cells.csv lists 2 files that do not exist.*'c.png' in row 3"):
        open_source("memory://b/cells.csv")
    memory.pipe("/b/cells.csv", b"path,label\nmemory://b/a.png,no\n")
    with pytest.raises(UserError, match="addresses are not fetched"):
        open_source("memory://b/cells.csv")
    memory.pipe("/b/cells.csv", b"where,label\na.png,no\n")
    with pytest.raises(UserError, match="has no column 'path'"):
        open_source("memory://b/cells.csv")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("memory://b/none.h5", "There is nothing at memory://b/none.h5"),
        ("memory://none", "There is nothing at memory://none"),
        ("nowhere://b/x.h5", "Protocol not known"),
        ("memory://b/x.txt", r"memory://b/x\.txt is of no kind"),
        ("memory://b/empty.h5", r"memory://b/empty\.h5 is empty"),
    ],
)
def test_what_cannot_be_read_is_one_sentence_with_the_url(memory: Any, url: str, said: str) -> None:
    memory.pipe({"/b/x.txt": b"hello", "/b/empty.h5": b""})
    with pytest.raises(UserError, match=said):
        open_source(url)


def test_no_secret_of_an_url_is_in_the_name_of_data_or_in_a_sentence(memory: Any, cache: Path) -> None:
    memory.pipe("/key:hidden@b/cells.npz", npz())
    source = open_source("memory://key:hidden@b/cells.npz")
    assert source.name == "memory://b/cells.npz"
    assert "hidden" not in " ".join(map(str, cache.rglob("*"))) and "hidden" not in repr(source)
    with pytest.raises(UserError) as caught:
        open_source("memory://key:hidden@b/cells.npz", negative="maybe")
    assert "hidden" not in str(caught.value) and "memory://b/cells.npz" in str(caught.value)
    with pytest.raises(UserError) as caught:
        open_source("memory://key:hidden@b/none.npz?sign=hidden")
    assert str(caught.value).startswith("There is nothing at memory://b/none.npz:")


def test_what_no_disk_has_room_for_is_not_begun(memory: Any, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    memory.pipe("/b/cells.npz", npz())
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda path: type("usage", (), {"free": 10}))
    with pytest.raises(UserError, match=r"make room, or name another folder in the environment variable CFDIFF_CACHE"):
        open_source("memory://b/cells.npz")
    monkeypatch.setenv(fetch.CACHE, "/dev/null/cache")
    with pytest.raises(UserError, match=r"Cannot keep memory://b/cells\.npz in /dev/null/cache"):
        open_source("memory://b/cells.npz")


def test_files_without_any_mark_are_told_apart_by_what_the_file_system_makes_of_them(
    memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "_MARKS", frozenset())
    test_an_object_that_changed_is_fetched_anew_and_the_old_copy_stays_for_its_readers(memory)


def test_long_urls_are_no_paths(memory: Any) -> None:
    memory.pipe("/b/cells.npz", npz())
    assert open_source("memory://b/cells.npz").name == "memory://b/cells.npz"
    with pytest.raises(UserError, match="There is nothing at memory://b/x:"):
        open_source("memory://b/x?sign=" + "a" * 3000)
