"""Counts and ratios of a finished bag file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cfdiff.data.values import mean_change
from cfdiff.metrics.columns import Columns, Figure
from cfdiff.store.bags import Bags, open_bags, sha256_of


def summarise_bags(path: Path, batch: int = 256) -> dict[str, Any]:
    """Counts and ratios of a bag file; differences in [0, 1] units.

    The 95 % intervals resample whole bags, as evaluate does: the mixes of one bag are not independent, nor its edits.
    Those of shares are the wider of that and Wilson's. An edit counts once, however many mixes show it.
    """
    with open_bags(path) as bags:
        size = np.diff(bags.read("mix/offset"))
        planned, requested = bags.read("mix/planned"), bags.read("mix/requested")
        (real, _), used = bags.edits(), bags.read("edit/used")
        change = _change(bags, real, batch)
        sham = np.unique(bags.read("row/edit")[bags.read("row/sham")])
        columns = Columns(len(bags), bags.read("mix/bag"), None)
        figures: dict[str, Any] = {
            "result": path.name,
            "bags": len(bags.read("bag/name")),
            "bags_and_mixes": len(bags),
            "instances": len(bags.read("instance/id")),
            "mode": bags.settings["mode"],
            "translated": len(real),
            "shams": len(sham),
            "replaced_failures": int((~used & _flips(bags)).sum()),
            "mean_rounding": float(np.abs(planned - requested).mean()),
            "mean_abs_difference": float(change.mean()) if len(change) else None,
            "mean_abs_difference_sham": float(_change(bags, sham, batch).mean()) if len(sham) else None,
            "changed_outside_edits": _changed_outside(bags, batch),
        }
        for name in ("achieved", "achieved_by_labels", "achieved_by_checker"):
            if f"mix/{name}" in bags:
                off = np.abs(bags.read(f"mix/{name}") - planned)
                exact = np.rint(off * size) == 0
                figures[name] = {
                    "mean_off_planned": float(off.mean()),
                    "mean_off_planned_95": _interval(columns.mean("", off)),
                    "mean_off_requested": float(np.abs(bags.read(f"mix/{name}") - requested).mean()),
                    "exact": float(exact.mean()),
                    "exact_95": _interval(columns.share("", exact)),
                }
        if "prob/judge" in bags:
            figures |= _judge(bags)
        return figures


def _change(bags: Bags, edits: np.ndarray, batch: int) -> np.ndarray:
    """(len(edits),) mean |difference| of saved images."""
    source = bags.read("edit/source")
    parts = []
    for i in range(0, len(edits), batch):
        here = edits[i : i + batch]
        parts.append(mean_change(bags.images("source", source[here]), bags.images("counterfactual", here)))
    return np.concatenate(parts) if parts else np.empty(0)


def _flips(bags: Bags) -> np.ndarray:
    """(E,) bool: edits to the other class than the image's own, not shams."""
    label = np.zeros(int(bags.read("instance/source").max()) + 1, np.int8)
    label[bags.read("instance/source")] = bags.read("instance/label")
    return bags.read("edit/target") != label[bags.read("edit/source")]


def _changed_outside(bags: Bags, batch: int) -> int:
    """Rows that are no edit and whose image in this file has not the sha256 that the data had: always 0."""
    n = int(bags.read("instance/source").max()) + 1
    parts = (bags.images("source", np.arange(i, min(i + batch, n))) for i in range(0, n, batch))
    stored = np.array([sha256_of(image) for part in parts for image in part])
    instance = bags.read("row/instance")[bags.read("row/edit") < 0]
    asked = bags.read("row/sha256")[bags.read("row/edit") < 0]
    return int((stored[bags.read("instance/source")[instance]] != asked).sum())


def _judge(bags: Bags) -> dict[str, Any]:
    """The judge's own error on real instances, which bounds what it can confirm, and its word on the edited ones."""
    instances, first = np.unique(bags.read("row/instance"), return_index=True)
    assert len(instances) == len(bags.read("instance/id")), "every bag has a mix"
    known = bags.read("instance/label_from") == "data"
    seen = bags.read("prob/judge")[first, 0, 1] > 0.5
    wrong = (seen != (bags.read("instance/label") == 1))[known]
    _, rows = bags.edits()
    agreed = (bags.read("prob/judge")[rows, 1, 1] > 0.5) == (bags.read("row/label")[rows] == 1)
    bag = np.repeat(bags.read("mix/bag"), np.diff(bags.read("mix/offset")))[rows]
    return {
        "judge_error_on_real": float(wrong.mean()) if len(wrong) else None,
        "flipped_judge": float(agreed.mean()) if len(agreed) else None,
        "flipped_judge_95": _interval(Columns(len(rows), bag, None).share("", agreed)),
    }


def _interval(figure: Figure) -> tuple[float, float] | None:
    low, high = figure["all"]["low"], figure["all"]["high"]
    return None if low is None else (low, high)
