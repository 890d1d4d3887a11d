"""A table of splits in place of the data's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cfdiff.data import open_source
from cfdiff.data.split_file import check_table, write_splits
from cfdiff.errors import UserError


@pytest.fixture
def data(toys: Any, tmp_path: Path) -> Path:
    path: Path = toys.write_npz(tmp_path / "toy.npz", 24, split=np.repeat(["train", "test"], 12))
    return path


def table(folder: Path, rows: list[str]) -> Path:
    (folder / "splits.csv").write_text("\n".join(["id,split", *rows]) + "\n")
    return folder / "splits.csv"


def test_what_is_written_reads_back_and_stands_in_place_of_the_datas_own(data: Path, tmp_path: Path) -> None:
    source = open_source(data)
    asked = np.array(["a", "b, c", 'd"'] * 8)
    path = write_splits(source, asked, tmp_path / "splits.csv")
    again = open_source(data, splits=path)
    assert again.splits is not None and again.splits.tolist() == asked.tolist()
    assert path.read_text().splitlines()[:2] == ["id,split,group,label", "cell/000.png,a,P0,healthy"]
    assert open_source(data, splits=path, split="b, c").ids.tolist() == source.ids[1::3].tolist()
    assert not list(tmp_path.glob("*.tmp"))


def test_the_order_of_rows_and_further_columns_do_not_matter(data: Path, tmp_path: Path) -> None:
    source = open_source(data)
    rows = [f"{i},{'x' if i > 'cell/010' else 'y'}" for i in source.ids]
    forth = open_source(data, splits=table(tmp_path, rows))
    back = open_source(data, splits=table(tmp_path, rows[::-1]))
    assert forth.splits.tolist() == back.splits.tolist() and forth.fingerprint == back.fingerprint


def test_the_fingerprint_covers_the_splits_of_the_table(data: Path, tmp_path: Path) -> None:
    own = open_source(data)
    same = write_splits(own, own.splits, tmp_path / "same.csv")
    other = write_splits(own, np.array(["x"] * 24), tmp_path / "other.csv")
    assert open_source(data, splits=same).fingerprint == own.fingerprint
    assert open_source(data, splits=other).fingerprint != own.fingerprint


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: [*rows, "cell/999.png,x"], "lists 1 images that toy.npz has not .*'cell/999.png'"),
        (lambda rows: rows[1:], "does not list 1 images of toy.npz .*'cell/000.png'"),
        (lambda rows: [*rows, rows[3]], "has the id 'cell/003.png' more than once"),
        (lambda rows: ["cell/000.png,", *rows[1:]], "has no split for 'cell/000.png'"),
    ],
)
def test_a_table_that_does_not_fit_the_data_is_one_sentence(
    data: Path, tmp_path: Path, change: Any, words: str
) -> None:
    rows = [f"{i},x" for i in open_source(data).ids]
    with pytest.raises(UserError, match=words):
        open_source(data, splits=table(tmp_path, change(rows)))


def test_a_table_of_other_columns_or_that_is_not_there_is_one_sentence(data: Path, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("id,fold\na,1\n")
    with pytest.raises(UserError, match=r"other.csv has no column 'split' but id, fold"):
        open_source(data, splits=tmp_path / "other.csv")
    with pytest.raises(UserError, match=r"nowhere.csv cannot be read"):
        open_source(data, splits=tmp_path / "nowhere.csv")


def test_an_image_of_another_class_need_not_be_listed(toys: Any, tmp_path: Path) -> None:
    labels = np.array(["healthy", "sick", "unclear"] * 4)
    path = toys.write_npz(tmp_path / "toy.npz", 12, labels=labels)
    names = {"negative": "healthy", "positive": "sick"}
    two = open_source(path, **names)
    splits = write_splits(two, np.array(["x"] * 8), tmp_path / "splits.csv")
    every = open_source(path, splits=splits, keep_other=True, **names)
    assert every.splits.tolist() == ["x", "x", ""] * 4
    with pytest.raises(UserError, match="does not list 4 images"):
        open_source(path, splits=splits, negative="healthy", positive="unclear")


def test_only_a_new_csv_that_is_not_the_data_is_written(data: Path, tmp_path: Path) -> None:
    (tmp_path / "there.csv").write_text("mine")
    with pytest.raises(UserError, match="name it there.csv"):
        check_table(tmp_path / "there.txt", data, False, "splits")
    with pytest.raises(UserError, match=r"there.csv exists already"):
        check_table(tmp_path / "there.csv", data, False, "splits")
    with pytest.raises(UserError, match="is the data itself"):
        check_table(tmp_path / "there.csv", tmp_path / "there.csv", True, "splits")
    check_table(tmp_path / "there.csv", data, True, "splits")
