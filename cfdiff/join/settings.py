"""The settings of `cfdiff join`. No torch here, so that `--help` stays quick."""

from __future__ import annotations

from pathlib import Path

from pydantic import ConfigDict, Field, PositiveInt

from cfdiff.settings import OUTPUT, RUN
from cfdiff.workers.settings import WorkerSettings


class JoinSettings(WorkerSettings):
    """cfdiff join."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    run: Path = Field(description="Result file that the shards are of: their --out.")
    remote: str | None = Field(
        None,
        json_schema_extra=RUN,
        description="URL of the parts of shards that shared no folder: their --remote. They are fetched, joined here, "
        "and removed there as they are beside the result (needs cfdiff[cloud]).",
    )
    volume: PositiveInt | None = Field(
        None,
        json_schema_extra=OUTPUT,
        description="Of cfdiff translate: keep the pixels of more than so many images in files of so many each, beside "
        "the result, which opens them all [default: one file].",
    )
    device: str = Field("auto", json_schema_extra=RUN, description="Of what bags still ask for: auto, cpu, cuda, mps.")
    threads: PositiveInt | None = Field(None, json_schema_extra=RUN, description="CPU threads of it [default: all].")
    json_: bool = Field(False, alias="json", json_schema_extra=OUTPUT, description="Print the summary as JSON.")
    force: bool = Field(False, json_schema_extra=OUTPUT, description="Replace an existing result.")
