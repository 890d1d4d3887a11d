"""cfdiff show."""

from __future__ import annotations

from cfdiff.cli.options import command
from cfdiff.figures.settings import ShowSettings

DOC = """Draw some images of a run as a panel for a paper, or one bag as a sheet.

With no choice the images are spread evenly over the run, failures as they come."""


@command(ShowSettings, DOC, names={"out": "--out -o"}, arguments=("run",))
def show(settings: ShowSettings) -> None:
    from cfdiff.figures.show import show as run

    done = run(settings)
    print(done.figure if done.shown == done.of else f"{done.figure}  ({done.shown} of {done.of})")
