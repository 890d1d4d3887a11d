"""cfdiff models: what only the command line does."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cfdiff.cli.app import app, main


@pytest.mark.parametrize(
    "words", [("inspect", "FOLDER"), ("inspect", "missing"), ("import", "adm", "missing.pt", "--image_size", "8")]
)
def test_a_mistake_is_one_line_and_exit_code_2(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["cfdiff", "models", *(str(tmp_path) if w == "FOLDER" else w for w in words)])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr().err
    assert ended.value.code == 2 and told.startswith("Error: ") and told.count("\n") == 1


def test_flags_are_words_as_in_guided_diffusion_and_the_size_is_needed() -> None:
    run = CliRunner().invoke(app, ["models", "import", "adm", "--help"])
    assert "One of True, False" in " ".join(run.output.replace("│", " ").split()) and "[required]" in run.output
    run = CliRunner().invoke(app, ["models", "import", "adm", "a.pt", "--class_cond", "maybe", "--image_size", "8"])
    assert "class_cond = 'maybe' is not possible" in str(run.exception)
    run = CliRunner().invoke(app, ["models", "import", "adm", "a.pt"])
    assert "image_size is missing" in str(run.exception)
