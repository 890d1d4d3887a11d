"""The settings of every command: one validated model each, which a TOML file can hold and a result stores.

No torch here, so that `--help` stays quick.
"""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)

from cfdiff.errors import UserError

S = TypeVar("S", bound="Settings")


# The panel of `--help` that a field stands in: Field(..., json_schema_extra=DATA). An override keeps its parent's.
DATA: dict[str, Any] = {"panel": "Data"}
MODEL: dict[str, Any] = {"panel": "Model"}
OPTIMISATION: dict[str, Any] = {"panel": "Optimisation"}
OUTPUT: dict[str, Any] = {"panel": "Output"}
PATH: dict[str, Any] = {"panel": "Noise path"}
GUIDANCE: dict[str, Any] = {"panel": "Guidance"}
RUN: dict[str, Any] = {"panel": "Run"}


class Settings(BaseModel):
    """Base of all settings: unknown names are an error, and the object never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DataSettings(Settings):
    """Which images."""

    data: str = Field(
        "malaria-cells", description="Bundled name, folder per class, .csv, .npz or .h5.", json_schema_extra=DATA
    )
    negative: str | None = Field(
        None, description="Class name of the negatives, where it is not a known one.", json_schema_extra=DATA
    )
    positive: str | None = Field(None, description="Class name of the positives.", json_schema_extra=DATA)
    group_key: str | None = Field(
        None, description="Array or column that says which images belong together.", json_schema_extra=DATA
    )


class TrainSettings(DataSettings):
    """What both trainings share."""

    split: str | None = Field(
        None,
        description="Split to train on [default: train or train-guide where there is one, else all].",
        json_schema_extra=DATA,
    )
    val_split: str | None = Field(
        None,
        description="Split to validate on [default: the data's own, or a tenth of the groups].",
        json_schema_extra=DATA,
    )
    out: Path | None = Field(
        None,
        description="Folder for the model, log, samples and state [default: runs/ROLE-DATA].",
        json_schema_extra=OUTPUT,
    )
    steps: PositiveInt = Field(20_000, description="Optimiser steps.", json_schema_extra=OPTIMISATION)
    max_minutes: PositiveFloat | None = Field(
        None, description="Stop after this time; the rate falls to zero by then.", json_schema_extra=OPTIMISATION
    )
    batch_size: PositiveInt = Field(
        64, description="Images a step, over all processes.", json_schema_extra=OPTIMISATION
    )
    accumulate: PositiveInt = Field(
        1, description="Split each batch into this many passes.", json_schema_extra=OPTIMISATION
    )
    lr: PositiveFloat = Field(1e-3, description="Highest learning rate (AdamW).", json_schema_extra=OPTIMISATION)
    weight_decay: NonNegativeFloat = Field(0.01, description="Weight decay (AdamW).", json_schema_extra=OPTIMISATION)
    warmup: NonNegativeInt = Field(
        200, description="Steps of linear warm-up; a cosine to zero follows.", json_schema_extra=OPTIMISATION
    )
    clip: PositiveFloat = Field(1.0, description="Largest gradient norm.", json_schema_extra=OPTIMISATION)
    ema: float = Field(
        0.999,
        ge=0,
        lt=1,
        description="Decay of the averaged weights, which are what is saved.",
        json_schema_extra=OPTIMISATION,
    )
    augment: Literal["none", "flip", "dihedral"] = Field(
        "dihedral", description="Random flips, or flips and quarter turns.", json_schema_extra=OPTIMISATION
    )
    precision: Literal["no", "bf16", "fp16"] = Field(
        "no", description="Autocast of the network.", json_schema_extra=RUN
    )
    eval_every: PositiveInt = Field(
        500, description="Steps between validations, samples and saved models.", json_schema_extra=OUTPUT
    )
    val_limit: PositiveInt = Field(512, description="Images of a validation.", json_schema_extra=OUTPUT)
    half: bool = Field(True, description="Save the weights in float16.", json_schema_extra=OUTPUT)
    device: str = Field("auto", description="auto, cpu, cuda or mps.", json_schema_extra=RUN)
    threads: PositiveInt | None = Field(None, description="CPU threads [default: all].", json_schema_extra=RUN)
    seed: int = Field(0, description="Of the initial weights, the batches and the noise.", json_schema_extra=RUN)
    force: bool = Field(
        False, description="Start anew where the folder holds another training.", json_schema_extra=OUTPUT
    )


class DiffusionSettings(TrainSettings):
    """cfdiff train-diffusion."""

    schedule: Literal["linear", "cosine"] = Field("cosine", description="Noise schedule.", json_schema_extra=MODEL)
    T: PositiveInt = Field(1000, description="Noising steps.", json_schema_extra=MODEL)
    patch: PositiveInt = Field(
        2, description="Pixels per side folded into channels at the entrance.", json_schema_extra=MODEL
    )
    width: PositiveInt = Field(48, description="Channels at the first resolution.", json_schema_extra=MODEL)
    mult: tuple[PositiveInt, ...] | None = Field(
        None,
        description="Channel multiplier of each resolution [default: 1,2,3, or as far as the size can be halved].",
        json_schema_extra=MODEL,
    )
    blocks: PositiveInt = Field(1, description="Residual blocks per resolution.", json_schema_extra=MODEL)
    attention: tuple[PositiveInt, ...] = Field(
        (2, 4), description="Downsampling factors with self-attention.", json_schema_extra=MODEL
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout in the residual blocks.", json_schema_extra=MODEL)
    val_limit: PositiveInt = Field(192, description="Images of a validation.", json_schema_extra=OUTPUT)
    level_power: PositiveFloat = Field(
        1.0, description="Levels are drawn as T u^power: above 1 dwells at low noise.", json_schema_extra=OPTIMISATION
    )
    ema: float = Field(
        0.9995,
        ge=0,
        lt=1,
        description="Decay of the averaged weights, which are what is saved.",
        json_schema_extra=OPTIMISATION,
    )


class ClassifierSettings(TrainSettings):
    """cfdiff train-classifier."""

    noisy: bool = Field(
        True, description="--noisy trains a guide (sees x_l), --clean a checker or judge.", json_schema_extra=MODEL
    )
    arch: str = Field("resnet14t", description="Any timm model.", json_schema_extra=MODEL)
    kwargs: dict[str, Any] = Field(
        default_factory=dict, description="JSON: further arguments of timm.create_model.", json_schema_extra=MODEL
    )
    upsample: PositiveInt = Field(1, description="Enlarge the images before the network.", json_schema_extra=MODEL)
    pretrained: Path | None = Field(
        None, description="Local safetensors file with timm weights.", json_schema_extra=MODEL
    )
    schedule: Literal["linear", "cosine"] = Field(
        "cosine", description="Noise schedule of the guide.", json_schema_extra=MODEL
    )
    T: PositiveInt = Field(1000, description="Noising steps.", json_schema_extra=MODEL)
    level_power: PositiveFloat = Field(
        3.0, description="The guide's levels are drawn as T u^power.", json_schema_extra=OPTIMISATION
    )
    clean_share: float = Field(
        0.2, ge=0, le=1, description="Share of the guide's images at level 0.", json_schema_extra=OPTIMISATION
    )
    gain: float = Field(
        0.1, ge=0, lt=1, description="Random brightness: pixel values times 1 +- gain.", json_schema_extra=OPTIMISATION
    )
    shift: NonNegativeInt = Field(2, description="Random shift in pixels.", json_schema_extra=OPTIMISATION)
    noise: NonNegativeFloat = Field(
        0.0,
        description="Clean training: random noise up to this sigma ([-1, 1] units).",
        json_schema_extra=OPTIMISATION,
    )
    calibrate: bool = Field(
        False, description="Fit a temperature at each noise level on the validation images.", json_schema_extra=OUTPUT
    )
    smoothing: float = Field(0.05, ge=0, lt=1, description="Label smoothing.", json_schema_extra=OPTIMISATION)
    lr: PositiveFloat = Field(2e-3, description="Highest learning rate (AdamW).", json_schema_extra=OPTIMISATION)
    weight_decay: NonNegativeFloat = Field(0.05, description="Weight decay (AdamW).", json_schema_extra=OPTIMISATION)


class EditSettings(Settings):
    """How an image is edited: shared by translate and everything that edits."""

    weights: str | None = Field(
        None,
        json_schema_extra=MODEL,
        description="Bundled name or folder with the four models [default: those of --data].",
    )
    diffusion: Path | None = Field(None, json_schema_extra=MODEL, description="Model file of the diffusion model.")
    guide: Path | None = Field(None, json_schema_extra=MODEL, description="Model file of the noise-aware guide.")
    checker: Path | None = Field(None, json_schema_extra=MODEL, description="Model file of the clean checker.")
    judge: Path | None = Field(None, json_schema_extra=MODEL, description="Model file of the independent judge.")
    depth: float = Field(
        0.3, gt=0, le=1, json_schema_extra=PATH, description="How far up the noise levels, a fraction of T."
    )
    steps: PositiveInt = Field(15, json_schema_extra=PATH, description="Levels of tau up to depth: S up, S down.")
    spacing: Literal["uniform", "quadratic", "logsnr"] = Field(
        "uniform", json_schema_extra=PATH, description="Spacing of tau."
    )
    guides: Literal["both", "noisy", "clean"] = Field(
        "both",
        json_schema_extra=GUIDANCE,
        description="The guide on x_l, the checker on the x0 estimate, or their sum.",
    )
    exact: bool = Field(
        False,
        json_schema_extra=GUIDANCE,
        description="Clean gradient through the U-Net (slow) instead of the cheap Tweedie form.",
    )
    scale: NonNegativeFloat = Field(
        20.0, json_schema_extra=GUIDANCE, description="Guidance scale; 0 returns the input."
    )
    ratio: PositiveFloat | None = Field(
        0.3, json_schema_extra=GUIDANCE, description="Guidance is at most this fraction of the network's own norm."
    )
    target: float = Field(
        0.95, gt=0, le=1, json_schema_extra=GUIDANCE, description="The checker's confidence at which an edit is enough."
    )
    accept: float = Field(
        0.9,
        gt=0,
        le=1,
        json_schema_extra=GUIDANCE,
        description="The checker's confidence in the image as saved under which it is tried again, at most --target.",
    )
    closed_loop: bool = Field(
        True, json_schema_extra=GUIDANCE, description="Stop guiding a sample of which the checker is sure."
    )
    retries: NonNegativeInt = Field(
        4,
        json_schema_extra=GUIDANCE,
        description="Rungs of the ladder for images below --accept: 1.5 x ratio each, then twice 1.5 x depth.",
    )
    inversion: Literal["ddim", "fixed-point", "noise"] = Field(
        "ddim", json_schema_extra=PATH, description="How the image is encoded."
    )
    anchored: bool = Field(
        True, json_schema_extra=PATH, description="Add the residual of the unguided path back: no guidance, no change."
    )
    solver: Literal["ddim", "ddpm", "dpm++"] = Field(
        "ddim", json_schema_extra=PATH, description="Solver of the decode."
    )
    eta: float = Field(0.0, ge=0, le=1, json_schema_extra=PATH, description="Noise of DDIM; 0 is deterministic.")
    clip: bool = Field(False, json_schema_extra=PATH, description="Clip the x0 estimate while decoding.")
    mask: Literal["none", "auto", "data"] = Field(
        "none",
        json_schema_extra=GUIDANCE,
        description="Where to edit: anywhere, where a first pass changes most, or the data's masks.",
    )
    mask_share: float = Field(
        0.15,
        gt=0,
        le=1,
        json_schema_extra=GUIDANCE,
        description="Share of pixels of --mask auto, before it is dilated.",
    )
    batch_size: PositiveInt = Field(
        32, json_schema_extra=RUN, description="Images at once; also the unit of crash safety."
    )
    precision: Literal["no", "bf16", "fp16"] = Field(
        "no", json_schema_extra=RUN, description="Autocast of the diffusion network."
    )
    device: str = Field("auto", json_schema_extra=RUN, description="auto, cpu, cuda or mps.")
    threads: PositiveInt | None = Field(None, json_schema_extra=RUN, description="CPU threads [default: all].")
    seed: int = Field(0, json_schema_extra=RUN, description="Of every image's noise, and of --limit.")


class TranslateSettings(EditSettings, DataSettings):
    """cfdiff translate."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    from_: str = Field(
        "negative",
        alias="from",
        json_schema_extra=DATA,
        description="Class to start from: negative, positive or its name in the data.",
    )
    to: str | None = Field(None, json_schema_extra=DATA, description="Class to end in [default: the other].")
    split: str | None = Field(
        None, json_schema_extra=DATA, description="Split to take images from [default: test where there is one]."
    )
    limit: PositiveInt | None = Field(
        None, json_schema_extra=DATA, description="At most this many images, spread over the groups."
    )
    factual: bool = Field(False, json_schema_extra=OUTPUT, description="Store the unguided reconstruction too.")
    out: Path | None = Field(None, json_schema_extra=OUTPUT, description="Result file [default: runs/FROM-to-TO.h5].")
    preview: Path | None = Field(
        None, json_schema_extra=OUTPUT, description="Picture of some results (.png, .pdf, .svg)."
    )
    json_: bool = Field(False, alias="json", json_schema_extra=OUTPUT, description="Print the summary as JSON.")
    force: bool = Field(False, json_schema_extra=OUTPUT, description="Replace an existing result.")


PLACES = {
    "out",
    "preview",
    "force",
    "json_",
    "device",
    "threads",
    "data",
    "weights",
    "diffusion",
    "guide",
    "checker",
    "judge",
}
"""Settings that say where, not what: they are not part of a result, which holds hashes instead of paths."""


def resolve(model: type[S], config: Path | None, given: dict[str, Any]) -> S:
    """Defaults, then the TOML file, then what the command line gives.

    Raises:
        UserError: an unreadable file, an unknown name or an unfit value, said in one sentence.
    """
    values: dict[str, Any] = {}
    if config is not None:
        try:
            values = tomllib.loads(config.read_text())
        except OSError as error:
            raise UserError(f"The config file {config.name!r} cannot be read: {error.strerror}.") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"The config file {config.name!r} is no valid TOML: {error}.") from error
    fields = model.model_fields
    names = {field.alias: name for name, field in fields.items() if field.alias}  # "from" -> "from_"
    values = {names.get(key, key): value for key, value in values.items()}
    try:
        return model(**{**values, **given})
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        if first["type"] == "extra_forbidden":
            where = "" if config is None else f" in {config.name}"
            known = sorted(field.alias or name for name, field in fields.items())
            close = difflib.get_close_matches(name.replace("-", "_"), known)
            hint = f"did you mean {', '.join(close)}?" if close else f"the known ones are {', '.join(known)}."
            raise UserError(f"There is no setting {name!r}{where}: {hint}") from error
        raise UserError(f"The setting {name} = {first['input']!r} is not possible: {first['msg'].lower()}.") from error
