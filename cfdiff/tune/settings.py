"""The settings of `cfdiff tune`. No torch here, so that `--help` stays quick."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import ConfigDict, Field, PositiveFloat, PositiveInt, field_validator

from cfdiff.edit.settings import USUAL_BATCH, EditSettings
from cfdiff.settings import DATA, GUIDANCE, OUTPUT, PLACES, RUN, DataSettings, Recipe

SEARCH: dict[str, Any] = {"panel": "Search"}
Tunable = Literal[
    "solver",
    "steps",
    "depth",
    "ratio",
    "guides",
    "w",
    "edit",
    "scale",
    "target",
    "accept",
    "retries",
    "redraw_share",
    "redraw_mass",
    "redraw_depth",
    "redraw_ratio",
]
TUNED: tuple[Tunable, ...] = ("solver", "steps", "depth", "ratio", "guides", "w", "edit")
"""What is searched unless --tune says otherwise, as far as the models can use it."""


class TuneSettings(EditSettings, DataSettings):
    """cfdiff tune. The settings of an edit are where the search starts; those not in `tune` stay as they are."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    from_: str = Field(
        "both",
        alias="from",
        json_schema_extra=DATA,
        description="Class to start from: negative, positive, its name, or both: the worse direction counts.",
    )
    split: str = Field(
        "val",
        json_schema_extra=DATA,
        description="Split to tune on; all for data without splits. Better never the test one.",
    )
    images: PositiveInt = Field(
        64, json_schema_extra=SEARCH, description="Images a direction, and as many others for the held-out comparison."
    )
    tune: tuple[Tunable, ...] = Field(
        TUNED,
        min_length=1,
        json_schema_extra=SEARCH,
        description=f"What is searched, as far as the models can use it: any of {','.join(get_args(Tunable))}.",
    )
    flip: float = Field(0.99, gt=0, le=1, json_schema_extra=SEARCH, description="Share of images that must flip.")
    margin: float = Field(
        0.75,
        ge=0.5,
        lt=1,
        json_schema_extra=SEARCH,
        description="An image has flipped when the verifier (without one the checker) gives its saved edit at least "
        "this probability.",
    )
    max_calls: PositiveFloat | None = Field(
        None, json_schema_extra=SEARCH, description="Most calls of the diffusion network an image, on average."
    )
    trials: PositiveInt = Field(40, json_schema_extra=SEARCH, description="Settings to try, the starting ones first.")
    max_minutes: PositiveFloat | None = Field(
        None,
        json_schema_extra=SEARCH,
        description="Time for all of it, the held-out comparison too; where it is short, fewer images are taken.",
    )
    pick: PositiveInt | None = Field(
        None,
        json_schema_extra=SEARCH,
        description="Write this member of the Pareto front of a search that was made, and try nothing.",
    )
    ratio: PositiveFloat = Field(
        EditSettings.model_fields["ratio"].default,
        allow_inf_nan=False,
        json_schema_extra=GUIDANCE,
        description="Guidance is at most this fraction of the network's own norm.",
    )
    scale: PositiveFloat = Field(
        EditSettings.model_fields["scale"].default, json_schema_extra=GUIDANCE, description="Guidance scale."
    )
    mask: Literal["none", "auto", "object"] = Field(
        "none",
        json_schema_extra=GUIDANCE,
        description="Where to edit: anywhere, where a first pass changes most (auto), or the object that lies on a "
        "plain ground (object).",
    )
    batch_size: PositiveInt = Field(USUAL_BATCH, json_schema_extra=RUN, description="Images at once.")
    out: Path | None = Field(
        None,
        json_schema_extra=OUTPUT,
        description="Config to write, or the recipe of a weights folder: DIR/edit.toml, or with --from one class "
        "DIR/edit-to-positive.toml or DIR/edit-to-negative.toml [default: runs/tuned.toml].",
    )
    plot: Path | None = Field(
        None,
        json_schema_extra=OUTPUT,
        description="Picture of flips against change (.png, .pdf, .svg) [default: that of --out, with .png].",
    )
    json_: bool = Field(False, alias="json", json_schema_extra=OUTPUT, description="Print the summary as JSON.")
    force: bool = Field(
        False,
        json_schema_extra=OUTPUT,
        description="Replace an existing config or plot, and the log of another search.",
    )

    @field_validator("towards")
    @classmethod
    def _one(cls, tables: dict[str, Any]) -> dict[str, Any]:
        if tables:
            raise ValueError("a search tries settings for all of its edits, and --from says which they are")
        return tables

    @classmethod
    def recipe(cls, given: Mapping[str, Any]) -> Recipe | None:
        """The recipe of all edits: what was found for those to one class is what a search may find anew."""
        found = super().recipe(given)
        return found and replace(found, values={k: v for k, v in found.values.items() if k != "towards"})

    @classmethod
    def recipe_path(cls, given: Mapping[str, Any]) -> Path | None:
        """None where the search writes that very file: given again, it would not start from where it started."""
        path, out = super().recipe_path(given), given.get("out")
        if path is None or not isinstance(out, str | Path):
            return path
        return None if path.resolve() == Path(out).resolve() else path


TUNE_PLACES = PLACES | {"plot", "trials", "max_minutes", "pick"}
"""Settings that the figures of a trial do not depend on."""
