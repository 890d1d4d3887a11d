"""The settings of `cfdiff fit`. No torch here, so that `--help` stays quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt

from cfdiff.registry import SPACES, OneOf
from cfdiff.settings import DATA, OUTPUT, RUN, DataSettings


class FitSettings(DataSettings):
    """cfdiff fit."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    data: str = Field(description="Bundled name, folder per class, .csv, .npz or .h5.", json_schema_extra=DATA)
    out: Path | None = Field(
        None,
        json_schema_extra=OUTPUT,
        description="Folder for models, recipes, pictures and card [default: runs/DATA].",
    )
    minutes: PositiveFloat = Field(60.0, json_schema_extra=RUN, description="Time for all of it.")
    flip: float = Field(
        0.95,
        gt=0,
        le=1,
        json_schema_extra=DATA,
        description="Share of edits that the verifier is to accept, which the recipe is tuned for.",
    )
    space: Annotated[str, OneOf(SPACES, also=("auto",))] = Field(
        "auto", json_schema_extra=RUN, description="Where diffusion runs: in latents from 96 px on, or as named."
    )
    device: str = Field("auto", json_schema_extra=RUN, description="auto, cpu, cuda or mps.")
    threads: PositiveInt | None = Field(None, json_schema_extra=RUN, description="CPU threads [default: all].")
    seed: NonNegativeInt = Field(0, json_schema_extra=RUN, description="Of splits, trainings and tuning.")
    json_: bool = Field(False, alias="json", json_schema_extra=OUTPUT, description="Print the card as JSON.")
    force: bool = Field(
        False, json_schema_extra=OUTPUT, description="Start anew where the folder holds the fit of something else."
    )
