"""Files that a table lists: the same is said of a million of them as of three, with fewer looks."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cfdiff.data.readers import images, listed
from cfdiff.data.readers.images import ImageFiles
from cfdiff.data.readers.listed import Listed, OneEach
from cfdiff.errors import UserError

PARTS = st.sampled_from(["", ".", "..", "a", "b.png", "...", ".a", "a.", "é\n"])


@given(st.lists(st.lists(PARTS, min_size=1, max_size=4).map("/".join), min_size=1, max_size=4))
def test_an_id_is_the_path_from_the_folder_in_one_spelling(entries: list[str]) -> None:
    folder = Path("/data/cells")
    expected = [Path(os.path.relpath(folder / entry, folder)).as_posix() for entry in entries]
    assert Listed(folder, np.array(entries)).ids().tolist() == expected


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("a/1.png", "a/2.png", "b/c/1.PNG", "é.png", "top.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "folder.png").mkdir()
    (tmp_path / "a" / "gone.png").symlink_to("nowhere")
    (tmp_path / "a" / "link.png").symlink_to("1.png")
    return tmp_path


@pytest.mark.parametrize("many", [100, 0])
def test_which_files_are_missing_is_the_same_by_looks_and_by_listings(
    tree: Path, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    monkeypatch.setattr(listed, "MANY", many)
    there = ["a/1.png", "top.png", str(tree / "a/2.png"), "b/../a/1.png", "", "é.png", "a/link.png", "./b//c/1.PNG"]
    gone = ["a/3.png", "a/folder.png", "a/gone.png", "nowhere/1.png", "top.png/1.png", "a/", "b/c/1.png"]
    entries = [name for pair in zip(there, [*gone, "A/1.png"], strict=True) for name in pair]
    assert Listed(tree, np.array(entries)).missing().tolist() == list(range(1, 16, 2))
    assert Listed(tree, np.array(there)).missing().tolist() == []


def test_files_in_a_folder_that_may_not_be_listed_are_there(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(listed, "MANY", 0)
    monkeypatch.setattr(listed.os, "scandir", refuse)
    assert Listed(tree, np.array(["a/1.png", "a/3.png"])).missing().tolist() == [1]


def test_a_row_of_a_table_is_a_path_or_none(tree: Path) -> None:
    files = Listed(tree, np.array(["a/1.png", "", "b/c/1.PNG"]))
    assert [files[0], files[-1]] == [tree / "a/1.png", tree / "b/c/1.PNG"]
    assert list(OneEach(files)) == [(tree / "a/1.png",), (), (tree / "b/c/1.PNG",)]
    assert OneEach(files)[1:] == [(), (tree / "b/c/1.PNG",)]
    assert set(Listed(tree, np.array(["a/1.png", "x/.png", "b.c/d", "é.PNG", "e.tar.gz"])).endings()) == {
        ".png",
        "",
        ".gz",
    }


def test_of_many_images_some_are_looked_at_and_the_others_when_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "MANY", 3)
    monkeypatch.setattr(images, "LOOKED", 2)
    names = np.array([f"{i}.png" for i in range(4)])
    for name, side in zip(names.tolist(), (5, 6, 5, 5), strict=True):
        Image.fromarray(np.full((side, 5), side, np.uint8)).save(tmp_path / name)
    (tmp_path / "3.png").write_bytes((tmp_path / "3.png").read_bytes()[:50])
    found = ImageFiles(Listed(tmp_path, names), names, None)
    assert list(found.looked) == [0, 2]
    assert "Of 4 images the headers of 2 were looked at" in found.notes[-1]
    assert found.read(np.array([0, 2])).shape == (2, 5, 5, 1)
    with pytest.raises(UserError, match=r"0.png is 5x5 with 1 channel of uint8 but 1.png is 6x5"):
        found.read(np.array([1]))
    with pytest.raises(UserError, match=r"3.png cannot be read as an image"):
        found.read(np.array([3]))
    monkeypatch.setattr(images, "MANY", 4)
    with pytest.raises(UserError, match=r"0.png is 5x5 with 1 channel of uint8 but 1.png is 6x5"):
        ImageFiles(Listed(tmp_path, names), names, None)
