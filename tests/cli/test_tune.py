from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cfdiff.cli import app as program
from cfdiff.cli.tune import table, verdict
from cfdiff.tune.result import Measured, TuneResult
from cfdiff.tune.trial import Goal

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cfdiff(toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `cfdiff tune` on the toys; its exit code and what it prints."""
    arrays = dict(np.load(toy.data))
    np.savez(tmp_path / "toy.npz", **arrays, split=np.full(len(arrays["images"]), "val"))

    def run(*arguments: Any) -> tuple[int, str, str]:
        usual = ["--data", tmp_path / "toy.npz", "--weights", toy.weights, "--out", tmp_path / "tuned.toml"]
        usual += ["--device", "cpu", "--steps", 4, "--retries", 0, "--tune", "ratio,depth"]
        usual += ["--images", 2, "--trials", 2]
        monkeypatch.setattr(sys, "argv", ["cfdiff", "tune", *map(str, [*usual, *arguments])])
        with pytest.raises(SystemExit) as ended:
            program.main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return run


def test_a_search_ends_with_a_table_of_both_settings_and_a_config_that_can_be_used(cfdiff: Run, tmp_path: Path) -> None:
    code, printed, _ = cfdiff("--flip", 0.5, "--margin", 0.5, "--plot", tmp_path / "tuned.svg")
    assert code == 0 and (tmp_path / "tuned.toml").exists() and (tmp_path / "tuned.svg").exists()
    for words in ("given", "chosen", "checker", "judge", "tuning", "held-out", "--config tuned.toml", "Chosen of 2"):
        assert words in printed


def test_json_is_one_object_and_warnings_do_not_stand_in_it(cfdiff: Run) -> None:
    code, printed, _ = cfdiff("--json", "--from", "sick")
    figures = json.loads(printed)
    assert code == 0 and figures["trials"] == 2 and set(figures["chosen"]) == {"ratio", "depth"}
    assert {row["from"] for row in figures["comparison"]} == {"positive"}


def test_a_mistake_is_one_line_and_exit_code_2(cfdiff: Run, tmp_path: Path) -> None:
    for arguments, words in (
        (("--split", "dev"), "no split 'dev'"),
        (("--tune", "ratio,speed"), "tune"),
        (("--margin", 1.5), "margin"),
        (("--scale", 0), "scale = 0.0"),
        (("--ratio", "inf"), "ratio = inf"),
    ):
        code, printed, said = cfdiff(*arguments)
        assert code == 2 and not printed and said.count("\n") == 1 and words in said
    assert not (tmp_path / "tuned.toml").exists()


def row(images: Any, settings: Any, **figures: Any) -> Measured:
    return Measured(images, settings, "negative", 1, None, "images", 0.75, (0.4, 0.9), 0.01, None, 30.0, **figures)


def outcome(**changes: Any) -> TuneResult:
    """A search that missed its goal."""
    result = TuneResult(
        config=Path("tuned.toml"),
        plot=Path("tuned.png"),
        data="toy",
        data_sha256="0",
        models={},
        goal=Goal(0.99, 0.75, 40.0),
        reached=False,
        trials=3,
        complete=2,
        start={"ratio": 0.3},
        chosen={"ratio": 0.2},
        held_out_by="images",
        comparison=tuple(row(i, s) for s in ("start", "chosen") for i in ("tuning", "held-out")),
    )
    return replace(result, **changes)


def test_a_goal_that_was_not_reached_is_said_with_the_best_figure() -> None:
    figures = outcome()
    said = " ".join(verdict(figures))
    assert "Goal not reached: the nearest is 75.0% with 30.0 calls" in said and "99.0% flipped" in said
    assert "within 40 calls" in said and "ratio = 0.2" in said
    assert [column.header for column in table(figures, "given").columns].count("judge") == 0


def test_names_of_data_and_config_are_not_read_as_markup(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = outcome(data="x[/y].npz", config=Path("[bold]z.toml"))
    monkeypatch.setattr("cfdiff.tune.run.tune", lambda settings, progress: figures)
    monkeypatch.setattr(sys, "argv", ["cfdiff", "tune"])
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit) as ended:
        program.main()
    printed = capsys.readouterr().out
    assert not ended.value.code and "x[/y].npz: default settings" in printed and "[bold]z.toml" in printed


def test_a_result_reads_as_lines_and_leaves_out_of_json_what_was_not_measured() -> None:
    result = outcome(comparison=(row("tuning", "chosen"), row("held-out", "chosen", flipped_judge=0.5)))
    assert repr(result).splitlines()[:2] == [
        "TuneResult: ratio=0.2, of 3 trials; goal not reached",
        "  tuning, from negative, chosen, n = 1: flipped 75.0% (checker), mean |difference| 0.0100, 30.0 calls",
    ]
    told = result.as_json()
    assert "flipped_judge" not in told["comparison"][0] and told["comparison"][1]["flipped_judge"] == 0.5
    assert told["comparison"][0]["from"] == "negative" and told["goal"]["reached"] is False
    assert result.of("held-out", "chosen")["negative"].flipped_judge == 0.5
