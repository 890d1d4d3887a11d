from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import typer

from cfdiff import __version__
from cfdiff.cli import app as program
from cfdiff.errors import UserError


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of commands that stands in for the real ones."""
    module = ModuleType("stand_in")
    monkeypatch.setitem(sys.modules, "stand_in", module)
    entries = {name: program.Entry("stand_in", name, f"Do {name}.", "Use") for name in ("one", "sub")}
    monkeypatch.setattr(program, "COMMANDS", entries)
    return module


def _exit_code(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["cfdiff", *arguments])
    with pytest.raises(SystemExit) as ended:
        program.main()
    return ended.value.code


def test_help_and_version_do_not_import_torch() -> None:
    for option in ("--help", "--version"):
        code = (
            "import sys; from cfdiff.cli.app import main; sys.argv[1:] = [sys.argv[1]]\n"
            "try: main()\nfinally: assert not {'torch', 'timm', 'h5py', 'numpy'} & set(sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code, option], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "translate" in done.stdout or done.stdout == f"cfdiff {__version__}\n"


def test_a_users_mistake_is_one_line_and_exit_code_2(
    commands: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def one() -> None:
        raise UserError("no [bold]images[/bold] in /x: give another folder.")

    commands.one = one
    assert _exit_code(monkeypatch, "one") == 2
    assert capsys.readouterr().err == "Error: no [bold]images[/bold] in /x: give another folder.\n"


def test_ctrl_c_ends_with_130(commands: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def one() -> None:
        raise KeyboardInterrupt

    commands.one = one
    assert _exit_code(monkeypatch, "one") == 130


def test_options_reach_a_command_and_a_command_of_a_group(
    commands: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def one(size: int = typer.Option(1)) -> None:
        seen.append(size)

    commands.one = one
    commands.sub = typer.Typer()
    commands.sub.command("ls")(lambda: seen.append("ls"))
    commands.sub.command("other")(lambda: None)
    assert _exit_code(monkeypatch, "one", "--size", "7") == 0
    assert _exit_code(monkeypatch, "sub", "ls") == 0
    assert seen == [7, "ls"]


def test_an_unknown_command_or_option_is_exit_code_2(commands: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    commands.one = lambda: None
    assert _exit_code(monkeypatch, "nonsense") == 2
    assert _exit_code(monkeypatch, "one", "--nonsense") == 2


def test_every_command_in_the_list_can_be_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in program.COMMANDS:
        assert _exit_code(monkeypatch, name, "--help") == 0
        assert f"Usage: cfdiff {name}" in capsys.readouterr().out


LONG = "x" * 300


@pytest.mark.parametrize(
    "words",
    [
        ["translate", "--judge", LONG],
        ["translate", "--diffusion", LONG],
        ["translate", "--weights", LONG],
        ["evaluate", LONG],
        ["report", LONG],
        ["show", LONG],
        ["models", "inspect", LONG],
        ["models", "describe", LONG, "--classes", "0,1", "--output", "logits"],
        ["data", "convert", "deeppcb", f"{LONG}.npz"],
        ["data", "split", "deeppcb", "--out", f"{LONG}.csv"],
        ["data", "inspect", "deeppcb", "--splits", f"{LONG}.csv"],
    ],
)
def test_a_name_that_no_file_can_have_is_one_sentence_wherever_it_is_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert _exit_code(monkeypatch, *words) == 2
    said = capsys.readouterr().err
    assert said.startswith("Error: ") and said.count("\n") == 1 and "too long" in said


def test_a_place_that_is_no_file_is_not_replaced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe.npz"
    os.mkfifo(pipe)
    assert _exit_code(monkeypatch, "data", "convert", "deeppcb", str(pipe), "--force") == 2
    assert "no file that can be replaced" in capsys.readouterr().err and stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.parametrize(
    "words", [["--ratio", "1e308"], ["--w", "1e39"], ["--ratio", "inf", "--out", LONG], ["--limit", str(10**20)]]
)
def test_numbers_that_nobody_means_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert _exit_code(monkeypatch, "translate", *words) == 2
    said = capsys.readouterr().err
    assert said.startswith("Error: ") and ("no setting needs a number beyond" in said) == ("inf" not in words)


def test_a_disk_that_does_not_answer_is_one_line(
    commands: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def one() -> None:
        raise OSError(errno.EIO, "Input/output error")

    commands.one = one
    assert _exit_code(monkeypatch, "one") == 2
    assert capsys.readouterr().err.startswith("Error: A file cannot be read from its disk (Input/output error): check")


@pytest.mark.parametrize("columns", ["0", "1"])
def test_a_terminal_of_no_width_shows_tables(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert _exit_code(monkeypatch, "data", "ls") in (0, None)
    assert "malaria-cells" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["report", "show", "evaluate", "export", "join"])
@pytest.mark.parametrize("run", ["", "."])
def test_a_run_that_is_an_empty_name_or_a_folder_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str, run: str
) -> None:
    """As of a variable of the shell that is not set."""
    monkeypatch.chdir(tmp_path)
    data = ("--data", "malaria-cells") if command == "export" else ()
    assert _exit_code(monkeypatch, command, run, *data) == 2
    said = capsys.readouterr().err
    assert said.startswith("Error: ") and said.count("\n") == 1 and ("is a folder" in said or command == "join")
