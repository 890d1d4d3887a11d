"""Files that are there whole or not at all: the advice fits the reason, and a folder need not be synced."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from cfdiff.errors import UserError
from cfdiff.files import atomic, is_there, parse_json, parse_toml, sync


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "free space there"),
        (errno.EDQUOT, "free space there"),
        (errno.EFBIG, "free space there"),
        (errno.ENAMETOOLONG, "choose a shorter name"),
        (errno.EROFS, "choose another place"),
        (errno.ENOENT, "choose another place"),
    ],
)
def test_what_cannot_be_written_says_why_and_what_helps(tmp_path: Path, number: int, advice: str) -> None:
    with pytest.raises(UserError) as said, atomic(tmp_path / "a") as scratch:
        scratch.write_text("half")
        raise OSError(number, os.strerror(number))
    assert str(said.value) == f"Cannot write {tmp_path / 'a'} ({os.strerror(number)}): {advice}" + (
        ", or choose another place." if advice.startswith("free") else "."
    )
    assert not any(tmp_path.iterdir())


def test_a_folder_that_cannot_be_synced_is_no_error_and_a_file_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x")
    refused: list[bool] = []

    def refuse(handle: int) -> None:
        refused.append(stat.S_ISDIR(os.fstat(handle).st_mode))
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    sync(tmp_path)
    with pytest.raises(OSError):
        sync(tmp_path / "file")
    assert refused == [True, False]


@pytest.mark.parametrize("parse", [parse_json, lambda text: parse_toml(f"a = {text}")])
@pytest.mark.parametrize("text", ["[" * 100_000, "{", "9" * 10_000, "\x00"])
def test_what_is_nested_too_deeply_or_no_text_of_its_kind_is_a_value_error(parse: object, text: str) -> None:
    with pytest.raises(ValueError):
        parse(text)  # type: ignore[operator]


def test_a_name_that_cannot_be_is_of_nothing(tmp_path: Path) -> None:
    assert is_there(tmp_path) and not is_there(tmp_path / "x" / "y")
    assert not is_there(Path("a\0b")) and not is_there(Path("x" * 5000))
