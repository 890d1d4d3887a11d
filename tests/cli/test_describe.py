"""`cfdiff models describe`, and what a mistake with a borrowed classifier gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from cfdiff.cli.app import app
from cfdiff.models.description import read_description

TOLD = ["--classes", "248,250", "--output", "logits", "--normalisation", "imagenet", "--channels", "3", "--size", "224"]


def describe(*words: Any) -> Any:
    return CliRunner().invoke(app, ["models", "describe", *map(str, words)])


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    torch.jit.script(torch.nn.Flatten()).save(str(tmp_path / "mine.pt"))
    return tmp_path / "mine.pt"


def test_what_is_told_is_written_beside_the_model_and_shown(mine: Path) -> None:
    result = describe(mine, *TOLD, "--json")
    assert result.exit_code == 0, result.output
    told = {"classes": "248,250", "output": "logits", "normalisation": "imagenet", "channels": 3, "size": 224}
    assert read_description(mine) == told
    shown = json.loads(result.output)
    assert shown["description"] == "mine.toml" and shown["classes"] == [[248], [250]] and shown["size"] == [224, 224]
    assert "imagenet" in describe(mine).output, "asked again, it says what stands there"


def test_more_is_added_to_what_stands_there(mine: Path) -> None:
    describe(mine, *TOLD)
    assert describe(mine, "--normalisation", "0.5/0.25", "--against", "pair", "--names", "a,b").exit_code == 0
    assert read_description(mine) == {
        **{"classes": "248,250", "output": "logits", "normalisation": "0.5/0.25", "channels": 3, "size": 224},
        **{"against": "pair", "names": "a,b"},
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "nobody says classes, output, normalisation, channels and size"),
        (TOLD[2:], "nobody says classes"),
        ([*TOLD, "--output", "softmax"], "output = 'softmax'"),
        ([*TOLD, "--channels", "two"], "channels = 'two'"),
        ([*TOLD, "--kwargs", "{"], "--kwargs wants a JSON object"),
    ],
)
def test_nothing_is_written_that_is_not_whole(mine: Path, words: list[str], said: str) -> None:
    result = describe(mine, *words)
    assert said in str(result.exception) and "\n" not in str(result.exception)
    assert list(mine.parent.iterdir()) == [mine]


def test_files_that_are_none_or_need_none(tmp_path: Path, toy: Any) -> None:
    assert "no model" in str(describe(tmp_path / "gone.pt", *TOLD).exception)
    (tmp_path / "mine.txt").write_text("")
    assert "no classifier that cfdiff can read" in str(describe(tmp_path / "mine.txt", *TOLD).exception)
    assert "needs no description" in str(describe(toy.weights / "checker.safetensors", *TOLD).exception)


def test_the_group_stands_in_the_programs_help() -> None:
    assert "models" in CliRunner().invoke(app, ["--help"]).output


def test_a_checker_without_a_description_is_asked_for_one(toy: Any, tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, tmp_path / "theirs.safetensors")
    words = ["translate", "--data", toy.data, "--weights", toy.weights, "--checker", tmp_path / "theirs.safetensors"]
    result = CliRunner().invoke(app, list(map(str, words)))
    assert "cfdiff models describe theirs.safetensors --classes 0,1" in str(result.exception)
