from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cfdiff.cli import app as program
from cfdiff.store.bags import open_bags


@pytest.fixture
def cfdiff(toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Callable[..., tuple[int, Any]]:
    """Run `cfdiff bag` on the toys; its exit code and what it prints."""

    def run(*arguments: Any) -> tuple[int, Any]:
        usual = ["--data", toy.data, "--weights", toy.weights, "--out", tmp_path / "bags.h5", "--device", "cpu"]
        quick = ["--steps", 4, "--depth", 0.4, "--retries", 0, "--on-fail", "keep", "--bags", 1]
        monkeypatch.setattr(sys, "argv", ["cfdiff", "bag", *map(str, [*usual, *quick, *arguments])])
        with pytest.raises(SystemExit) as ended:
            program.main()
        return int(ended.value.code or 0), capsys.readouterr()

    return run


def test_a_bag_is_made_exported_drawn_and_summed_up_as_json(cfdiff: Any, tmp_path: Path) -> None:
    code, printed = cfdiff("--mix", "0.67", "--json", "--export", "npz", tmp_path / "npz", "--preview", tmp_path / "p")
    assert code == 0, printed.err
    assert json.loads(printed.out)["translated"] == 1
    with open_bags(tmp_path / "bags.h5") as bags:
        assert bags[0].wanted == 4 and bags.settings["mix"] == "0.67"
    assert (tmp_path / "npz" / "P0_mix-0.67.npz").is_file() and (tmp_path / "p" / "P0_mix-0.67.png").is_file()


def test_a_table_is_printed_where_no_json_is_asked_for(cfdiff: Any) -> None:
    code, printed = cfdiff("--mix", "0.5")
    assert code == 0, printed.err
    assert "1 bags, instance mode" in printed.out and "changed outside the edits" in printed.out


@pytest.mark.parametrize(
    "arguments",
    [("--mix", "2"), ("--export", "zip", "x"), ("--bag-size", "0"), ("--group-key", "slide"), ("--on-fail", "cry")],
)
def test_a_mistake_is_one_line_and_exit_code_2(cfdiff: Any, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    code, printed = cfdiff(*arguments)
    assert code == 2
    assert printed.err.startswith("Error: ") and printed.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
