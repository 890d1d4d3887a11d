"""The settings of `cfdiff report` and `cfdiff show`. No torch here, so that `--help` stays quick."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, PositiveInt

from cfdiff.settings import DATA, MODEL, OUTPUT, READING, Settings


class ReportSettings(Settings):
    """cfdiff report."""

    run: Path = Field(description="Result of cfdiff translate, or bag file of cfdiff bag.")
    out: Path | None = Field(None, json_schema_extra=OUTPUT, description="The page [default: RUN.html beside the run].")
    evaluation: Path | None = Field(
        None, json_schema_extra=DATA, description="JSON that cfdiff evaluate wrote: its figures join the page."
    )
    data: str | None = Field(
        None,
        json_schema_extra=DATA,
        description="The run's data, for its masks [default: its bundled name]; of bags, their slides, to be drawn on.",
    )
    layout: str | None = Field(
        None, json_schema_extra=DATA, description="What the folders of --data stand for [default: by their names]."
    )
    reading: str | None = Field(None, json_schema_extra=DATA, description=f"{READING}, ... (docs/clinical.md).")
    masks: str | None = Field(
        None,
        json_schema_extra=DATA,
        description="Lesion masks to outline: a folder with ID.png, or a source [default: those of --data].",
    )
    weights: str | None = Field(
        None,
        json_schema_extra=MODEL,
        description="Folder with the run's models, for their cards [default: bundled ones with the same hash].",
    )
    limit: int = Field(
        1000,
        ge=3,
        json_schema_extra=OUTPUT,
        description="At most this many images: a draw, the best and worst, then failures; figures are of all.",
    )
    side: PositiveInt = Field(
        128, json_schema_extra=OUTPUT, description="Longest side of the pictures in pixels; larger ones are reduced."
    )
    force: bool = Field(False, json_schema_extra=OUTPUT, description="Replace an existing page.")
