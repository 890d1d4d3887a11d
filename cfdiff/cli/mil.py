"""`cfdiff mil`: train a bag model on mixtures, measure it, and see what it looks at."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

import typer

from cfdiff.api import TASKS
from cfdiff.cli import tables
from cfdiff.cli.options import command
from cfdiff.cli.tables import PlainTable
from cfdiff.mil.settings import MilEvaluateSettings, MilExplainSettings, MilTrainSettings
from cfdiff.progress import progress_bar

if TYPE_CHECKING:
    from cfdiff.mil.measure import Measured

HELP = "Train bag models (multiple-instance learning) on mixtures made under control; measure and explain them."
app = typer.Typer(no_args_is_help=True, add_completion=False, help=HELP)


@command(
    MilTrainSettings,
    TASKS["mil_train"].summary + "\n\nThe same command again continues where it stopped. More: docs/mil.md.",
    names={
        "half": "--half/--full",
        "frozen": "--frozen/--learning",
        "balance": "--balance/--no-balance",
        "permute": "--permute",
    },
)
def train(settings: MilTrainSettings) -> None:
    from cfdiff.mil.train import mil_train

    mil_train(settings)


@command(MilEvaluateSettings, TASKS["mil_evaluate"].summary, names={"json_": "--json"})
def evaluate(settings: MilEvaluateSettings) -> None:
    from cfdiff.mil.evaluate import mil_evaluate

    with progress_bar("opening") as advance:
        found = mil_evaluate(settings, advance)
    if settings.json_:
        print(json.dumps(found.as_json()))
    else:
        tables.show(_table(found.title, found.figures.values()), *found.notes)


@command(MilExplainSettings, TASKS["mil_explain"].summary, names={"json_": "--json"})
def explain(settings: MilExplainSettings) -> None:
    from cfdiff.mil.explain import mil_explain

    with progress_bar("opening") as advance:
        found = mil_explain(settings, advance)
    if settings.json_:
        print(json.dumps(found.as_json()))
    else:
        pictures = ", ".join(str(path) for path in found.pictures)
        shown = (f"pictures: {pictures}",) if pictures else ()
        tables.show(_table(found.title, [*found.where.values(), *found.dose.values()]), *found.notes, *shown)


app.command("train")(train)
app.command("evaluate")(evaluate)
app.command("explain")(explain)


def _table(title: str, figures: Iterable[Measured]) -> PlainTable:
    """Figures with their 95 % intervals over groups; ↑ higher is better, ↓ lower."""
    shown = PlainTable("", "value [95 % interval]", "bags", title=title, caption="Intervals: over groups (patients).")
    for one in figures:
        value = "–" if one.value is None else f"{one.value:.3f}"
        between = "" if one.interval is None else " [" + ", ".join(f"{end:.3f}" for end in one.interval) + "]"
        shown.add_row(tables.with_arrow(one.label, one.better), value + between, str(one.n))
    return shown
