"""cfdiff translate."""

from __future__ import annotations

import json
from typing import Any

from cfdiff.cli import tables
from cfdiff.cli.options import EDIT_NAMES, command
from cfdiff.cli.tables import PlainTable
from cfdiff.progress import progress_bar
from cfdiff.translate.settings import TranslateSettings

DOC = """Turn negatives into positives, or the reverse.

Runs on the bundled cells with no option. The result is one HDF5 file; a run that was stopped continues when the same
command is given again."""


@command(
    TranslateSettings,
    DOC,
    names={"from_": "--from", **EDIT_NAMES},
)
def translate(settings: TranslateSettings) -> None:
    from cfdiff.translate.run import translate as run

    with progress_bar("translating") as advance:
        figures = run(settings, advance)
    if settings.json_:
        print(json.dumps(figures))
    else:
        tables.show(table(figures))


def table(figures: dict[str, Any]) -> PlainTable:
    """The summary as one reads it."""
    shown = PlainTable(title=figures["direction"], show_header=False)
    shown.add_row("result", figures["result"])
    shown.add_row("images", str(figures["images"]))
    for who in ("judge", "checker"):
        if f"flipped_{who}" in figures:
            low, high = figures[f"flipped_{who}_95"]
            before = figures[f"target_before_{who}"]
            value = f"{figures[f'flipped_{who}']:.1%}  (95 % interval {low:.1%} to {high:.1%}; before {before:.1%})"
            shown.add_row(f"seen as the target by the {who}", value)
    interval = figures["mean_abs_difference_95"]  # None for a single image
    between = "" if interval is None else f"95 % interval {interval[0]:.4f} to {interval[1]:.4f}; "
    shown.add_row("mean |difference|", f"{figures['mean_abs_difference']:.4f}  ({between}1 is the full range)")
    shown.add_row("retried", f"{figures['retried']:.1%}")
    shown.add_row(
        "calls an image",
        f"{figures['network_calls']:.1f} of the diffusion network, {figures['guide_calls']:.1f} guided steps",
    )
    if figures["quarantined"]:
        shown.add_row("quarantined", f"{figures['quarantined']} edits were not finite: see status in the result")
    if figures["seconds_per_image"] is not None:
        shown.add_row("seconds an image", f"{figures['seconds_per_image']:.2f}")
    return shown
