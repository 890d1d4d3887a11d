"""The config that a search writes: the tuned settings as TOML, and in comments where they come from."""

from __future__ import annotations

import json
from pathlib import Path

from cfdiff.edit.settings import EditSettings
from cfdiff.files import atomic
from cfdiff.tune.result import Between, TuneResult
from cfdiff.tune.settings import TUNE_PLACES, TuneSettings
from cfdiff.version import __version__

_NOT_WRITTEN = TUNE_PLACES | {"seed", "batch_size", "precision"}


def write_config(out: Path, s: TuneSettings, result: TuneResult) -> None:
    """Write what `translate --config` and `bag --config` take.

    Settings that were not tuned are in it only where they are not the defaults, because the tuned ones hold with them.
    """
    held = [f"{key} = {json.dumps(getattr(s, key))}" for key in changed(s) if key not in result.chosen]
    lines = [f"# {line}" for line in _origin(s, result)]
    lines += [f"{key} = {json.dumps(value)}" for key, value in result.chosen.items()]
    if held:
        lines += ["", "# Not tuned, but given to the search:", *held]
    with atomic(out) as scratch:
        scratch.write_text("\n".join(lines) + "\n")


def changed(s: TuneSettings) -> list[str]:
    """The settings of an edit that are not the defaults, those that are tuned among them."""
    fields = EditSettings.model_fields
    return [key for key, field in fields.items() if key not in _NOT_WRITTEN and getattr(s, key) != field.default]


def _origin(s: TuneSettings, result: TuneResult) -> list[str]:
    goal = result.goal
    calls = "" if goal.max_calls is None else f", at most {goal.max_calls:g} calls an image"
    lines = [
        f"cfdiff {__version__} tune: {result.data!r}, split {s.split!r}, from {s.from_!r}, seed {s.seed}",
        f"goal: {goal.flip:.1%} flipped (checker at {goal.margin:g} or more){calls}, with the smallest change: "
        + ("reached" if result.reached else "NOT REACHED, the nearest that was found"),
        f"trials: {result.trials}, of them {result.complete} on all images of the tuning half",
    ]
    for row in (row for row in result.comparison if row.settings == "chosen"):
        judge = ""
        if row.flipped_judge is not None and row.flipped_judge_95 is not None:
            judge = f", by the judge {percent(row.flipped_judge, row.flipped_judge_95)}"
        lines.append(
            f"{row.images}, from {row.from_}, n = {row.n}: flipped "
            f"{percent(row.flipped_checker, row.flipped_checker_95)}{judge}; "
            f"mean |difference| {row.mean_abs_difference:.4f}; {row.network_calls:.1f} calls"
        )
    lines.append(f"data sha256: {result.data_sha256}")
    return lines + [f"{part} sha256: {digest}" for part, digest in result.models.items()]


def percent(share: float, between: Between) -> str:
    """ "99.0% (95.1%-100.0%)": a share of flips with its 95 % interval."""
    return f"{share:.1%} ({between[0]:.1%}-{between[1]:.1%})"
