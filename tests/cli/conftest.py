"""A command that is refused, for the tests of what a user's mistake gets."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cfdiff.cli import app as program

Refused = Callable[..., str]


@pytest.fixture
def refused(toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Give `translate` these options (over good ones; None leaves one out) and get the sentence that it says."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)

    def run(*arguments: Any, **options: Any) -> str:
        usual = {"data": toy.data, "weights": toy.weights, "out": work / "run.h5", "device": "cpu", "steps": 3}
        given = {key.strip("_").replace("_", "-"): value for key, value in {**usual, **options}.items()}
        words = [f"--{key}={value}" for key, value in given.items() if value is not None]
        before = sorted(work.rglob("*"))
        monkeypatch.setattr(sys, "argv", ["cfdiff", "translate", *words, *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            program.main()
        said = capsys.readouterr().err
        assert ended.value.code == 2, said
        assert said.startswith("Error: ") and said.endswith((".\n", "?\n")) and said.count("\n") == 1, said
        assert "Traceback" not in said
        assert sorted(work.rglob("*")) == before, "something was left behind"
        return said

    return run
