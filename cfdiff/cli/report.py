"""cfdiff report."""

from __future__ import annotations

from cfdiff.cli.options import command
from cfdiff.report.settings import ReportSettings

DOC = """Show a run as one HTML page: figures, plots, and a gallery of its images.

The page holds everything and loads nothing: it can be mailed, archived and opened in any browser."""


@command(ReportSettings, DOC, names={"out": "--out -o"}, arguments=("run",))
def report(settings: ReportSettings) -> None:
    from cfdiff.report.run import report as run

    print(run(settings).page)
