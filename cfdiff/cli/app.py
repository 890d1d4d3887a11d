"""The `cfdiff` program: its commands, imported only when one of them is used, and how it ends."""

from __future__ import annotations

import importlib
import io
import os
import sys
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from cfdiff import stopping
from cfdiff.api import TASKS
from cfdiff.cli.memory import keep_freed_memory
from cfdiff.errors import UserError
from cfdiff.files import FAR, FULL, UNSEEN, far, unseen
from cfdiff.version import __version__


class Entry(NamedTuple):
    """Where a command lives: `attribute` of `module` is a function or a `typer.Typer`."""

    module: str
    attribute: str
    summary: str
    panel: str


# In the order of `--help`; the summaries of tasks stand with them, where no torch is imported.
COMMANDS = {
    "fit": Entry("cfdiff.cli.fit", "fit", TASKS["fit"].summary, "Use"),
    "translate": Entry("cfdiff.cli.translate", "translate", TASKS["translate"].summary, "Use"),
    "generate": Entry("cfdiff.cli.generate", "generate", TASKS["generate"].summary, "Use"),
    "bag": Entry("cfdiff.cli.bag", "bag", TASKS["bag"].summary, "Use"),
    "doctor": Entry("cfdiff.cli.doctor", "doctor", TASKS["doctor"].summary, "Use"),
    "tune": Entry("cfdiff.cli.tune", "tune", TASKS["tune"].summary, "Use"),
    "evaluate": Entry("cfdiff.cli.evaluate", "evaluate", TASKS["evaluate"].summary, "Use"),
    "join": Entry("cfdiff.cli.join", "join", TASKS["join"].summary, "Use"),
    "report": Entry("cfdiff.cli.report", "report", TASKS["report"].summary, "Use"),
    "show": Entry("cfdiff.cli.show", "show", TASKS["show"].summary, "Use"),
    "export": Entry("cfdiff.cli.export", "export", TASKS["export"].summary, "Use"),
    "zero-shot": Entry("cfdiff.cli.zero_shot", "zero_shot", TASKS["zero_shot"].summary, "Use"),
    "mil": Entry("cfdiff.cli.mil", "app", "Train, measure and explain bag models of controlled mixtures.", "Use"),
    "data": Entry("cfdiff.cli.data", "app", "List, inspect, convert, split and caption image data.", "Use"),
    "models": Entry("cfdiff.cli.models", "app", "Inspect, describe and import models that others made.", "Use"),
    "train-autoencoder": Entry("cfdiff.cli.train", "train_autoencoder", TASKS["train_autoencoder"].summary, "Train"),
    "train-diffusion": Entry("cfdiff.cli.train", "train_diffusion", TASKS["train_diffusion"].summary, "Train"),
    "train-classifier": Entry("cfdiff.cli.train", "train_classifier", TASKS["train_classifier"].summary, "Train"),
    "adapt": Entry("cfdiff.cli.train", "adapt", TASKS["adapt"].summary, "Train"),
    "train-clip": Entry("cfdiff.cli.train", "train_clip", TASKS["train_clip"].summary, "Train"),
    "train-control": Entry("cfdiff.cli.train", "train_control", TASKS["train_control"].summary, "Train"),
    "supervise": Entry("cfdiff.cli.supervise", "supervise", TASKS["supervise"].summary, "Train"),
}


class LazyCommand(TyperCommand):
    """Stands for a command in the list of commands, and becomes it when it is called."""

    def __init__(self, name: str, entry: Entry) -> None:
        super().__init__(name, help=entry.summary, rich_help_panel=entry.panel)
        self.entry = entry

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        return self.load().make_context(info_name, args, parent=parent, **extra)

    def load(self) -> Any:
        """Import the module and build the real command."""
        target = getattr(importlib.import_module(self.entry.module), self.entry.attribute)
        if not isinstance(target, typer.Typer):
            function, target = target, _typer()
            target.command(self.name)(function)
        command = typer.main.get_command(target)
        command.name = self.name
        return command


class LazyGroup(TyperGroup):
    """The commands of `COMMANDS`, in that order."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return LazyCommand(cmd_name, COMMANDS[cmd_name]) if cmd_name in COMMANDS else None


def _typer(**options: Any) -> typer.Typer:
    return typer.Typer(
        add_completion=False,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        **options,
    )


app = _typer(cls=LazyGroup, no_args_is_help=True)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"cfdiff {__version__}")
        raise typer.Exit()


@app.callback()
def cfdiff(
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
    ),
) -> None:
    """What would have to change for this negative image to be a positive, and the reverse?

    A diffusion model keeps the answer on the data manifold; the difference from the input explains.
    """


def main() -> None:
    """Run the program; it exits with 0, with 2 for a user's mistake (one line), with 130 for Ctrl-C or 143 for SIGTERM.

    What a pipe no longer takes, because its reader has ended (`| head`), is nobody's mistake: 141, as of any program.
    """
    keep_freed_memory()
    say_anything()
    stopping.heed()
    out = sys.stdout
    try:
        try:
            app(prog_name="cfdiff")
        finally:
            if out is not None:  # None where it is closed
                out.flush()  # here, where it can be said, and not when Python ends
    except SystemExit:
        if sys.stdout is not out:  # typer met a pipe that closed, put another in its place, and ends with 1
            sys.exit(141)
        raise
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it closes it
        sys.exit(141)
    except OSError as error:
        if error.errno in UNSEEN and error.filename is not None:
            print(f"Error: {UserError(unseen(error))}", file=sys.stderr)
            sys.exit(2)
        if error.errno in FAR and error.filename is None:  # of an open file, whose name is not told
            print(f"Error: {UserError(f'A file {far(error)}.')}", file=sys.stderr)
            sys.exit(2)
        if error.errno not in FULL or error.filename is not None:  # of files it was said where they were written
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"Error: Cannot write what is said here ({error.strerror}): free space where it goes.", file=sys.stderr)
        sys.exit(2)
    except stopping.Stopped:
        print("Stopped, as told (SIGTERM): the same command again goes on with what is not finished.", file=sys.stderr)
        sys.exit(stopping.EXIT_CODE)


def say_anything() -> None:
    """Print names in any script to any terminal: what its encoding lacks comes as an escape and not as a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
