"""The settings of `cfdiff mil`. No torch here, so that `--help` stays quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, field_validator

from cfdiff.files import is_there
from cfdiff.registry import ATTRIBUTIONS, BAG_MODELS, BAG_TARGETS, MIXTURE_LOSSES, OneOf
from cfdiff.settings import DATA, MODEL, OPTIMISATION, OUTPUT, RUN, DataSettings, Settings
from cfdiff.train.settings import TrainSettings

MIXTURES: dict[str, Any] = {"panel": "Mixtures"}
BAGS = "Bundled name or images with groups, a folder of features (torchmil, CLAM, TRIDENT, npz), or a bag file."
MODEL_FILE = Path("runs") / "mil-malaria-cells" / "model.safetensors"
DEFAULT_WEIGHTS = {"label": 1.0, "rank": 0.5, "distance": 1.0, "attention": 0.1, "embedding": 0.1, "direction": 0.1}
"""What a loss of mixtures counts beside that of the real bags, which counts 1."""


WORDS = ("swap", "none")
"""The words of --mixtures, which are no files."""
NAMELESS = ("", ".")
"""What may be an empty name: as a path, it is the folder that one is in."""


def _files(one: Any) -> list[Any]:
    """One file, or several with commas between; a comma may also stand in a name.

    Raises:
        ValueError: a name is empty, as of a variable of the shell that is not set, or it is ".", as which the command
            line passes an empty one.
    """
    if not isinstance(one, str | Path):
        return [one]
    if str(one).strip() not in NAMELESS and is_there(Path(one)):
        return [one]
    parts = [part.strip() for part in str(one).split(",")]
    if any(part in NAMELESS for part in parts):
        raise ValueError(f"{str(one)!r} holds an empty name or '.': name each file or folder, with one comma between")
    return parts


class BagFields(Settings):
    """Which bags."""

    labels: Path | None = Field(
        None,
        description="Table of slide_id,label (case_id, split) of a folder of features [default: its dataset.csv].",
        json_schema_extra=DATA,
    )
    bag_size: PositiveInt | None = Field(
        None,
        description="Larger bags are dealt into parts of at most this many instances [default: 32 images, else all].",
        json_schema_extra=DATA,
    )


class MilTrainSettings(TrainSettings, BagFields):
    """cfdiff mil train."""

    data: str = Field("malaria-cells", description=BAGS, json_schema_extra=DATA)
    model: Annotated[str, OneOf(BAG_MODELS)] = Field("abmil", description="Model of torchmil.", json_schema_extra=MODEL)
    kwargs: dict[str, Any] = Field(
        default_factory=dict, description="JSON: further arguments of the model.", json_schema_extra=MODEL
    )
    width: PositiveInt = Field(64, description="Numbers of an instance's embedding.", json_schema_extra=MODEL)
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout of the embedding.", json_schema_extra=MODEL)
    target: Annotated[str, OneOf(BAG_TARGETS)] = Field(
        "label",
        description="What it says of a bag: its class, its fraction of positives, or only which of two holds more.",
        json_schema_extra=MODEL,
    )
    arch: str = Field("resnet10t", description="Encoder of images: any timm model.", json_schema_extra=MODEL)
    arch_kwargs: dict[str, Any] = Field(
        default_factory=lambda: {"channels": [16, 32, 48, 64], "stem_width": 16},
        description="JSON: what shapes it.",
        json_schema_extra=MODEL,
    )
    encoder: Path | None = Field(
        None,
        description="Model file of a clean classifier whose network, without its last layer, is the encoder.",
        json_schema_extra=MODEL,
    )
    frozen: bool = Field(False, description="The encoder does not learn.", json_schema_extra=MODEL)
    mixtures: tuple[Path, ...] | None = Field(
        None,
        min_length=1,
        description="The same bags at several mixes: file of cfdiff bag --sweep or folder of its --export, given again "
        "for more (or with commas between); swap: real instances exchanged between bags; or none [default: swap where "
        "instance labels are known].",
        json_schema_extra=MIXTURES,
    )
    losses: Annotated[str, OneOf(MIXTURE_LOSSES, join=True)] = Field(
        "label+rank+attention+embedding+direction",
        description="What is asked of the mixes of a bag, joined by +.",
        json_schema_extra=MIXTURES,
    )
    weights: dict[str, NonNegativeFloat] = Field(
        default_factory=dict,
        description="JSON: weight of each loss, beside 1 for the real bags [default: label 1, rank .5, distance 1, "
        "others .1].",
        json_schema_extra=MIXTURES,
    )
    versions: int = Field(4, ge=2, description="Mixes of a bag in a step.", json_schema_extra=MIXTURES)
    low: PositiveFloat = Field(
        4.0, description="Mixes of one or two positives are drawn so many times as often.", json_schema_extra=MIXTURES
    )
    permute: bool = Field(
        False,
        description="Control: deal the labels of mixed bags anew, so that they say nothing.",
        json_schema_extra=MIXTURES,
    )
    balance: bool = Field(
        True, description="As many positive as negative bags in a step.", json_schema_extra=OPTIMISATION
    )
    steps: PositiveInt = Field(200, description="Optimiser steps.", json_schema_extra=OPTIMISATION)
    batch_size: PositiveInt = Field(
        4, description="Real bags a step, and as many at several mixes.", json_schema_extra=OPTIMISATION
    )
    warmup: NonNegativeInt = Field(
        20, description="Steps of linear warm-up; a cosine to zero follows.", json_schema_extra=OPTIMISATION
    )
    ema: float = Field(
        0.98,
        ge=0,
        lt=1,
        description="Decay of the averaged weights, which are what is saved.",
        json_schema_extra=OPTIMISATION,
    )
    eval_every: PositiveInt = Field(
        100, description="Steps between validations and saved models.", json_schema_extra=OUTPUT
    )
    val_limit: PositiveInt = Field(128, description="Bags of a validation.", json_schema_extra=OUTPUT)
    out: Path | None = Field(
        None, description="Folder for the model, log and state [default: runs/mil-DATA].", json_schema_extra=OUTPUT
    )

    @field_validator("mixtures", mode="before")
    @classmethod
    def _each_file(cls, given: Any) -> Any:
        """A config file, or a caller in Python, may name one as a string; each may be a list with commas between."""
        if given is None:
            return None
        return tuple(part for one in (given if isinstance(given, list | tuple) else (given,)) for part in _files(one))

    @field_validator("mixtures")
    @classmethod
    def _word_alone(cls, given: tuple[Path, ...] | None) -> tuple[Path, ...] | None:
        if given is not None and len(given) > 1 and (words := [str(one) for one in given if str(one) in WORDS]):
            raise ValueError(f"{words[0]} stands alone, so no file or other word can stand beside it")
        return given


class MilReadSettings(DataSettings, BagFields):
    """What the commands about a finished bag model share."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    model: Path = Field(MODEL_FILE, description="Model file of cfdiff mil train.")
    data: str = Field("malaria-cells", description=BAGS, json_schema_extra=DATA)
    split: str | None = Field(
        None, description="Split of the bags [default: test where there is one, else all].", json_schema_extra=DATA
    )
    limit: PositiveInt | None = Field(None, description="At most this many bags.", json_schema_extra=DATA)
    known_groups: bool = Field(
        False, description="Also measure on patients that the model learned from.", json_schema_extra=DATA
    )
    seed: NonNegativeInt = Field(0, description="Of draws and of exchanged instances.", json_schema_extra=RUN)
    device: str = Field("auto", description="auto, cpu, cuda or mps.", json_schema_extra=RUN)
    threads: PositiveInt | None = Field(None, description="CPU threads [default: all].", json_schema_extra=RUN)
    json_: bool = Field(False, alias="json", description="Print the figures as JSON.", json_schema_extra=OUTPUT)


class MilEvaluateSettings(MilReadSettings):
    """cfdiff mil evaluate."""

    most_positives: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Leave at most this fraction of positives in a bag: 0.02 for the hard task.",
        json_schema_extra=DATA,
    )
    out: Path | None = Field(
        None, description="File for the figures (.json), besides what is printed.", json_schema_extra=OUTPUT
    )


class MilExplainSettings(MilReadSettings):
    """cfdiff mil explain."""

    sweep: tuple[Path, ...] | None = Field(
        None,
        description="Bags at several mixes: file of cfdiff bag --sweep, or folder of its --export [default: exchanged "
        "real instances only].",
        json_schema_extra=MIXTURES,
    )
    other_models: bool = Field(
        False, description="The sweep may be of other models than the training's.", json_schema_extra=MIXTURES
    )
    attribution: Annotated[str, OneOf(ATTRIBUTIONS, join=True)] = Field(
        "attention+gradient+removal", description="How much of the score is each instance's, joined by +."
    )
    out: Path = Field(
        Path("runs") / "mil-explain", description="Folder for figures and explain.json.", json_schema_extra=OUTPUT
    )
    force: bool = Field(False, description="Write into a folder that holds something.", json_schema_extra=OUTPUT)
