"""The config that a search writes: the tuned settings as TOML, and in comments where they come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cfdiff import __version__
from cfdiff.edit.settings import EditSettings
from cfdiff.files import atomic
from cfdiff.tune.settings import TUNE_PLACES, TuneSettings

_NOT_WRITTEN = TUNE_PLACES | {"seed", "batch_size", "precision"}


def write_config(out: Path, s: TuneSettings, figures: dict[str, Any]) -> None:
    """Write what `translate --config` and `bag --config` take.

    Settings that were not tuned are in it only where they are not the defaults, because the tuned ones hold with them.
    """
    held = [f"{key} = {json.dumps(getattr(s, key))}" for key in changed(s) if key not in figures["chosen"]]
    lines = [f"# {line}" for line in _origin(s, figures)]
    lines += [f"{key} = {json.dumps(value)}" for key, value in figures["chosen"].items()]
    if held:
        lines += ["", "# Not tuned, but given to the search:", *held]
    with atomic(out) as scratch:
        scratch.write_text("\n".join(lines) + "\n")


def changed(s: TuneSettings) -> list[str]:
    """The settings of an edit that are not the defaults, those that are tuned among them."""
    fields = EditSettings.model_fields
    return [key for key, field in fields.items() if key not in _NOT_WRITTEN and getattr(s, key) != field.default]


def _origin(s: TuneSettings, figures: dict[str, Any]) -> list[str]:
    goal = figures["goal"]
    calls = "" if goal["max_calls"] is None else f", at most {goal['max_calls']:g} calls an image"
    lines = [
        f"cfdiff {__version__} tune: {figures['data']!r}, split {s.split!r}, from {s.from_!r}, seed {s.seed}",
        f"goal: {goal['flip']:.1%} flipped (checker at {goal['margin']:g} or more){calls}, with the smallest change: "
        + ("reached" if goal["reached"] else "NOT REACHED, the nearest that was found"),
        f"trials: {figures['trials']}, of them {figures['complete']} on all images of the tuning half",
    ]
    for row in figures["comparison"]:
        if row["settings"] == "chosen":
            judge = f", by the judge {percent(row, 'judge')}" if "flipped_judge" in row else ""
            lines.append(
                f"{row['images']}, from {row['from']}, n = {row['n']}: flipped {percent(row, 'checker')}{judge}; "
                f"mean |difference| {row['mean_abs_difference']:.4f}; {row['network_calls']:.1f} calls"
            )
    lines.append(f"data sha256: {figures['data_sha256']}")
    return lines + [f"{part} sha256: {digest}" for part, digest in figures["models"].items()]


def percent(row: dict[str, Any], who: str) -> str:
    """ "99.0% (95.1%-100.0%)": a share of flips with its 95 % interval."""
    low, high = row[f"flipped_{who}_95"]
    return f"{row[f'flipped_{who}']:.1%} ({low:.1%}-{high:.1%})"
