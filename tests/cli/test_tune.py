from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from cfdiff.cli import app as program
from cfdiff.cli.tune import front_table, table, verdict
from cfdiff.tune.result import Measured, Member, TuneResult
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
    for words in ("given", "chosen", "checker", "judge", "tuning", "held-out", "--config tuned.toml", "Chosen of 2",
                  "Pareto front", "--pick", "There is no verifier"):  # fmt: skip
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
    usual = (images, settings, "negative", 1, None, "images", "checker", 0.75, (0.4, 0.9), 0.01, None, 30.0)
    return Measured(*usual, **figures)


def outcome(**changes: Any) -> TuneResult:
    """A search that missed its goal."""
    result = TuneResult(
        config=Path("tuned.toml"),
        plot=Path("tuned.png"),
        data="toy",
        data_sha256="0",
        models={},
        decided_by="checker",
        goal=Goal(0.99, 0.75, 40.0),
        reached=False,
        trials=3,
        complete=2,
        started_from="default",
        start={"ratio": 0.3},
        chosen={"ratio": 0.2},
        trial=2,
        held={"scale": 30.0},
        front=(
            Member(1, 2, {"ratio": 0.2}, 0.75, (0.4, 0.9), 0.01, 30.0, 0.014, False),
            Member(2, 0, {"ratio": 0.3}, 0.8, (0.4, 0.9), 0.02, 30.0, 0.028, False),
        ),
        held_out_by="images",
        comparison=tuple(row(i, s) for s in ("start", "chosen") for i in ("tuning", "held-out")),
    )
    return replace(result, **changes)


def test_a_goal_that_was_not_reached_is_said_with_the_best_figure() -> None:
    figures = outcome()
    said = " ".join(verdict(figures))
    assert "Goal not reached: the nearest is 75.0% with 30.0 calls" in said and "99.0% flipped" in said
    assert "within 40 calls" in said and "ratio = 0.2" in said
    assert [str(column.header) for column in table(figures).columns].count("judge %") == 0


def test_what_an_edit_takes_is_known_where_trials_were_timed() -> None:
    assert outcome(pace=0.5).seconds_per_image("negative") == 15
    assert outcome().seconds_per_image("negative") is None


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


def text(shown: Any, width: int) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(shown)
    return console.export_text()


def test_the_front_is_a_table_that_says_which_is_the_start_and_which_the_choice() -> None:
    for width in (160, 60):
        shown = " ".join(text(front_table(outcome()), width).split())
        for words in ("75.0", "40.0-90.0", "0.0100", "ratio = 0.2 (chosen)", "0.0200", "default settings"):
            assert words in shown
    told = outcome().as_json()["front"]
    assert [member["k"] for member in told] == [1, 2] and told[0]["values"] == {"ratio": 0.2}


def test_verifier_checker_and_judge_stand_side_by_side_and_who_decides_is_said() -> None:
    figures: dict[str, Any] = {"flipped_checker": 0.9, "flipped_checker_95": (0.8, 1.0)}
    figures |= {"flipped_judge": 0.5, "flipped_judge_95": (0.3, 0.7)}
    verified = replace(row("held-out", "chosen", **figures), decided_by="verifier")
    result = outcome(decided_by="verifier", comparison=(replace(verified, images="tuning"), verified))
    heads = [str(column.header) for column in table(result).columns]
    assert heads[3:6] == ["checker %", "verifier %", "judge %"]
    assert "flipped 75.0% (verifier), 90.0% (checker), 50.0% (judge)" in repr(result)
    said = " ".join(verdict(result))
    assert "(verifier at 0.75 or more)" in said and "There is no verifier" not in said
    assert "There is no verifier: the checker that steers decides too" in " ".join(verdict(outcome()))


def test_a_recipe_and_a_picked_member_are_called_so() -> None:
    said = " ".join(verdict(outcome(config=Path("runs/cells/edit.toml"), picked=2)))
    assert "taken with --weights runs/cells" in said and "Picked of 3" in said and "this one is 75.0%" in said
    assert outcome().recipe == {"ratio": 0.2, "scale": 30.0}


def test_a_member_is_picked_from_the_search_that_was_made(cfdiff: Run, tmp_path: Path) -> None:
    code, _, said = cfdiff("--pick", 1)
    assert code == 2 and "leave --pick out first" in said
    assert cfdiff("--flip", 0.5, "--margin", 0.5)[0] == 0
    code, printed, said = cfdiff("--flip", 0.5, "--margin", 0.5, "--pick", 1, "--force", "--json")
    figures = json.loads(printed)
    assert code == 0 and figures["picked"] == 1 and figures["chosen"] == figures["front"][0]["values"]
    assert (
        "not tried on held-out images" in said and "picked by hand: member 1" in (tmp_path / "tuned.toml").read_text()
    )
    code, _, said = cfdiff("--flip", 0.5, "--margin", 0.5, "--pick", 99, "--force")
    assert code == 2 and "--pick one of 1 to" in said
