"""The settings of `cfdiff show`. No torch here, so that `--help` stays quick."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, NonNegativeInt, PositiveInt

from cfdiff.settings import DATA, OUTPUT, Settings


class ShowSettings(Settings):
    """cfdiff show."""

    run: Path = Field(description="Result of cfdiff translate, or bag file of cfdiff bag.")
    index: tuple[NonNegativeInt, ...] | None = Field(
        None, json_schema_extra=DATA, description="Numbers of images, from 0 (0,5,9); of a bag file: one bag and mix."
    )
    ids: tuple[str, ...] | None = Field(None, json_schema_extra=DATA, description="Ids of images, with commas between.")
    best: PositiveInt | None = Field(
        None, json_schema_extra=DATA, description="So many with the highest gain in p(target), by the judge."
    )
    worst: PositiveInt | None = Field(None, json_schema_extra=DATA, description="So many with the lowest gain.")
    failed: bool = Field(False, json_schema_extra=DATA, description="Those that the judge does not see flipped.")
    limit: PositiveInt = Field(
        24, json_schema_extra=DATA, description="At most this many of the failed, or of all where none are named."
    )
    columns: PositiveInt = Field(3, json_schema_extra=OUTPUT, description="Images in a row.")
    names: bool = Field(False, json_schema_extra=OUTPUT, description="Print the id under each image.")
    title: bool = Field(True, json_schema_extra=OUTPUT, description="Print the direction above.")
    out: Path | None = Field(
        None, json_schema_extra=OUTPUT, description="Figure (.png, .pdf, .svg) [default: RUN-panel.png beside the run]."
    )
    force: bool = Field(False, json_schema_extra=OUTPUT, description="Replace an existing figure.")
