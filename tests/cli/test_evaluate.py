from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cfdiff.cli import app as program
from cfdiff.translate.run import translate


@pytest.fixture(scope="module")
def run_file(toy: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluate-cli") / "run.h5"
    translate(toy.settings(out, **{"from": "positive"}, limit=9, steps=3, retries=0))
    return out


@pytest.fixture
def cfdiff(toy: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Callable[..., tuple[int, Any]]:
    """Run `cfdiff evaluate` on the toys; its exit code and what it prints."""

    def run(*arguments: Any) -> tuple[int, Any]:
        usual = ["--data", toy.data, "--weights", toy.weights, "--device", "cpu", "--fractions", 5, "--bootstrap", 50]
        monkeypatch.setattr(sys, "argv", ["cfdiff", "evaluate", *map(str, [*arguments, *usual])])
        with pytest.raises(SystemExit) as ended:
            program.main()
        return int(ended.value.code or 0), capsys.readouterr()

    return run


def test_the_table_answers_each_question_with_intervals_and_both_columns(cfdiff: Any, run_file: Path) -> None:
    code, printed = cfdiff(run_file)
    assert code == 0, printed.err
    for words in ("Valid?", "Minimal?", "Faithful?", "Realistic?", "Where?", "flipped, by the judge", "all [95 %"):
        assert words in printed.out
    assert "FID (features of" in printed.out and "run.h5" in printed.out and str(run_file.parent) not in printed.out


def test_a_second_judge_is_named_by_the_option_given_again(
    cfdiff: Any, run_file: Path, toy: Any, toys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    second = toys.save_classifier(tmp_path / "second.safetensors", toys.toy_classifier(17))
    judges = ("--judge", toy.weights / "judge.safetensors", "--judge", second)
    code, printed = cfdiff(run_file, *judges, "--no-realism", "--no-faithfulness")
    assert code == 0, printed.err
    for words in ("by judge 1, judge (resnet10t)", "by judge 2, second (resnet10t)", "by both judges", "its recall"):
        assert words in printed.out
    code, printed = cfdiff(run_file, *judges, *judges[:2])
    assert code == 2 and "the same model twice" in printed.err


def test_json_is_one_object_and_also_goes_to_a_file(cfdiff: Any, run_file: Path, tmp_path: Path) -> None:
    code, printed = cfdiff(run_file, "--json", "--no-realism", "--no-faithfulness", "--out", tmp_path / "e.json")
    assert code == 0, printed.err
    result = json.loads(printed.out)
    assert result == json.loads((tmp_path / "e.json").read_text()) and result["images"] == 9
    assert result["sections"]["faithful"]["not_measured"] == "--no-faithfulness"


@pytest.mark.parametrize(
    "arguments",
    [("--masks", "nowhere"), ("--judge", "nowhere.safetensors"), ("--features", "resnet9000"), ("--eps", "-1")],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    cfdiff: Any, run_file: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    code, printed = cfdiff(run_file, "--out", tmp_path / "e.json", *arguments)
    assert code == 2
    assert printed.err.startswith("Error: ") and printed.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
