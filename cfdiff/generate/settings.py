"""The settings of cfdiff generate. No torch here, so that `--help` stays quick."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from cfdiff.models.given import ModelFile, check_given
from cfdiff.registry import GUIDES, SOLVERS, OneOf
from cfdiff.settings import DATA, GUIDANCE, MODEL, OUTPUT, PATH, READING, RUN, Settings

LEAST_OF_A_PATH = 2


class GenerateSettings(Settings):
    """cfdiff generate."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    class_: str | None = Field(
        None,
        alias="class",
        json_schema_extra=DATA,
        description="Class to draw: negative, positive or its name [default: whatever the model draws].",
    )
    text: str | None = Field(
        None,
        json_schema_extra=DATA,
        description="What to draw, in words, with a diffusion model that reads them (train-diffusion --condition "
        "text|attributes), or by --guides clip.",
    )
    negative_text: str | None = Field(
        None,
        json_schema_extra=DATA,
        description="What it is to be less of, with --text: told in the place of nothing [default: nothing].",
    )
    images: PositiveInt = Field(24, json_schema_extra=DATA, description="How many; of a path, its places.")
    image_text: Path | None = Field(
        None,
        json_schema_extra=MODEL,
        description="Image-text model of --guides clip: a file of cfdiff train-clip.",
    )
    data: str | None = Field(
        None,
        json_schema_extra=DATA,
        description="Real images to compare with: bundled name, folder per class, .csv, .npz or .h5 [default: the "
        "bundled data of the weights, where there is one].",
    )
    negative: str | None = Field(
        None, json_schema_extra=DATA, description="Class name of the negatives, where it is not a known one."
    )
    positive: str | None = Field(None, json_schema_extra=DATA, description="Class name of the positives.")
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
        None, json_schema_extra=DATA, description="CSV with id,split of every real image, in place of their own splits."
    )
    split: str | None = Field(
        None, json_schema_extra=DATA, description="Split of the real images [default: test where there is one]."
    )
    interpolate: Literal["none", "seeds", "images"] = Field(
        "none",
        json_schema_extra=DATA,
        description="Draw what lies between two seeds, or between two real images, by their DDIM encodings.",
    )
    ends: tuple[str, ...] | None = Field(
        None,
        json_schema_extra=DATA,
        description="The two seeds, or the ids of the two images [default: the first two seeds, or an image of either "
        "class].",
    )
    weights: str | None = Field(
        None,
        json_schema_extra=MODEL,
        description="Bundled name or folder with the models [default: those of --data, else malaria-cells].",
    )
    diffusion: Path | None = Field(
        None,
        json_schema_extra=MODEL,
        description="File or folder of the diffusion model, also of diffusers or ADM, or a bundled one, as "
        "malaria-cells/words.",
    )
    guide: Path | None = Field(None, json_schema_extra=MODEL, description="Model file of the noise-aware guide.")
    checker: tuple[ModelFile, ...] = Field(
        (), json_schema_extra=MODEL, description="Model file of the clean checker, for the guide clean."
    )
    judge: ModelFile | None = Field(None, json_schema_extra=MODEL, description="Model file of the independent judge.")
    features: str = Field(
        "judge", json_schema_extra=MODEL, description="Network of FID and KID: the judge, or the name of a timm model."
    )
    feature_weights: Path | None = Field(
        None,
        json_schema_extra=MODEL,
        description="Local .safetensors weights of that timm model [default: timm's own, where they were downloaded "
        "before; cfdiff fetches none].",
    )
    solver: Annotated[str, OneOf(SOLVERS)] = Field(
        "ddpm", json_schema_extra=PATH, description="Sampler; between two ends dpm++ by default, which draws no noise."
    )
    steps: tuple[PositiveInt, ...] = Field(
        (20,),
        min_length=1,
        json_schema_extra=PATH,
        description="Levels that are walked down; several, as 5,10,20, show quality against calls.",
    )
    spacing: Literal["uniform", "quadratic", "logsnr"] = Field(
        "uniform", json_schema_extra=PATH, description="Spacing of the levels."
    )
    eta: float = Field(0.0, ge=0, le=1, json_schema_extra=PATH, description="Noise of DDIM; 0 is deterministic.")
    clip: bool | None = Field(
        None,
        json_schema_extra=PATH,
        description="Clip the x0 estimate to [-1, 1] at each step [default: in pixels, not in latents].",
    )
    guides: Annotated[str, OneOf(GUIDES, join=True, also=("auto",))] = Field(
        "auto",
        json_schema_extra=GUIDANCE,
        description="What leads to the class: the guide on x_l (noisy), the checker on the x0 estimate (clean), the "
        "diffusion model itself (cfg), or several, joined by +; auto is cfg where the model knows classes, else noisy.",
    )
    scale: NonNegativeFloat = Field(
        8.0, allow_inf_nan=False, json_schema_extra=GUIDANCE, description="Scale of classifier guidance; 0 is none."
    )
    w: NonNegativeFloat = Field(
        2.0,
        allow_inf_nan=False,
        json_schema_extra=GUIDANCE,
        description="Weight of cfg: eps(none) + w (eps(class or text) - eps(none)); 0 is none, 1 the model "
        "as it was trained.",
    )
    ratio: PositiveFloat | None = Field(
        None,
        json_schema_extra=GUIDANCE,
        description="All guidance is at most this fraction of the network's own norm [default: no limit].",
    )
    out: Path | None = Field(None, json_schema_extra=OUTPUT, description="Result file [default: runs/generated.h5].")
    picture: Path | None = Field(
        None, json_schema_extra=OUTPUT, description="Grid of the images (.png, .pdf, .svg) [default: beside --out]."
    )
    compare: bool = Field(True, json_schema_extra=OUTPUT, description="Measure FID and KID against real images.")
    json_: bool = Field(False, alias="json", json_schema_extra=OUTPUT, description="Print the summary as JSON.")
    force: bool = Field(False, json_schema_extra=OUTPUT, description="Replace an existing result.")
    batch_size: PositiveInt = Field(
        32, json_schema_extra=RUN, description="Images at once; also the unit of crash safety."
    )
    precision: Literal["no", "bf16", "fp16"] = Field(
        "no", json_schema_extra=RUN, description="Autocast of the diffusion network."
    )
    device: str = Field("auto", json_schema_extra=RUN, description="auto, cpu, cuda or mps.")
    threads: PositiveInt | None = Field(None, json_schema_extra=RUN, description="CPU threads [default: all].")
    seed: NonNegativeInt = Field(
        0, json_schema_extra=RUN, description="Seed of the first image; the next image has the next seed."
    )

    @model_validator(mode="before")
    @classmethod
    def _without_noise_between_two(cls, values: dict[str, Any]) -> dict[str, Any]:
        between = values.get("interpolate", "none") != "none"
        return {"solver": "dpm++", **values} if between and values.get("solver") is None else values

    @field_validator("checker", mode="before")
    @classmethod
    def _one_checker(cls, given: Any) -> Any:
        """A config file may name one as a string."""
        several = given if isinstance(given, list | tuple) else () if given is None else (given,)
        return tuple(map(check_given, several))

    @field_validator("judge", mode="before")
    @classmethod
    def _told(cls, given: Any) -> Any:
        return check_given(given)

    @field_validator("steps", mode="before")
    @classmethod
    def _one_count(cls, given: Any) -> Any:
        """A single number is a list of one."""
        return (given,) if isinstance(given, int) else given

    @field_validator("steps")
    @classmethod
    def _each_once(cls, steps: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(steps)) < len(steps):
            raise ValueError("a number of steps stands there twice")
        return tuple(sorted(steps))

    @field_validator("ends", mode="before")
    @classmethod
    def _words(cls, ends: Any) -> Any:
        """Seeds may be given as numbers."""
        return tuple(map(str, ends)) if isinstance(ends, list | tuple) else ends

    @field_validator("ends")
    @classmethod
    def _two(cls, ends: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if ends is not None and len(ends) != LEAST_OF_A_PATH:
            raise ValueError(f"a path has two ends, not {len(ends)}")
        return ends

    @field_validator("ratio")
    @classmethod
    def _no_limit(cls, ratio: float | None) -> float | None:
        return None if ratio == math.inf else ratio
