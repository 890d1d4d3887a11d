"""The settings of edits in tiles. No torch here, so that `--help` stays quick."""

from __future__ import annotations

from pydantic import Field

from cfdiff.settings import TILES, Settings


class TileSettings(Settings):
    """How images are edited that are larger than the models take."""

    tile: int | None = Field(
        None,
        ge=8,
        json_schema_extra=TILES,
        description="Edit larger images in overlapping tiles of this side, the models' size [default: whole].",
    )
    tile_overlap: float = Field(
        0.25,
        gt=0,
        le=0.5,
        json_schema_extra=TILES,
        description="Least part of a tile that its neighbour has too; there one edit goes over into the other.",
    )
    every_tile: bool = Field(
        False,
        json_schema_extra=TILES,
        description="Edit every tile to the class asked for, not only as many as the image needs.",
    )
