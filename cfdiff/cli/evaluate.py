"""cfdiff evaluate."""

from __future__ import annotations

import json
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.text import Text

from cfdiff.cli import tables
from cfdiff.cli.options import command
from cfdiff.cli.tables import PlainTable
from cfdiff.evaluate.settings import EvaluateSettings
from cfdiff.progress import progress_bar

DOC = """Measure a finished run: valid, minimal, faithful, realistic, and in the right place?

Everything is measured on the saved images, over all samples and, beside it, over those that flipped. What each figure
means and how to read it: docs/evaluate.md."""
ARROWS = {"higher": "↑", "lower": "↓", None: ""}


@command(
    EvaluateSettings,
    DOC,
    names={
        "json_": "--json",
        "faithfulness": "--faithfulness/--no-faithfulness",
        "realism": "--realism/--no-realism",
    },
    arguments=("run",),
)
def evaluate(settings: EvaluateSettings) -> None:
    from cfdiff.evaluate.run import evaluate as run

    with progress_bar("reading") as advance:
        figures = run(settings, advance)
    if settings.json_:
        print(json.dumps(figures))
    else:
        tables.show(table(figures))


def table(figures: dict[str, Any]) -> PlainTable:
    """The figures as one reads them: a group a question, with intervals; ↑ higher is better, ↓ lower."""
    by = figures["flipped_by"]
    edited = " edited" if "bags" in figures["sections"] else ""
    title = f"{figures['result']}: {figures['direction']}, {figures['images']}{edited} images"
    shown = PlainTable(title=title, caption=_caption(figures), box=SIMPLE_HEAD)
    shown.add_column("", ratio=1)
    shown.add_column("all [95 % interval]", justify="right", no_wrap=True)
    if by is not None:
        shown.add_column(f"{figures['flipped']} flipped, by the {by}", justify="right", no_wrap=True)
    columns = {"all": figures["images"]} | ({} if by is None else {"flipped": figures["flipped"]})
    for section in figures["sections"].values():
        shown.add_section()
        by_whom = f" by {section['judge']}" if "judge" in section else ""
        shown.add_row(Text.assemble((section["question"], "bold"), by_whom))
        if "not_measured" in section:
            shown.add_row(f"not measured ({section['not_measured']})")
        for figure in section["figures"].values():
            share = figure.get("unit") == "share"
            label = f"{figure['label']} {ARROWS[figure['better']]}".rstrip()
            shown.add_row(label, *[_cell(figure[c], share, n) for c, n in columns.items()])
    return shown


def _cell(entry: dict[str, Any] | None, share: bool, usual: int) -> str:
    if entry is None:
        return ""
    if entry["value"] is None:
        return "–"
    between = "" if entry["low"] is None else f" [{_number(entry['low'], share)}, {_number(entry['high'], share)}]"
    n = "" if entry["n"] == usual else f"\n(n = {entry['n']})"
    return f"{_number(entry['value'], share)}{' %' if share else ''}{between}{n}"


def _number(value: float, share: bool) -> str:
    if share:
        return f"{100 * value:.1f}"
    return f"{value:.4f}" if abs(value) < 0.1 else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _caption(figures: dict[str, Any]) -> str:
    groups = figures["groups"]
    drawn = "images" if groups is None else f"{groups} groups"
    drawn += "; Bags: over bags" if "bags" in figures["sections"] else ""
    words = [f"Intervals: bootstrap over {drawn}; FID, KID, sFID: 1.96 deviations of random draws of the images."]
    words.append("(n = ...): images of a figure that is not of the whole column.")
    where = figures["sections"].get("where", {})
    if "rule" in where:
        words.append(where["rule"])
    return " ".join(words)
