"""cfdiff tune."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD

from cfdiff.cli import tables
from cfdiff.cli.options import EDIT_NAMES, command
from cfdiff.cli.tables import PlainTable
from cfdiff.progress import progress_bar
from cfdiff.tune.settings import TuneSettings

if TYPE_CHECKING:  # it knows scipy, and `--help` need not
    from cfdiff.tune.result import TuneResult

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
        result = run(settings, advance)
    for warning in result.warnings:
        print(f"Warning: {warning}", file=sys.stderr)
    if settings.json_:
        print(json.dumps(result.as_json()))
    else:
        tables.show(table(result, start_name(settings)), *verdict(result))


def table(result: TuneResult, start_name: str) -> PlainTable:
    """The starting settings against the chosen ones, on both halves of the images."""
    judge = any(row.flipped_judge is not None for row in result.comparison)
    heads = ("images", "from", "settings", "checker %", *(("judge %",) if judge else ()), "change", "calls")
    title = f"{result.data}: {start_name} settings against the chosen ones"
    shown = PlainTable(*heads, title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for row in sorted(result.comparison, key=lambda row: (row.images != "tuning", row.from_)):
        name = start_name if row.settings == "start" else "chosen"
        shares = [_share(row.flipped_checker, row.flipped_checker_95)]
        shares += [_share(row.flipped_judge, row.flipped_judge_95)] if judge else []
        between = row.mean_abs_difference_95
        change = f"{row.mean_abs_difference:.4f}"
        change += "" if between is None else f"\n{between[0]:.4f}-{between[1]:.4f}"
        cells = [f"{row.images}\nn = {row.n}", row.from_, name, *shares, change, f"{row.network_calls:.1f}"]
        shown.add_row(*cells, end_section=name == "chosen")
    return shown


def verdict(result: TuneResult) -> list[str]:
    """What was chosen and whether it reaches the goal, a sentence a line."""
    goal, out = result.goal, result.config.name
    asked = f"{goal.flip:.1%} flipped (checker at {goal.margin:g} or more)"
    if goal.max_calls is not None:
        asked += f" within {goal.max_calls:g} calls an image"
    tuning = result.of("tuning", "chosen").values()
    best, calls = min(row.flipped_checker for row in tuning), max(row.network_calls for row in tuning)
    values = ", ".join(f"{name} = {value}" for name, value in result.chosen.items())
    said = "Goal reached" if result.reached else f"Goal not reached: the nearest is {best:.1%} with {calls:.1f} calls"
    return [
        f"change: mean |difference|, 1 is the full range; {_intervals(result)}; the search never asked the judge.",
        f"{said}. Asked for: {asked}.",
        f"Chosen of {result.trials} ({result.complete} on all images): {values}",
        f"Written to {out}: cfdiff translate --config {out}",
    ]


def _intervals(result: TuneResult) -> str:
    """ "95 % intervals over groups": what those of the held-out images are over."""
    over = [row.intervals_over for row in result.comparison if row.images == "held-out"]
    return f"95 % intervals over {'groups' if 'groups' in over else 'images'}"


def _share(share: float | None, between: tuple[float, float] | None) -> str:
    if share is None or between is None:
        return ""
    return f"{100 * share:.1f}\n{100 * between[0]:.1f}-{100 * between[1]:.1f}"
