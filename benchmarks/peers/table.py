"""The tables of docs/quality.md from the figures of `benchmarks/peers.py`."""

from __future__ import annotations

from typing import Any

import numpy as np

OURS = "cfdiff"


def tables(report: dict[str, Any]) -> list[str]:
    """Markdown: a table a direction, what cfdiff is ahead of, and null edits."""
    lines: list[str] = []
    for direction in ("negative -> positive", "positive -> negative"):
        rows = [row for row in report["rows"] if row["direction"] == direction]
        lines += ["", f"**{direction.replace('->', chr(8594))}**", "", *_scores(rows)]
    return [*lines, "", *_null(report["null"])]


def _scores(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| method | n | scale | flipped (judge) | flipped (checkers) | mean \\|difference\\| | COUT "
        "| calls + gradients | s / image | MB | cfdiff on the same: flipped, change, s |",
        "|" + "---|" * 11,
    ]
    ours = next((row for row in rows if row["peer"] == OURS), None)
    for row in rows:
        scale = "" if row["peer"] == OURS else f"{row['scale']:g}"
        low, high = row["mean_abs_difference_95"]
        cells = [
            row["peer"],
            str(row["n"]),
            scale,
            _share(row, "flipped_judge"),
            f"{row['flipped_checker']:.0%}",
            f"{row['mean_abs_difference']:.4f} ({max(low, 0):.4f}-{high:.4f})",
            f"{row['cout']:.2f} ({row['cout_95'][0]:.2f} to {row['cout_95'][1]:.2f})",
            f"{row['network_calls']:.0f} + {row['classifier_gradients']:.0f}",
            f"{row['seconds_per_image']:.2f}",
            f"{row['peak_memory_mb']:.0f}",
            "" if row["peer"] == OURS or ours is None else _beside(ours, row),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _share(row: dict[str, Any], name: str) -> str:
    low, high = row[f"{name}_95"]
    return f"{row[name]:.1%} ({low:.0%}-{high:.0%})"


def _beside(ours: dict[str, Any], row: dict[str, Any]) -> str:
    """What cfdiff gives on the very images of a row."""
    here = np.isin(ours["images"]["id"], row["images"]["id"])
    flipped = np.array(ours["images"]["flipped_judge"])[here].mean()
    change = np.array(ours["images"]["mean_abs_difference"])[here].mean()
    return f"{flipped:.1%}, {change:.4f}, {ours['seconds_per_image']:.2f}"


def _null(rows: list[dict[str, Any]]) -> list[str]:
    """Null edits and round trips; both directions together, where both are there."""
    lines = [
        "| method | n | null edit, levels of 255: mean, highest | bytes unchanged | after ten: mean, highest | bytes "
        "unchanged | there and back: mean \\|difference\\| | flipped both times (judge) |",
        "|" + "---|" * 8,
    ]
    for name in dict.fromkeys(row["peer"] for row in rows):
        of = [row for row in rows if row["peer"] == name]

        def mean(key: str, of: list[dict[str, Any]] = of) -> float:
            return float(np.average([row[key] for row in of], weights=[row["n"] for row in of]))

        cells = [name, str(sum(row["n"] for row in of))]
        for once in ("null", "ten_cycles"):
            highest = max(row[f"{once}_max_levels"] for row in of)
            cells += [f"{mean(f'{once}_mean_levels'):.2g}, {highest:.2g}", f"{mean(f'{once}_bytes_same'):.0%}"]
        cells += [f"{mean('round_trip_mean_abs_difference'):.4f}", f"{mean('round_trip_flipped_both'):.0%}"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines
