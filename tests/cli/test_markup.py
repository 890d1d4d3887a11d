"""No text of the data is ever markup: classes, ids, groups and files that look like rich's come out as they stand."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cfdiff.cli import app as program
from cfdiff.doctor.run import CHECKS

Run = Callable[..., str]

NEGATIVE, POSITIVE = "[/a]", "[bold]x"
GROUP = "[link=https://example.org]p[/red]"


@pytest.fixture
def printed(
    toy: Any, toys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run `cfdiff` on images whose every name is markup; what it prints where it ends well."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "240")
    n = 24
    labels = np.array([NEGATIVE, POSITIVE])[np.arange(n) % 2]
    groups = np.array([f"{GROUP}{i // 6}" for i in range(n)])
    ids = np.array([f"[/{i}]:smile:" for i in range(n)])
    toys.write_npz(Path("[red]d.npz"), n, labels=labels, id=ids, patient=groups, split=np.full(n, "val"))

    def run(*arguments: Any, edits: bool = True) -> str:
        usual = ["--data", "[red]d.npz", "--negative", NEGATIVE, "--positive", POSITIVE, "--weights", toy.weights]
        usual += ["--device", "cpu", "--steps", 3, "--retries", 0, "--batch-size", 8]
        monkeypatch.setattr(sys, "argv", ["cfdiff", *map(str, [*arguments, *(usual if edits else [])])])
        with pytest.raises(SystemExit) as ended:
            program.main()
        told = capsys.readouterr()
        assert ended.value.code in (0, None), told.err
        return told.out

    return run


def test_translate_evaluate_report_and_show_print_names_as_they_stand(printed: Run) -> None:
    said = printed("translate", "--from", NEGATIVE, "--limit", 4, "--out", "[i]r.h5")
    assert f"negative ({NEGATIVE}) -> positive ({POSITIVE})" in said and "[i]r.h5" in said
    said = printed("evaluate", "[i]r.h5", "--no-realism", "--no-faithfulness", "--bootstrap", 20, edits=False)
    assert f"[i]r.h5: negative ({NEGATIVE}) -> positive ({POSITIVE})" in said and "[95 % interval]" in said
    assert "[i]r.html" in printed("report", "[i]r.h5", edits=False)
    assert "[i]r-panel.png" in printed("show", "[i]r.h5", edits=False)


def test_bag_prints_names_as_they_stand(printed: Run) -> None:
    assert "[i]b.h5" in printed("bag", "--mix", 0.7, "--bags", 1, "--out", "[i]b.h5", "--split", "val")


def test_doctor_prints_names_as_they_stand(printed: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    some = tuple(check for check in CHECKS if check.name in ("size", "values", "classes", "unseen images"))
    monkeypatch.setattr("cfdiff.doctor.run.CHECKS", some)
    said = printed("doctor", "--limit", 8, "--split", "val")
    assert "[red]d.npz, 8 images" in said and f"negative {NEGATIVE}" in said and f"positive {POSITIVE}" in said


def test_tune_prints_names_as_they_stand(printed: Run) -> None:
    said = printed("tune", "--images", 2, "--trials", 1, "--from", POSITIVE, "--out", "[u]t.toml", "--tune", "ratio")
    assert "[red]d.npz: given settings" in said and "translate --config [u]t.toml" in said


def test_a_mistake_prints_names_as_they_stand(printed: Run) -> None:
    with pytest.raises(AssertionError, match=r"\[/b\]"):
        printed("translate", "--from", "[/b]")
