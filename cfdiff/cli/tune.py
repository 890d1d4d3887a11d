"""cfdiff tune."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cfdiff.cli.options import EDIT_NAMES, command
from cfdiff.progress import progress_bar
from cfdiff.tune.settings import TuneSettings

DOC = """Find the settings that flip enough images with the smallest change.

Tries settings on validation images, with no masks, and writes a config for translate --config and bag --config. Runs
on the bundled cells with no option; a search that was stopped continues when the same command is given again."""


@command(
    TuneSettings,
    DOC,
    names={"from_": "--from", **EDIT_NAMES},
)
def tune(settings: TuneSettings) -> None:
    from cfdiff.tune.run import start_name
    from cfdiff.tune.run import tune as run

    with progress_bar("opening") as advance:
        figures = run(settings, advance)
    for warning in figures["warnings"]:
        print(f"Warning: {warning}", file=sys.stderr)
    if settings.json_:
        print(json.dumps(figures))
    else:
        shown = table(figures, start_name(settings)), *verdict(figures)
        Console().print(*shown, sep="\n", markup=False, highlight=False)


def table(figures: dict[str, Any], start_name: str) -> Table:
    """The starting settings against the chosen ones, on both halves of the images."""
    judge = any("flipped_judge" in row for row in figures["comparison"])
    title = Text(f"{figures['data']}: {start_name} settings against the chosen ones", style="table.title")
    shown = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for head in ("images", "from", "settings", "checker %", *(("judge %",) if judge else ()), "change", "calls"):
        shown.add_column(head)
    order = sorted(figures["comparison"], key=lambda row: (row["images"] != "tuning", row["from"]))
    for row in order:
        name = start_name if row["settings"] == "start" else "chosen"
        shares = [_share(row, who) for who in (("checker", "judge") if judge else ("checker",))]
        between = row["mean_abs_difference_95"]
        change = f"{row['mean_abs_difference']:.4f}"
        change += "" if between is None else f"\n{between[0]:.4f}-{between[1]:.4f}"
        cells = [f"{row['images']}\nn = {row['n']}", row["from"], name, *shares, change, f"{row['network_calls']:.1f}"]
        shown.add_row(*cells, end_section=name == "chosen")
    return shown


def verdict(figures: dict[str, Any]) -> list[str]:
    """What was chosen and whether it reaches the goal, a sentence a line."""
    goal = figures["goal"]
    asked = f"{goal['flip']:.1%} flipped (checker at {goal['margin']:g} or more)"
    if goal["max_calls"] is not None:
        asked += f" within {goal['max_calls']:g} calls an image"
    tuning = [row for row in figures["comparison"] if row["images"] == "tuning" and row["settings"] == "chosen"]
    best = min(row["flipped_checker"] for row in tuning)
    calls = max(row["network_calls"] for row in tuning)
    values = ", ".join(f"{name} = {value}" for name, value in figures["chosen"].items())
    said = "Goal reached" if goal["reached"] else f"Goal not reached: the nearest is {best:.1%} with {calls:.1f} calls"
    return [
        f"change: mean |difference|, 1 is the full range; {_intervals(figures)}; the search never asked the judge.",
        f"{said}. Asked for: {asked}.",
        f"Chosen of {figures['trials']} ({figures['complete']} on all images): {values}",
        f"Written to {figures['out']}: cfdiff translate --config {figures['out']}",
    ]


def _intervals(figures: dict[str, Any]) -> str:
    """ "95 % intervals over groups": what those of the held-out images are over."""
    over = [row.get("intervals_over", "images") for row in figures["comparison"] if row["images"] == "held-out"]
    return f"95 % intervals over {'groups' if 'groups' in over else 'images'}"


def _share(row: dict[str, Any], who: str) -> str:
    if f"flipped_{who}" not in row:
        return ""
    low, high = row[f"flipped_{who}_95"]
    return f"{100 * row[f'flipped_{who}']:.1f}\n{100 * low:.1f}-{100 * high:.1f}"
