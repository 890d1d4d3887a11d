"""The settings of cfdiff zero-shot. No torch here, so that `--help` stays quick."""

from __future__ import annotations

from pathlib import Path

from pydantic import ConfigDict, Field, PositiveInt

from cfdiff.settings import DATA, MODEL, OUTPUT, RUN, DataSettings


class ZeroShotSettings(DataSettings):
    """cfdiff zero-shot."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    model: Path = Field(description="File of cfdiff train-clip, or folder of a CLIP model of transformers.")
    split: str | None = Field(
        None, json_schema_extra=DATA, description="Split to take images from [default: test where there is one]."
    )
    limit: PositiveInt | None = Field(
        None, json_schema_extra=DATA, description="At most this many images, spread over the groups."
    )
    captions: Path | None = Field(
        None,
        json_schema_extra=DATA,
        description="CSV with id,caption of every image [default: as cfdiff data captions makes them].",
    )
    texts: str | None = Field(
        None,
        json_schema_extra=MODEL,
        description="What the two classes are called, as 'NEGATIVE|POSITIVE' [default: as the model has it].",
    )
    batch_size: PositiveInt = Field(128, json_schema_extra=RUN, description="Images at once.")
    device: str = Field("auto", json_schema_extra=RUN, description="auto, cpu, cuda or mps.")
    threads: PositiveInt | None = Field(None, le=4096, json_schema_extra=RUN, description="CPU threads [default: all].")
    seed: int = Field(0, json_schema_extra=RUN, description="Of --limit.")
    json_: bool = Field(False, alias="json", json_schema_extra=OUTPUT, description="Print the figures as JSON.")
