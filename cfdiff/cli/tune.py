"""cfdiff tune."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD

from cfdiff.cli import tables
from cfdiff.cli.options import EDIT_NAMES, command
from cfdiff.cli.tables import PlainTable
from cfdiff.progress import progress_bar
from cfdiff.roles import CLASSIFIERS
from cfdiff.tune.settings import TuneSettings

if TYPE_CHECKING:  # it knows scipy, and `--help` need not
    from cfdiff.tune.result import TuneResult

DOC = """Find the settings that flip enough images with the smallest change.

Tries settings on validation images, with no masks, and writes a config for translate --config and bag --config, or as
--out DIR/edit.toml what --weights DIR takes by itself. Runs on the bundled cells with no option; a search that was
stopped continues when the same command is given again."""

_STYLE: dict[str, Any] = {"box": SIMPLE_HEAD, "padding": (0, 1, 0, 0)}
_STEERS = (
    "There is no verifier: the checker that steers decides too, so its shares flatter; --verifier names one that does "
    "not steer."
)


@command(
    TuneSettings,
    DOC,
    names={"from_": "--from", **EDIT_NAMES},
)
def tune(settings: TuneSettings) -> None:
    from cfdiff.tune.run import tune as run

    with progress_bar("opening") as advance:
        result = run(settings, advance)
    for warning in result.warnings:
        print(f"Warning: {warning}", file=sys.stderr)
    if settings.json_:
        print(json.dumps(result.as_json()))
    else:
        tables.show(table(result), front_table(result), *verdict(result))


def table(result: TuneResult) -> PlainTable:
    """The starting settings against the chosen ones, on both halves of the images."""
    who = [role for role in CLASSIFIERS if any(role in row.verdicts for row in result.comparison)]
    heads = ("images", "from", "settings", *(f"{role} %" for role in who), "change", "calls")
    title = f"{result.data}: {result.started_from} settings against the {_chosen(result)} ones"
    shown = PlainTable(*heads, title=title, **_STYLE)
    for row in sorted(result.comparison, key=lambda row: (row.images != "tuning", row.from_)):
        name = result.started_from if row.settings == "start" else _chosen(result)
        shares = [_share(row.verdicts.get(role)) for role in who]
        between = row.mean_abs_difference_95
        change = f"{row.mean_abs_difference:.4f}"
        change += "" if between is None else f"\n{between[0]:.4f}-{between[1]:.4f}"
        cells = [f"{row.images}\nn = {row.n}", row.from_, name, *shares, change, f"{row.network_calls:.1f}"]
        shown.add_row(*cells, end_section=row.settings == "chosen")
    return shown


def front_table(result: TuneResult) -> PlainTable:
    """What no trial beats in flips, change and calls at once, on the tuning images."""
    title = f"Pareto front of {result.complete} settings on all tuning images, the worse direction of each figure"
    shown = PlainTable(title=title, **_STYLE)
    for head in ("--pick", f"{result.decided_by} %", "change", "calls"):
        shown.add_column(head, no_wrap=True)
    shown.add_column("settings, as far as they are not those of the start")
    for member in result.front:
        differ = [f"{name} = {value}" for name, value in member.values.items() if value != result.start[name]]
        words = ", ".join(differ) or f"{result.started_from} settings"
        shown.add_row(
            str(member.k),
            _share((member.flipped, member.flipped_95)),
            f"{member.change:.4f}",
            f"{member.calls:.1f}",
            f"{words} ({_chosen(result)})" if member.trial == result.trial else words,
        )
    return shown


def verdict(result: TuneResult) -> list[str]:
    """What was chosen and whether it reaches the goal, a sentence a line."""
    goal, out = result.goal, result.config.name
    asked = f"{goal.flip:.1%} flipped ({result.decided_by} at {goal.margin:g} or more)"
    if goal.max_calls is not None:
        asked += f" within {goal.max_calls:g} calls an image"
    tuning = result.of("tuning", "chosen").values()
    best, calls = min(row.flipped for row in tuning), max(row.network_calls for row in tuning)
    values = ", ".join(f"{name} = {value}" for name, value in result.chosen.items())
    here = "this one" if result.picked is not None else "the nearest"
    said = "Goal reached" if result.reached else f"Goal not reached: {here} is {best:.1%} with {calls:.1f} calls"
    use = f"cfdiff translate --config {out}"
    if result.is_recipe:
        use = f"the recipe of what lies beside it, taken with --weights {result.config.parent}"
    return [
        f"change: mean |difference|, 1 is the full range; {_intervals(result)}; the search never asked the judge.",
        *([_STEERS] if result.decided_by == "checker" else []),
        f"{said}. Asked for: {asked}.",
        f"{_chosen(result).capitalize()} of {result.trials} ({result.complete} on all images): {values}",
        f"Written to {out}: {use}",
        "Another member of the front: the same command with --pick and its number, and --force.",
    ]


def _chosen(result: TuneResult) -> str:
    return "chosen" if result.picked is None else "picked"


def _intervals(result: TuneResult) -> str:
    """ "95 % intervals over groups": what those of the held-out images are over."""
    over = [row.intervals_over for row in result.comparison if row.images == "held-out" or result.picked is not None]
    return f"95 % intervals over {'groups' if 'groups' in over else 'images'}"


def _share(share: tuple[float, tuple[float, float]] | None) -> str:
    if share is None:
        return ""
    value, (low, high) = share
    return f"{100 * value:.1f}\n{100 * low:.1f}-{100 * high:.1f}"
