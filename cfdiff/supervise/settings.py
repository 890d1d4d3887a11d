"""The settings of `cfdiff supervise`. No torch here, so that `--help` stays quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, field_validator

from cfdiff.registry import INVARIANCES, OneOf
from cfdiff.settings import DATA, OPTIMISATION, OUTPUT
from cfdiff.train.settings import NetworkSettings

PAIRS: dict[str, Any] = {"panel": "Pairs"}
NONE = "none"
"""The word of --pairs for plain training, and of --invariance."""
OF_MAPS = ("invariance_weight", "map_share", "map_grow")
"""Settings that are of an invariance outside the difference maps alone."""
OF_PAIRS = ("pairs_share", "pairs_weight", "accept", "rejected", "invariance", *OF_MAPS)
"""Settings that are of pairs alone."""


class SuperviseSettings(NetworkSettings):
    """cfdiff supervise."""

    pairs: tuple[Path, ...] = Field(
        min_length=1,
        json_schema_extra=PAIRS,
        description="Result file of cfdiff translate on the training split; give it again for more (the other "
        "direction). none trains on the data alone, with the same number of images a step.",
    )
    pairs_share: float = Field(
        0.5,
        gt=0,
        lt=1,
        json_schema_extra=PAIRS,
        description="Share of each step's images that are of pairs: half of them sources, half counterfactuals.",
    )
    pairs_weight: NonNegativeFloat = Field(
        1.0,
        allow_inf_nan=False,
        json_schema_extra=PAIRS,
        description="Weight of the class of an image of a pair, where that of any other image is 1.",
    )
    accept: float | None = Field(
        None,
        gt=0,
        le=1,
        json_schema_extra=PAIRS,
        description="Confidence of the verifier in the class asked for from which a pair is kept; without a verifier "
        "the checker's [default: what the run asked for].",
    )
    rejected: Literal["drop", "source"] = Field(
        "drop",
        json_schema_extra=PAIRS,
        description="What becomes of pairs of which the verifier is as sure that nothing of the class has changed: "
        "left out, or learned from with the class of their source.",
    )
    invariance: Annotated[str, OneOf(INVARIANCES)] = Field(
        "none",
        json_schema_extra=PAIRS,
        description="What is to be ignored outside the difference map: by the gradient, by the features, or nothing.",
    )
    invariance_weight: NonNegativeFloat = Field(
        1.0, allow_inf_nan=False, json_schema_extra=PAIRS, description="Weight of that term of the loss."
    )
    map_share: float = Field(
        0.1,
        gt=0,
        le=1,
        json_schema_extra=PAIRS,
        description="The map of a pair: pixels that change by at least this share of its largest change.",
    )
    map_grow: int = Field(
        5, ge=1, le=1023, json_schema_extra=PAIRS, description="Side of the square that the map is dilated by, odd."
    )
    test_split: str | None = Field(
        None,
        json_schema_extra=DATA,
        description="Split that the trained classifier is measured on [default: test where there is one].",
    )
    json_: bool = Field(False, alias="json", json_schema_extra=OUTPUT, description="Print what was found as JSON.")
    steps: int = Field(2000, gt=0, json_schema_extra=OPTIMISATION, description="Optimiser steps.")

    model_config = {"extra": "forbid", "frozen": True, "populate_by_name": True}

    @field_validator("pairs", mode="before")
    @classmethod
    def _one_file(cls, given: Any) -> Any:
        """A config file, or a caller in Python, may name one as a string."""
        return tuple(given) if isinstance(given, list | tuple) else (given,)

    @field_validator("pairs")
    @classmethod
    def _none_alone(cls, given: tuple[Path, ...]) -> tuple[Path, ...]:
        if len(given) > 1 and any(str(one) == NONE for one in given):
            raise ValueError("none is plain training, so no file can stand beside it")
        return given

    @field_validator("map_grow")
    @classmethod
    def _odd(cls, side: int) -> int:
        if side % 2 == 0:
            raise ValueError(f"a square around a pixel has an odd side, as {side + 1}")
        return side

    @property
    def plain(self) -> bool:
        """Whether it is a training without pairs."""
        return [str(one) for one in self.pairs] == [NONE]
