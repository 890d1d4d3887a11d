from __future__ import annotations

import subprocess
import sys
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
