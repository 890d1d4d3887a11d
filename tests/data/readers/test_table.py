"""Tables as CSV, in whatever pieces they are looked at."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cfdiff.data.readers import table
from cfdiff.data.readers.table import read_columns
from cfdiff.errors import UserError

FIELDS = st.text(st.sampled_from('ab ,"\n\r\té'), max_size=4)


@given(st.lists(st.tuples(FIELDS, FIELDS, FIELDS), max_size=9), st.integers(1, 4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_table_is_what_csv_reads_without_blanks(tmp_path: Path, rows: list[tuple[str, ...]], at_once: int) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("one", " two", "three"), *rows])
    path = tmp_path / "t.csv"
    path.write_bytes(text.getvalue().encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "_ROWS", at_once)
        found = read_columns(path, "t.csv")
        got = {key: found[key].tolist() for key in found}
    there = [(i, row) for i, row in enumerate(rows, start=2) if any(field.strip() for field in row)]
    assert list(found) == ["one", "two", "three"]
    assert found.numbers.tolist() == [number for number, _ in there]
    assert got == {key: [row[i].strip() for _, row in there] for i, key in enumerate(("one", "two", "three"))}


@pytest.mark.parametrize(
    ("last", "message"),
    [
        ("c,d,e", "t.csv has 3 fields in row 6 but 2 columns: put commas in quotes, and name all columns"),
        ("c", "t.csv has 1 fields in row 6 but 2 columns: put commas in quotes.$"),
        ("c\0,d", "t.csv has a NUL in it"),
        ('c,"d', r"cannot be read as a CSV, in line 6 \(unexpected end of data\)"),
    ],
)
def test_what_is_wrong_far_behind_the_beginning_is_said_with_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str, message: str
) -> None:
    monkeypatch.setattr(table, "_ROWS", 2)
    path = tmp_path / "t.csv"
    path.write_text(f"path,label\na,b\na,b\n\na,b\n{last}", encoding="utf-8")
    with pytest.raises(UserError, match=message):
        read_columns(path, "t.csv")


def test_a_table_of_a_header_alone_has_columns_without_rows(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("\n , \npath,label\n", encoding="utf-8")
    found = read_columns(path, "t.csv")
    assert {key: found[key].shape for key in found} == {"path": (0,), "label": (0,)}
    assert found.numbers.dtype == np.int64
