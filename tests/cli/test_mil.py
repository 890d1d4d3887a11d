from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from mil_toy import export, toy_bags, translated

from cfdiff.cli.app import main
from cfdiff.models.checkpoint import read_card

pytest.importorskip("torchmil")


def cfdiff(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["cfdiff", *arguments])
    try:
        main()
    except SystemExit as ended:
        return ended.code
    return 0


def test_train_evaluate_and_explain_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    data, test = export(toy_bags(20, 0), tmp_path / "bags"), export(toy_bags(8, 5, name="test"), tmp_path / "test")
    quick = ["--steps", "3", "--width", "8", "--device", "cpu", "--threads", "1"]
    assert cfdiff(monkeypatch, "mil", "train", "--data", str(data), *quick) == 0
    assert "bags at several mixes (swap)" in capsys.readouterr().err
    where = ["--model", "runs/mil-bags/model.safetensors", "--data", str(test), "--device", "cpu", "--threads", "1"]
    assert cfdiff(monkeypatch, "mil", "evaluate", *where, "--json") == 0
    assert json.loads(capsys.readouterr().out)["bags"] == 8
    assert cfdiff(monkeypatch, "mil", "explain", *where) == 0
    said = capsys.readouterr().out
    assert "AUPRC of the attention" in said and "dose-response.png" in said
    assert (tmp_path / "runs" / "mil-explain" / "explain.json").is_file()


def test_mixtures_are_given_again_for_more_or_with_commas_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of two --mixtures only the last was trained on, without a word."""
    monkeypatch.chdir(tmp_path)
    bags = toy_bags(20, 0)
    data, odd = export(bags, tmp_path / "bags"), bags.series[1::2]
    for name, part in (("one", bags.series[::2]), ("two", odd), ("a,b", odd)):
        export(translated(replace(bags, series=part), 0), tmp_path / name)
    quick = ["mil", "train", "--data", str(data), "--steps", "1", "--width", "8", "--device", "cpu", "--threads", "1"]
    for given in (["one", "two"], ["one,two"], ["one", "a,b"]):
        words = [word for one in given for word in ("--mixtures", one)]
        assert cfdiff(monkeypatch, *quick, *words, "--out", "m", "--force") == 0
        expected = ["one", "a,b"] if given[-1] == "a,b" else ["one", "two"]
        assert "+".join(expected) in capsys.readouterr().err
        assert read_card(tmp_path / "m" / "model.safetensors").training["settings"]["mixtures"] == expected
    assert cfdiff(monkeypatch, *quick, "--mixtures", "one", "--mixtures", "swap") == 2
    assert "swap stands alone" in capsys.readouterr().err


def test_a_mistake_is_one_sentence_with_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    data = export(toy_bags(4, 0), tmp_path / "bags")
    for words, said in (
        (["train", "--data", str(data), "--mixtures", "nowhere.h5"], "does not exist"),
        (["train", "--data", str(data), "--mixtures", "bags,"], "'bags,' holds an empty name"),
        (["train", "--data", str(data), "--mixtures", ""], "'.' holds an empty name"),
        (["train", "--data", str(data), "--losses", "rank+magic"], "no loss of mixtures 'magic'"),
        (["evaluate"], "make one with cfdiff mil train"),
    ):
        assert cfdiff(monkeypatch, "mil", *words) == 2
        error = capsys.readouterr().err
        assert error.startswith("Error: ") and said in error and error.count("\n") == 1
