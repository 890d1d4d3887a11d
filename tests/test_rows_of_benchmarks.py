"""A benchmark that is run in parts adds rows to its file, and loses none."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from rows import Rows, same  # noqa: E402


def test_rows_of_another_run_stay_and_one_of_the_same_name_is_replaced_where_it_stood(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    Rows(path, {"benchmark": "b"}, ["a", "b"]).put({"a": 1, "b": 2, "x": 0}, {"a": 1, "b": 3, "x": 0})
    again = Rows(path, {"benchmark": "b"}, ["a", "b"])
    again.put({"a": 1, "b": 2, "x": 5}, {"a": 2, "b": 2, "x": 7})
    assert json.loads(path.read_text()) == {
        "benchmark": "b",
        "rows": [{"a": 1, "b": 2, "x": 5}, {"a": 1, "b": 3, "x": 0}, {"a": 2, "b": 2, "x": 7}],
    }


def test_rows_of_other_settings_are_not_mixed(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    Rows(path, {"benchmark": "b", "minutes": 6}, ["a"]).put({"a": 1})
    with pytest.raises(SystemExit, match="other settings"):
        Rows(path, {"benchmark": "b", "minutes": 15}, ["a"])


def test_without_a_file_nothing_is_written(tmp_path: Path) -> None:
    rows = Rows(None, {}, ["a"])
    rows.put({"a": 1})
    assert rows.rows == [{"a": 1}] and not list(tmp_path.iterdir())


def test_a_folder_of_work_says_what_it_was_made_with(tmp_path: Path) -> None:
    same(tmp_path / "settings.json", {"steps": 60, "data": tmp_path})
    (tmp_path / "lines.jsonl").touch()
    same(tmp_path / "settings.json", {"steps": 60, "data": tmp_path})
    with pytest.raises(SystemExit, match="another steps .60."):
        same(tmp_path / "settings.json", {"steps": 100, "data": tmp_path})
    (tmp_path / "settings.json").unlink()
    with pytest.raises(SystemExit, match="does not say"):
        same(tmp_path / "settings.json", {"steps": 60, "data": tmp_path})
