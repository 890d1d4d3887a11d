"""The settings of `cfdiff bag`. No torch here, so that `--help` stays quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, NonNegativeFloat, PositiveInt

from cfdiff.edit.settings import EditSettings
from cfdiff.edit.tile_settings import TileSettings
from cfdiff.registry import POLICIES, OneOf
from cfdiff.settings import PLACES, DataSettings
from cfdiff.workers.settings import ShardSettings


class BagSettings(ShardSettings, EditSettings, TileSettings, DataSettings):
    """cfdiff bag."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    split: str | None = Field(None, description="Split to take instances from [default: test where there is one].")
    others: Literal["judge", "drop"] = Field(
        "judge", description="Instances of neither class: the judge labels them, or they are left out."
    )
    threshold: float = Field(0.5, gt=0, lt=1, description="The judge's probability of positive that labels those.")
    bag_size: PositiveInt | None = Field(
        None, description="Draw bags of this many instances [default: a bag is a group, or all instances]."
    )
    bags: PositiveInt | None = Field(None, description="At most this many bags [default: all that can be dealt].")
    replacement: bool = Field(False, description="Draw with replacement: an instance may be in a bag more than once.")
    mix: str = Field("0.3", description="Fraction of positives: 0.3, a list 0.1,0.3,0.5, or beta:a,b drawn per bag.")
    sweep: str | None = Field(None, description="Mixes start:stop:step, in place of --mix; 0:1:0.1 for example.")
    counts: str | None = Field(
        None,
        description="Numbers of positives, as 1,2,4: mixes beside those of --sweep, else in place of --mix. One or two "
        "in a large bag are what a fraction seldom comes to.",
    )
    mode: Literal["instance", "joint"] = Field(
        "instance", description="Translate chosen instances, or guide the whole bag to the exact count."
    )
    select: Annotated[str, OneOf(POLICIES, also=("ids:",))] = Field(
        "uniform",
        description="Which instances: those that the checker is sure of are confident; ids:FILE lists them.",
    )
    temperature: NonNegativeFloat = Field(
        1.0, description="Randomness of confident and borderline, in nats of log-odds; 0 is strict order."
    )
    stratify: str | None = Field(None, description="Array or column: its values share the edits by largest remainder.")
    freeze: Path | None = Field(None, description="File with ids, one a line, of instances that must not change.")
    on_fail: Literal["replace", "retry", "keep", "error"] = Field(
        "replace",
        description="An instance that the verifier (else the checker) does not see flipped: climb the ladder and take "
        "the next instance; climb and keep it; keep the first try; or stop.",
    )
    untouched: Literal["copy", "sham"] = Field(
        "copy", description="The other instances: byte for byte, or edited to their own class, so as to look edited."
    )
    out: Path | None = Field(None, description="Result file [default: runs/bags.h5].")
    preview: Path | None = Field(None, description="Folder for a picture of each bag, and of the sweep.")
    export: tuple[Literal["clam", "torchmil", "npz"], Path] | None = Field(
        None, description="clam, torchmil or npz, and a folder: features and coords a bag, as those tools read them."
    )
    features: str | None = Field(
        None, description="timm model for the features of --export [default: the judge, before its last layer]."
    )
    feature_weights: Path | None = Field(
        None,
        description="Local safetensors file with its weights [default: timm's own, where they were downloaded before; "
        "cfdiff fetches none].",
    )
    json_: bool = Field(False, alias="json", description="Print the summary as JSON.")
    force: bool = Field(False, description="Replace an existing result.")


BAG_PLACES = PLACES | {"export", "features", "feature_weights", "freeze"}
"""Settings that say where, not what: a result holds what they lead to (hashes, frozen instances) instead."""
