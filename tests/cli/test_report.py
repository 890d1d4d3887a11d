from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cfdiff.cli import app as program
from cfdiff.translate.run import translate


@pytest.fixture
def cfdiff(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, Any]]:
    """Run `cfdiff`; its exit code and what it prints."""

    def run(*arguments: Any) -> tuple[int, Any]:
        monkeypatch.setattr(sys, "argv", ["cfdiff", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            program.main()
        return int(ended.value.code or 0), capsys.readouterr()

    return run


@pytest.fixture
def run(toy: Any, tmp_path: Path) -> Path:
    translate(toy.settings(tmp_path / "run.h5", limit=3, retries=0, steps=3))
    return tmp_path / "run.h5"


def test_report_and_show_write_where_they_are_told_and_say_where(cfdiff: Any, run: Path, tmp_path: Path) -> None:
    code, printed = cfdiff("report", run, "-o", tmp_path / "report.html")
    assert code == 0 and printed.out.strip() == str(tmp_path / "report.html"), printed.err
    assert "negative (healthy) → positive (sick)" in (tmp_path / "report.html").read_text(encoding="utf-8")
    code, printed = cfdiff("show", run, "--index", "0,2", "--out", tmp_path / "panel.png")
    assert code == 0 and printed.out.strip() == str(tmp_path / "panel.png"), printed.err
    code, printed = cfdiff("show", run, "--limit", 2)
    assert code == 0 and printed.out.strip() == f"{tmp_path / 'run-panel.png'}  (2 of 3)"


@pytest.mark.parametrize(
    "arguments",
    [
        ("report", "none.h5"),
        ("report", "run.h5", "--evaluation", "none.json"),
        ("report", "run.h5", "-o", "report.txt"),
        ("report", "run.h5", "--limit", "0"),
        ("show", "run.h5", "--index", "7"),
        ("show", "run.h5", "--index", "-1"),
        ("show", "run.h5", "--ids", "nobody"),
        ("show", "run.h5", "-o", "panel.bmp"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    cfdiff: Any, run: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(run.parent)
    code, printed = cfdiff(*arguments)
    assert code == 2
    assert printed.err.startswith("Error: ") and printed.err.count("\n") == 1
    assert [path.name for path in run.parent.iterdir()] == ["run.h5"]
