"""The settings of `cfdiff evaluate`. No torch here, so that `--help` stays quick."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, NonNegativeFloat, PositiveInt, field_validator

from cfdiff.models.given import ModelFile, check_given
from cfdiff.settings import DATA, MODEL, OUTPUT, READING, RUN
from cfdiff.workers.settings import WorkerSettings

MEASURE: dict[str, Any] = {"panel": "Measure"}


class EvaluateSettings(WorkerSettings):
    """cfdiff evaluate."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    run: Path = Field(description="Result of cfdiff translate, or bag file of cfdiff bag.")
    data: str | None = Field(
        None, json_schema_extra=DATA, description="The run's data, for its masks [default: its bundled name]."
    )
    layout: str | None = Field(
        None,
        json_schema_extra=DATA,
        description="What the folders of --data stand for: class/group, group/class, split/class, ... [default: by "
        "their names].",
    )
    reading: str | None = Field(
        None,
        json_schema_extra=DATA,
        description=f"{READING}, ... (docs/clinical.md).",
    )
    splits: Path | None = Field(
        None,
        json_schema_extra=DATA,
        description="CSV id,split of the real images, in place of their own [default: those of the fit in --weights].",
    )
    masks: str | None = Field(
        None,
        json_schema_extra=DATA,
        description="Lesion masks: a folder with ID.png, or a source that holds them [default: those of --data].",
    )
    threshold_from: Path | None = Field(
        None,
        json_schema_extra=DATA,
        description="Result on validation images: the threshold of the difference map is fixed on it.",
    )
    reference: str | None = Field(
        None, json_schema_extra=DATA, description="Real images to compare with [default: --data, or the run's own]."
    )
    split: str | None = Field(
        None,
        json_schema_extra=DATA,
        description="Split of --reference, or all [default: the run's or test, where there; else all].",
    )
    judge: tuple[ModelFile, ...] = Field(
        (),
        json_schema_extra=MODEL,
        description="Another judge than the run's: its model file; given again, a second one, and flips by both.",
    )
    weights: str | None = Field(
        None,
        json_schema_extra=MODEL,
        description="Bundled name or folder with the run's models [default: those of its data].",
    )
    features: str = Field(
        "judge", json_schema_extra=MODEL, description="Features for realism and similarity: judge, or any timm model."
    )
    feature_weights: Path | None = Field(
        None,
        json_schema_extra=MODEL,
        description="Local safetensors file with the weights of that timm model [default: timm's own, where they were "
        "downloaded before; cfdiff fetches none].",
    )
    faithfulness: bool | None = Field(
        None,
        json_schema_extra=MEASURE,
        description="COUT, deletion and insertion [default: where the judge is at hand].",
    )
    realism: bool | None = Field(
        None,
        json_schema_extra=MEASURE,
        description="FID, KID and similarity of features [default: where model and real images are at hand].",
    )
    pair: bool | None = Field(
        None,
        json_schema_extra=MEASURE,
        description="Distance from the true twin of each image [default: where --data or the bundled data has pairs].",
    )
    round_trip: bool = Field(
        False, json_schema_extra=MEASURE, description="Translate back with the run's settings (as slow as the run)."
    )
    eps: NonNegativeFloat = Field(
        4.0, json_schema_extra=MEASURE, description="A pixel has changed by more than this many 255ths of full range."
    )
    fractions: PositiveInt = Field(50, json_schema_extra=MEASURE, description="Steps of the faithfulness curves.")
    smooth: NonNegativeFloat = Field(
        0.0, json_schema_extra=MEASURE, description="Sigma in pixels of a Gaussian blur of the maps for localisation."
    )
    relative: bool = Field(
        False,
        json_schema_extra=MEASURE,
        description="Divide each map by its highest value, so that weak edits count as much as strong ones.",
    )
    repeats: PositiveInt = Field(
        10, json_schema_extra=MEASURE, description="Random draws for FID and KID, halves for sFID."
    )
    bootstrap: PositiveInt = Field(
        2000, json_schema_extra=MEASURE, description="Resamples for intervals that are bootstrapped."
    )
    out: Path | None = Field(None, json_schema_extra=OUTPUT, description="Write the figures as JSON (.json).")
    save: Path | None = Field(
        None, json_schema_extra=OUTPUT, description="Write the values of every image and the curves as HDF5 (.h5)."
    )
    json_: bool = Field(False, alias="json", json_schema_extra=OUTPUT, description="Print the figures as JSON.")
    force: bool = Field(False, json_schema_extra=OUTPUT, description="Replace existing --out and --save files.")
    batch_size: PositiveInt = Field(32, json_schema_extra=RUN, description="Images at once.")
    device: str = Field("auto", json_schema_extra=RUN, description="auto, cpu, cuda or mps.")
    threads: PositiveInt | None = Field(None, json_schema_extra=RUN, description="CPU threads [default: all].")
    seed: int = Field(0, json_schema_extra=RUN, description="Of resamples and random halves.")

    def layout_of(self, spec: str) -> str | None:
        """The layout of a source, which is told of --data alone."""
        return self.layout if spec == self.data else None

    def reading_of(self, spec: str) -> str | None:
        """How the files of a source are read, which is told of --data alone."""
        return self.reading if spec == self.data else None

    @field_validator("judge", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        """A single file is a list of one, None is none."""
        several = value if isinstance(value, list | tuple) else () if value is None else (value,)
        return tuple(map(check_given, several))
