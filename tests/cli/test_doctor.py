from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cfdiff.cli import app as program
from cfdiff.cli.doctor import table
from cfdiff.doctor.lines import Report

Doctor = Callable[..., tuple[Any, str, str]]


@pytest.fixture
def doctor(toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Doctor:
    """Run `cfdiff doctor` on the toys: its exit code, and what it prints to stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: Any) -> tuple[Any, str, str]:
        usual = ["--data", toy.data, "--weights", toy.weights, "--device", "cpu", "--limit", 8, "--steps", 4]
        monkeypatch.setattr(sys, "argv", ["cfdiff", "doctor", *map(str, [*usual, "--retries", 0, *arguments])])
        with pytest.raises(SystemExit) as ended:
            program.main()
        printed = capsys.readouterr()
        assert list(tmp_path.iterdir()) == []
        return ended.value.code, printed.out, printed.err

    return run


def test_json_is_one_object_with_a_status_figure_and_advice_for_each_line_and_no_path(toy: Any, doctor: Doctor) -> None:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    code, out, _ = doctor("--json")
    assert str(toy.data.parent) not in out and str(toy.weights) not in out
    found = json.loads(out, parse_constant=refuse)
    assert set(found) == {"data", "images", "lines", "counts"}
    # How a toy training ended may part judge and checker, which is a failure.
    assert {line["name"] for line in found["lines"] if line["status"] == "fail"} <= {"trial edit"}
    assert code == (found["counts"]["fail"] > 0)
    assert found["data"] == "toy.npz" and found["images"] == 8
    for line in found["lines"]:
        assert set(line) == {"name", "status", "figure", "advice", "values"}
        assert line["name"] and line["figure"] and line["status"] in ("ok", "warn", "fail")
        assert bool(line["advice"]) == (line["status"] != "ok")
        assert all(isinstance(key, str) and isinstance(value, float) for key, value in line["values"].items())
    assert len({line["name"] for line in found["lines"]}) == len(found["lines"])
    assert set(found["counts"]) == {"ok", "warn", "fail"} and sum(found["counts"].values()) == len(found["lines"])


def test_a_failure_ends_with_1_and_says_what_to_do(toy: Any, doctor: Doctor) -> None:
    code, out, _ = doctor("--judge", toy.weights / "checker.safetensors")
    assert code == 1 and "fail" in out and "name another --judge" in out


def test_warnings_end_with_0_and_are_told(toy: Any, doctor: Doctor, tmp_path_factory: pytest.TempPathFactory) -> None:
    weights = tmp_path_factory.mktemp("weights")
    for role in ("diffusion", "guide", "checker"):  # no judge, from which the checker could part
        (weights / f"{role}.safetensors").write_bytes((toy.weights / f"{role}.safetensors").read_bytes())
    code, out, _ = doctor("--scale", "10000", "--weights", weights)
    assert code == 0 and "always binds" in out and "0 failed" in out


def test_a_setting_that_is_not_possible_ends_with_2(doctor: Doctor) -> None:
    for arguments in (("--limit", "1"), ("--guides", "nonsense")):
        code, out, err = doctor(*arguments)
        assert code == 2 and out == "" and err.startswith("Error: ") and err.count("\n") == 1


def test_names_from_data_are_not_read_as_markup(doctor: Doctor, tmp_path: Path) -> None:
    code, out, _ = doctor("--data", "[bold]no[/bold].npz")
    assert code == 1 and "[bold]no[/bold].npz" in out


def test_a_name_of_data_that_looks_like_markup_is_a_title_as_it_stands() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table(Report("x[/y].npz", 3, ())))
    assert "x[/y].npz, 3 images" in console.export_text()
