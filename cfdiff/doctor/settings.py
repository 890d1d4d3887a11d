"""The settings of `cfdiff doctor`: what a run would take, and how many images to look at."""

from __future__ import annotations

from pydantic import ConfigDict, Field, PositiveInt

from cfdiff.edit.settings import USUAL_BATCH, EditSettings
from cfdiff.settings import DATA, OUTPUT, RUN, DataSettings


class DoctorSettings(EditSettings, DataSettings):
    """cfdiff doctor."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    split: str | None = Field(
        None,
        json_schema_extra=DATA,
        description="Split to take images from [default: val where there is one, else test, else all].",
    )
    limit: int = Field(
        48, ge=2, json_schema_extra=DATA, description="Images to look at, half of each class, spread over the groups."
    )
    batch_size: PositiveInt = Field(USUAL_BATCH, json_schema_extra=RUN, description="Images at once.")
    json_: bool = Field(False, alias="json", json_schema_extra=OUTPUT, description="Print the lines as JSON.")
