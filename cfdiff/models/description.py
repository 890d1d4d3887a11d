"""What a classifier that somebody else made takes and says: asked for or read from its own files, never guessed.

It stands beside the model: `mine.toml` (or `mine.json`) for `mine.pt`, `cfdiff.toml` in a folder. No torch here, as
settings and `--help` come by.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from cfdiff.errors import UserError, first_line
from cfdiff.files import atomic, parse_json, parse_toml
from cfdiff.registry import OUTPUTS, OneOf

NORMALISATIONS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "unit": ((0.0,), (1.0,)),
    "symmetric": ((0.5,), (0.5,)),
    "bytes": ((0.0,), (1 / 255,)),
}
"""Mean and std of pixels in [0, 1]: what the network gets is (pixel - mean) / std. Unit is [0, 1], symmetric [-1, 1],
bytes [0, 255]."""
IN_A_FOLDER = "cfdiff.toml"
NEEDED = ("classes", "output", "normalisation", "channels", "size")

Groups = tuple[tuple[int, ...], ...]


class Normalisation(BaseModel):
    """Mean and std of each channel (or one of all), for pixels in [0, 1]."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @model_validator(mode="after")
    def _possible(self) -> Normalisation:
        if not all(map(math.isfinite, self.mean + self.std)) or not all(s > 0 for s in self.std):
            raise ValueError("mean and std are finite numbers, std above 0")
        if len({len(self.mean), len(self.std)} - {1}) > 1 or not self.mean or not self.std:
            raise ValueError("mean and std have one number, or one for each channel")
        if max(self.mean) > 1:
            raise ValueError("mean and std are of pixels in [0, 1]: divide them by 255")
        return self


class Description(BaseModel):
    """All that must be known of a classifier.

    Attributes:
        classes: index of the negative, index of the positive; each may be several, of which any will do. One alone,
            of a multi-label classifier, is a label against its absence.
        output: a name of registry.OUTPUTS.
        normalisation: a name of NORMALISATIONS, or mean and std.
        channels: 3 for a network of colour images; gray ones are then given three times.
        size: (H, W) that images are resized to; "images" for a network that takes them as they are.
        interpolation: how.
        against: what p of a class is a share of: "all" classes, or the "pair" alone.
        names: of the negative and the positive class, which are then held against those of the data.
        arch, num_classes, kwargs: what builds a timm model, for a state dict alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    classes: Groups
    output: Annotated[str, OneOf(OUTPUTS)]
    normalisation: str | Normalisation
    channels: Literal[1, 3]
    size: tuple[int, int] | Literal["images"]
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    against: Literal["all", "pair"] = "all"
    names: tuple[str, str] | None = None
    arch: str | None = None
    num_classes: int | None = Field(None, ge=1)
    kwargs: dict[str, Any] = Field(default_factory=dict)

    @field_validator("classes", mode="before")
    @classmethod
    def _groups(cls, given: Any) -> Any:
        """ "248,250", "3+5,7", 3, [248, 250] and [[3, 5], [7]]."""
        if isinstance(given, str):
            given = [group.split("+") for group in given.split(",")]
        elif not isinstance(given, list | tuple):
            given = [given]
        return tuple(tuple(group) if isinstance(group, list | tuple) else (group,) for group in given)

    @field_validator("classes")
    @classmethod
    def _two(cls, groups: Groups) -> Groups:
        indices = [index for group in groups for index in group]
        if not 1 <= len(groups) <= 2 or not all(groups) or min(indices) < 0:
            raise ValueError("it is the index of the negative class and that of the positive, counted from 0, as 0,1")
        if len(set(indices)) < len(indices):
            raise ValueError("no index may stand there twice")
        return groups

    @field_validator("output")
    @classmethod
    def _known_output(cls, name: str) -> str:
        OneOf(OUTPUTS).check(name)
        return name

    @field_validator("normalisation", mode="before")
    @classmethod
    def _mean_and_std(cls, given: Any) -> Any:
        """A name, {mean, std}, or "0.5,0.5,0.5/0.2,0.2,0.2"."""
        if not isinstance(given, str):
            return given
        if "/" in given:
            mean, _, std = given.partition("/")
            return {"mean": mean.split(","), "std": std.split(",")}
        if given not in NORMALISATIONS:
            raise ValueError(f"it is one of {', '.join(NORMALISATIONS)}, or mean and std, as 0.5,0.5,0.5/0.2,0.2,0.2")
        return given

    @field_validator("channels", mode="before")
    @classmethod
    def _number(cls, given: Any) -> Any:
        return int(given) if isinstance(given, str) and given.isdecimal() else given

    @field_validator("size", mode="before")
    @classmethod
    def _sides(cls, given: Any) -> Any:
        """224, "224", "224x200", [224, 200] and "images"."""
        if isinstance(given, str) and given != "images":
            given = given.split("x")
        sides = list(given) if isinstance(given, list | tuple) else [given]
        if given != "images":
            try:
                height, width = sides[0], sides[-1]
                found = (int(height), int(width))
            except (ValueError, TypeError, IndexError):
                found = (0, 0)
            if len(sides) > 2 or min(found) < 1:
                raise ValueError('it is the side that images are resized to, as 224 or 224x200, or "images"')
            return found
        return given

    @field_validator("names", mode="before")
    @classmethod
    def _both(cls, given: Any) -> Any:
        return tuple(name.strip() for name in given.split(",")) if isinstance(given, str) else given

    @model_validator(mode="after")
    def _one_number_a_channel(self) -> Description:
        if not {1, self.channels} >= set(map(len, self.mean_std)):
            raise ValueError(f"normalisation has other channels than the {self.channels} of channels")
        return self

    @property
    def mean_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """What is taken off pixels in [0, 1], and what they are then divided by; one number, or one a channel."""
        if isinstance(self.normalisation, str):
            return NORMALISATIONS[self.normalisation]
        return self.normalisation.mean, self.normalisation.std

    @property
    def facts(self) -> dict[str, Any]:
        """It as a result stores it: what is at its default left out."""
        return self.model_dump(mode="json", exclude_defaults=True)

    @property
    def sha256(self) -> str:
        """Of all of it, wherever it was said."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


def description_file(path: Path) -> Path:
    """Where the description of a model stands, or would: the .json where only that is there."""
    if path.is_dir():
        return path / IN_A_FOLDER
    toml, other = path.with_suffix(".toml"), path.with_suffix(".json")
    return other if other.is_file() and not toml.is_file() else toml


def read_description(path: Path) -> dict[str, Any]:
    """What stands beside a model; {} where nothing does.

    Raises:
        UserError: it cannot be read, or says what no description does.
    """
    file = description_file(path)
    if not file.is_file():
        return {}
    try:
        text = file.read_text(encoding="utf-8")
        told = parse_toml(text) if file.suffix == ".toml" else parse_json(text)
    except (OSError, ValueError) as error:
        raise UserError(
            f"The description {file.name!r} cannot be read ({first_line(error)}): write it anew."
        ) from error
    if not isinstance(told, dict):
        raise UserError(f"The description {file.name!r} is no table of names and values: write it anew.")
    return told


def complete(name: str, where: str, told: Mapping[str, Any], outputs: int | None = None) -> Description:
    """The description of the model `name`, of all that is `told`; `where` is the file that it belongs in.

    Args:
        outputs: how many numbers the model gives, where its file says so.

    Raises:
        UserError: something is missing, unknown or impossible; all that is missing is said at once.
    """
    if unknown := [key for key in told if key not in Description.model_fields]:
        close = difflib.get_close_matches(unknown[0], Description.model_fields)
        hint = f"did you mean {close[0]}?" if close else f"it may say {', '.join(Description.model_fields)}."
        raise UserError(f"{where} says {unknown[0]!r}, which describes no classifier: {hint}")
    if missing := [key for key in NEEDED if told.get(key) is None]:
        count = "" if outputs is None else f" ({outputs} outputs)"
        raise UserError(
            f"Of the classifier {name!r}{count} nobody says {_listed(missing)}, and cfdiff guesses none of it: write "
            f"{where} beside it, as cfdiff models describe {name} {_example(missing)} does."
        )
    try:
        return Description(**{key: value for key, value in told.items() if value is not None})
    except ValidationError as error:
        found = error.errors()  # of a name or numbers, what neither could be; this module's own words say most
        first = next((one for one in found if one["type"] == "value_error"), found[0])
        own = first["type"] == "value_error"
        why = str(first["ctx"]["error"]) if own else first["msg"][0].lower() + first["msg"][1:]
        key = str(first["loc"][0]) if first["loc"] else None
        what = where if key is None else f"In {where}, {key} = {told.get(key)!r}"
        raise UserError(f"{what} is not possible: {why}.") from error


def write_description(path: Path, told: Mapping[str, Any]) -> Path:
    """Write what is told of the model at `path` beside it, as TOML; where."""
    file = path / IN_A_FOLDER if path.is_dir() else path.with_suffix(".toml")
    lines = [
        f"# What {path.name} takes and says: docs/any-classifier.md",
        *(f"{k} = {_toml(v)}" for k, v in told.items()),
    ]
    with atomic(file) as scratch:
        scratch.write_text("\n".join(lines) + "\n")
    return file


EXAMPLES = {
    "classes": "--classes 0,1",
    "output": "--output logits",
    "normalisation": "--normalisation imagenet",
    "channels": "--channels 3",
    "size": "--size 224",
}


def _example(missing: list[str]) -> str:
    return " ".join(EXAMPLES[key] for key in missing)


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _toml(value: Any) -> str:
    """A plain value as TOML writes it; JSON's strings, numbers and lists are TOML's too."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_toml(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
