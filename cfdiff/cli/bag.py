"""cfdiff bag."""

from __future__ import annotations

import json
from typing import Any

from cfdiff.bag.settings import BagSettings
from cfdiff.cli import tables
from cfdiff.cli.options import EDIT_NAMES, command
from cfdiff.cli.tables import PlainTable
from cfdiff.progress import progress_bar

DOC = """Give bags of instances a chosen fraction of positives.

A bag is a group (all cells of a patient); as many of its instances as it takes are translated, and the others stay
byte for byte. Runs on the bundled cells with no option. The result is one HDF5 file; a run that was stopped continues
when the same command is given again."""


@command(
    BagSettings,
    DOC,
    names=EDIT_NAMES,
)
def bag(settings: BagSettings) -> None:
    from cfdiff.bag.run import bag as run

    with progress_bar("planning") as advance:
        figures = run(settings, advance)
    if settings.json_:
        print(json.dumps(figures))
    else:
        tables.show(table(figures))


def table(figures: dict[str, Any]) -> PlainTable:
    """The summary as one reads it."""
    shown = PlainTable(title=f"{figures['bags']} bags, {figures['mode']} mode", show_header=False)
    shown.add_row("result", figures["result"])
    shown.add_row("instances in bags", str(figures["instances"]))
    shown.add_row("bags and mixes", str(figures["bags_and_mixes"]))
    shown.add_row("translated", f"{figures['translated']}  (and {figures['replaced_failures']} failures, not used)")
    if figures["mean_abs_difference"] is not None:
        shown.add_row("mean |difference| of these", f"{figures['mean_abs_difference']:.4f}  (1 is the full range)")
    if figures["shams"]:
        shown.add_row("shams", f"{figures['shams']}, mean |difference| {figures['mean_abs_difference_sham']:.4f}")
    words = {
        "achieved": "by the judge, on all images",
        "achieved_by_labels": "by labels, the judge where edited",
        "achieved_by_checker": "by labels, the checker where edited",
    }
    for name, who in words.items():
        if name in figures:
            f = figures[name]
            low, high = f["exact_95"]
            shown.add_row(
                f"achieved {who}",
                f"mean |achieved - planned| {f['mean_off_planned']:.4f}, - requested {f['mean_off_requested']:.4f}; "
                f"exact count in {f['exact']:.1%} of bags and mixes (95 % interval {low:.1%} to {high:.1%})",
            )
    if figures.get("flipped_judge") is not None:
        low, high = figures["flipped_judge_95"]
        value = f"{figures['flipped_judge']:.1%}, each counted once  (95 % interval {low:.1%} to {high:.1%})"
        shown.add_row("edits that the judge sees", value)
    if figures.get("judge_error_on_real") is not None:
        shown.add_row("judge's error on real instances", f"{figures['judge_error_on_real']:.1%}")
    shown.add_row("changed outside the edits", str(figures["changed_outside_edits"]))
    shown.add_row("seconds a bag and mix", f"{figures['seconds_per_bag']:.2f}")
    return shown
