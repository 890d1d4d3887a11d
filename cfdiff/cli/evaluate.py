"""cfdiff evaluate."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.text import Text

from cfdiff.cli import tables
from cfdiff.cli.options import command
from cfdiff.cli.tables import PlainTable
from cfdiff.evaluate.settings import EvaluateSettings
from cfdiff.progress import progress_bar

if TYPE_CHECKING:
    from cfdiff.evaluate.result import Entry, Evaluation, TwinsOfGroup

DOC = """Measure a finished run: valid, minimal, faithful, realistic, and in the right place?

Everything is measured on the saved images, over all samples and, beside it, over those that flipped. What each figure
means and how to read it: docs/evaluate.md."""
SHOWN_GROUPS = 12
"""With more groups the table would be longer than a page."""


@command(
    EvaluateSettings,
    DOC,
    names={
        "json_": "--json",
        "faithfulness": "--faithfulness/--no-faithfulness",
        "realism": "--realism/--no-realism",
        "pair": "--pair/--no-pair",
    },
    arguments=("run",),
)
def evaluate(settings: EvaluateSettings) -> None:
    from cfdiff.evaluate.run import evaluate as run

    with progress_bar("reading") as advance:
        found = run(settings, advance)
    if settings.json_:
        print(json.dumps(found.as_json()))
    else:
        tables.show(table(found))


def table(found: Evaluation) -> PlainTable:
    """The figures as one reads them: a group a question, with intervals; ↑ higher is better, ↓ lower."""
    by = found.flipped_by
    edited = " edited" if "bags" in found.sections else ""
    title = f"{found.result}: {found.direction}, {found.images}{edited} images"
    shown = PlainTable(title=title, caption=_caption(found), box=SIMPLE_HEAD)
    shown.add_column("", ratio=1)
    shown.add_column("all [95 % interval]", justify="right", no_wrap=True)
    if by is not None:
        shown.add_column(f"{found.flipped} flipped, by the {by}", justify="right", no_wrap=True)
    for section in found.sections.values():
        shown.add_section()
        by_whom = "" if section.judge is None else f" by {section.judge}"
        shown.add_row(Text.assemble((section.question, "bold"), by_whom))
        if section.not_measured is not None:
            shown.add_row(f"not measured ({section.not_measured})")
        for figure in section.figures.values():
            share = figure.unit == "share"
            label = tables.with_arrow(figure.label, figure.better)
            cells = [_cell(figure.all, share, found.images)]
            cells += [] if by is None else [_cell(figure.flipped, share, found.flipped)]
            shown.add_row(label, *cells)
        _add_groups(shown, getattr(section, "by_group", {}))
    return shown


def _add_groups(shown: PlainTable, by_group: dict[str, TwinsOfGroup]) -> None:
    """What part of the error was removed in each group, where the groups are few."""
    if len(by_group) > SHOWN_GROUPS:
        shown.add_row(f"error removed in each of {len(by_group)} groups: --json")
        return
    for name, one in by_group.items():
        value = "–" if one.error_removed is None else _number(one.error_removed, share=False)
        shown.add_row(f"error removed, group {name}", f"{value}\n(n = {one.images})")


def _cell(entry: Entry | None, share: bool, usual: int | None) -> str:
    if entry is None:
        return ""
    if entry.value is None:
        return "–"
    between = "" if entry.interval is None else f" [{', '.join(_number(end, share) for end in entry.interval)}]"
    n = "" if entry.n == usual else f"\n(n = {entry.n})"
    return f"{_number(entry.value, share)}{' %' if share else ''}{between}{n}"


def _number(value: float, share: bool) -> str:
    if share:
        return f"{100 * value:.1f}"
    return f"{value:.4f}" if abs(value) < 0.1 else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _caption(found: Evaluation) -> str:
    units = "images" if found.groups is None else f"{found.groups} groups"
    units += "; Bags: over bags" if "bags" in found.sections else ""
    words = [f"Intervals: over {units}; FID, KID, sFID: 1.96 deviations of random draws of the images."]
    words.append("(n = ...): images of a figure that is not of the whole column.")
    rule = getattr(found.sections.get("where"), "rule", None)
    if rule is not None:
        words.append(rule)
    return " ".join(words)
