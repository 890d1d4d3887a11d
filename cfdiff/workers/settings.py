"""The settings of work that may be shared. No torch and no Ray here, so that `--help` stays quick."""

from __future__ import annotations

from pydantic import Field, PositiveInt, field_validator

from cfdiff.settings import RUN, Settings
from cfdiff.shard import Shard


class WorkerSettings(Settings):
    """Other processes that compute beside this one, which then only hands out the pieces and joins them."""

    workers: PositiveInt | None = Field(
        None,
        json_schema_extra=RUN,
        description="Worker processes, of one GPU or some threads each (needs cfdiff[ray]) [default: this process; "
        "with --ray as many as there are GPUs, or CPUs].",
    )
    ray: str | None = Field(
        None,
        json_schema_extra=RUN,
        description="Address of a Ray cluster whose machines work, HOST:PORT or auto [default: this machine].",
    )


class ShardSettings(WorkerSettings):
    """Work that an array of jobs may share too."""

    shard: str | None = Field(
        None,
        json_schema_extra=RUN,
        description="Do one share of the run in a job array, as 3/100; cfdiff join makes the result of all of them.",
    )

    remote: str | None = Field(
        None,
        json_schema_extra=RUN,
        description="URL of a folder (s3://bucket/run) where the parts lie too, for machines that share none: what is "
        "there of this run is taken, each part is put there when it is done, and all are removed when the result is "
        "made (needs cfdiff[cloud]).",
    )

    @field_validator("shard")
    @classmethod
    def _is_one(cls, text: str | None) -> str | None:
        return None if text is None else str(Shard.parse(text))

    @property
    def which_shard(self) -> Shard | None:
        """The shard that `shard` names."""
        return None if self.shard is None else Shard.parse(self.shard)


def sharing(s: ShardSettings) -> tuple[int, int]:
    """How many processes share a run, as far as its settings know, and how many of them this machine."""
    here = s.workers or 1
    return here * (1 if s.which_shard is None else s.which_shard.of), here
