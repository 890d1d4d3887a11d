"""The settings of cfdiff translate. No torch here, so that `--help` stays quick."""

from __future__ import annotations

from pathlib import Path

from pydantic import ConfigDict, Field, PositiveInt

from cfdiff.edit.settings import HeldSettings
from cfdiff.edit.tile_settings import TileSettings
from cfdiff.settings import DATA, GUIDANCE, OUTPUT, DataSettings
from cfdiff.workers.settings import ShardSettings


class TranslateSettings(ShardSettings, HeldSettings, TileSettings, DataSettings):
    """cfdiff translate."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    from_: str = Field(
        "negative",
        alias="from",
        json_schema_extra=DATA,
        description="Class to start from: negative, positive or its name in the data.",
    )
    to: str | None = Field(None, json_schema_extra=DATA, description="Class to end in [default: the other].")
    to_text: str | None = Field(
        None,
        json_schema_extra=GUIDANCE,
        description="What the image is to be, in words: told to a diffusion model that reads them (train-diffusion "
        "--condition text|attributes), which then leads alone unless --guides says more; of --guides clip, read by the "
        "image-text model [default: its text of the class].",
    )
    from_text: str | None = Field(
        None,
        json_schema_extra=GUIDANCE,
        description="What it is to be less of, with --to-text; none for nothing [default: the text of its class].",
    )
    split: str | None = Field(
        None, json_schema_extra=DATA, description="Split to take images from [default: test where there is one]."
    )
    limit: PositiveInt | None = Field(
        None, json_schema_extra=DATA, description="At most this many images, spread over the groups."
    )
    factual: bool = Field(False, json_schema_extra=OUTPUT, description="Store the unguided reconstruction too.")
    out: Path | None = Field(None, json_schema_extra=OUTPUT, description="Result file [default: runs/FROM-to-TO.h5].")
    volume: PositiveInt | None = Field(
        None,
        json_schema_extra=OUTPUT,
        description="Keep the pixels of more than so many images in files of so many each, beside the result, which "
        "opens them all [default: one file].",
    )
    preview: Path | None = Field(
        None, json_schema_extra=OUTPUT, description="Picture of some results (.png, .pdf, .svg)."
    )
    json_: bool = Field(False, alias="json", json_schema_extra=OUTPUT, description="Print the summary as JSON.")
    force: bool = Field(False, json_schema_extra=OUTPUT, description="Replace an existing result.")

    @property
    def texts(self) -> tuple[str | None, str | None]:
        """See `EditSettings`."""
        return self.to_text, self.from_text
