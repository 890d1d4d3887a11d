"""The config that a search writes: the tuned settings as TOML, and in comments where they come from."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

from cfdiff.edit.recipe import NAME, TOWARDS, read_recipe
from cfdiff.edit.settings import RECIPE_SETTINGS, TOWARDS_SETTINGS, EditSettings
from cfdiff.errors import UserError
from cfdiff.files import atomic
from cfdiff.tune.result import Between, TuneResult
from cfdiff.tune.settings import TuneSettings
from cfdiff.version import __version__


def write_config(out: Path, s: TuneSettings, result: TuneResult) -> None:
    """Write what `--config` and, as a recipe, `--weights` take.

    Settings that were not tuned are in it only where they are not the defaults, because the tuned ones hold with them.
    """
    lines = [f"# {line}" for line in _origin(s, result)]
    lines += as_toml(result.chosen)
    if result.held:
        lines += ["", "# Not tuned, but given to the search:", *as_toml(result.held)]
    with atomic(out) as scratch:
        scratch.write_text("\n".join(lines) + "\n")


def changed(s: TuneSettings, out: Path | None = None) -> dict[str, Any]:
    """The settings of an edit that are not the defaults, those that are tuned among them; in the recipe `out` of one
    class also those that are not as `edit.toml` beside it has them."""
    below = _below(out)
    names = RECIPE_SETTINGS if below is None else TOWARDS_SETTINGS
    found = {}
    for key, field in EditSettings.model_fields.items():
        value = getattr(s, key)
        if key in names and (value != field.default or (below is not None and value != getattr(below, key))):
            found[key] = value
    return found


def check_recipe(out: Path, s: TuneSettings, starts: Collection[str]) -> None:
    """Raise UserError where `out` is the recipe of one class, and cannot be that of this search.

    `starts` are the classes that the edits start from, "negative" and "positive".
    """
    below = _below(out)
    if below is None:
        return
    other = next(start for start in TOWARDS if out.name != TOWARDS[start])
    if set(starts) != {other}:
        raise UserError(f"{out.name} is the recipe of edits from {other} alone: search with --from {other}.")
    for key in sorted(RECIPE_SETTINGS & set(EditSettings.model_fields) - {"towards"}):
        value = getattr(s, key)
        unwritable = key not in TOWARDS_SETTINGS or (value is None and not key.endswith("ratio"))
        if unwritable and value != getattr(below, key):
            raise UserError(
                f"{out.name} cannot say {key} = {'nothing' if value is None else value} where edit.toml beside it says "
                f"{getattr(below, key)}: give that, or write the config elsewhere with --out."
            )


def _below(out: Path | None) -> EditSettings | None:
    """What holds where the recipe `out` of one class says nothing; None where it is no such recipe."""
    if out is None or out.name not in TOWARDS.values():
        return None
    beside = out.with_name(NAME)
    known = set(EditSettings.model_fields)
    values = read_recipe(beside, RECIPE_SETTINGS).values if beside.is_file() else {}
    return EditSettings(**{name: value for name, value in values.items() if name in known})


def started_from(s: TuneSettings) -> Literal["default", "recipe", "given"]:
    """Where the starting settings are from, the tuned ones and the others."""
    recipe = s.recipe({name: getattr(s, name) for name in ("weights", "data", "diffusion", "out")})
    if recipe is not None and changed(TuneSettings(**recipe.values)) == changed(s):
        return "recipe"
    return "given" if changed(s) else "default"


def as_toml(values: Mapping[str, Any]) -> list[str]:
    """A line for each setting. No limit is None in a settings object, for JSON knows no infinity, and TOML no None."""
    return [f"{key} = {'inf' if value is None else json.dumps(value)}" for key, value in values.items()]


def _origin(s: TuneSettings, result: TuneResult) -> list[str]:
    goal = result.goal
    calls = "" if goal.max_calls is None else f", at most {goal.max_calls:g} calls an image"
    lines = [
        f"cfdiff {__version__} tune: {result.data!r}, split {s.split!r}, from {s.from_!r}, seed {s.seed}",
        f"goal: {goal.flip:.1%} flipped ({result.decided_by} at {goal.margin:g} or more){calls}, with the smallest "
        "change: " + ("reached" if result.reached else "NOT REACHED, the nearest that was found"),
        f"trials: {result.trials}, of them {result.complete} on all images of the tuning half",
    ]
    if result.picked is not None:
        lines.append(f"picked by hand: member {result.picked} of the Pareto front of {len(result.front)}")
    for row in (row for row in result.comparison if row.settings == "chosen"):
        flipped = ", ".join(f"by the {who} {percent(*share)}" for who, share in row.verdicts.items())
        lines.append(
            f"{row.images}, from {row.from_}, n = {row.n}: flipped {flipped}; "
            f"mean |difference| {row.mean_abs_difference:.4f}; {row.network_calls:.1f} calls"
        )
    lines.append(f"data sha256: {result.data_sha256}")
    return lines + [f"{part} sha256: {digest}" for part, digest in result.models.items()]


def percent(share: float, between: Between) -> str:
    """ "99.0% (95.1%-100.0%)": a share of flips with its 95 % interval."""
    return f"{share:.1%} ({between[0]:.1%}-{between[1]:.1%})"
