"""What the settings of every command share: one validated model each, which a TOML file can hold and a result stores.

No torch here, so that `--help` stays quick.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from cfdiff.errors import UserError, first_line
from cfdiff.files import parse_toml
from cfdiff.registry import OneOf

S = TypeVar("S", bound="Settings")


# The panel of `--help` that a field stands in: Field(..., json_schema_extra=DATA). An override keeps its parent's.
DATA: dict[str, Any] = {"panel": "Data"}
MODEL: dict[str, Any] = {"panel": "Model"}
OPTIMISATION: dict[str, Any] = {"panel": "Optimisation"}
OUTPUT: dict[str, Any] = {"panel": "Output"}
PATH: dict[str, Any] = {"panel": "Noise path"}
GUIDANCE: dict[str, Any] = {"panel": "Guidance"}
REGENERATE: dict[str, Any] = {"panel": "Regenerate"}
TILES: dict[str, Any] = {"panel": "Tiles"}
RUN: dict[str, Any] = {"panel": "Run"}


@dataclass(frozen=True)
class Recipe:
    """Settings that were found for the models of a folder, below all that a caller says; `where` is their file."""

    where: str
    values: dict[str, Any]


MOST = 2**63 - 1
"""The largest whole number of any setting: what lies beyond is a slip, and C takes it for something else."""
MOST_REAL = 1e30
"""The largest real one, but for infinity: images and networks are of float32, which ends at 3e38."""


class Settings(BaseModel):
    """Base of all settings: unknown names are an error, and the object never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def recipe(cls, given: Mapping[str, Any]) -> Recipe | None:
        """The recipe that holds where the settings `given` do; None where there is none, as for most commands.

        Raises:
            UserError: there is one, and it cannot be read.
        """
        return None

    @classmethod
    def over(cls, lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of two places that say some, where the upper one has the last word."""
        return {**lower, **upper}

    @field_validator("*")
    @classmethod
    def _known_name(cls, value: Any, info: ValidationInfo) -> Any:
        for number in value if isinstance(value, list | tuple) else (value,):
            if isinstance(number, int) and not isinstance(number, bool) and abs(number) > MOST:
                raise ValueError(f"no setting needs a number beyond {MOST:,}")
            if isinstance(number, float) and MOST_REAL < abs(number) < math.inf:
                raise ValueError(f"no setting needs a number beyond {MOST_REAL:g}")
        for mark in cls.model_fields[info.field_name or ""].metadata:
            if isinstance(mark, OneOf) and value is not None:
                mark.check(value)
        return value


class Word:
    """The annotation of a yes or no that is written as a word, `--class_cond True`, as in other people's programs."""


READING = "How DICOM, NIfTI and slides become images: window=40/400, axis=coronal, tile=256, um=0.5"
"""What --reading is, as every help says it."""


class DataSettings(Settings):
    """Which images."""

    data: str = Field(
        "malaria-cells",
        description="Bundled name, folder per class, .csv, .npz, .h5, a file of many images (.nii, .svs), or an URL of "
        "one of these (s3://bucket/cells.h5).",
        json_schema_extra=DATA,
    )
    negative: str | None = Field(
        None, description="Class name of the negatives, where it is not a known one.", json_schema_extra=DATA
    )
    positive: str | None = Field(None, description="Class name of the positives.", json_schema_extra=DATA)
    group_key: str | None = Field(
        None, description="Array or column that says which images belong together.", json_schema_extra=DATA
    )
    layout: str | None = Field(
        None,
        description="What the folders of a folder stand for: class/group, group/class, split/class, ... [default: by "
        "their names].",
        json_schema_extra=DATA,
    )
    reading: str | None = Field(
        None,
        description=f"{READING}, ... (docs/clinical.md).",
        json_schema_extra=DATA,
    )
    splits: Path | None = Field(
        None,
        description="CSV with id,split of every image, in place of the data's own splits (cfdiff data split).",
        json_schema_extra=DATA,
    )


PLACES = {
    "out",
    "preview",
    "force",
    "json_",
    "device",
    "threads",
    "workers",
    "ray",
    "shard",
    "remote",
    "volume",
    "data",
    "layout",
    "splits",
    "weights",
    "diffusion",
    "guide",
    "image_text",
    "control_model",
    "checker",
    "verifier",
    "judge",
}
"""Settings that say where, not what: they are not part of a result, which holds hashes instead of paths."""


def changed(s: Settings, name: str) -> bool:
    """Whether the caller gave that setting another value than its default: what does nothing is then worth a word."""
    field = type(s).model_fields[name]
    return name in s.model_fields_set and getattr(s, name) != field.get_default(call_default_factory=True)


def first_changed(s: Settings, names: Iterable[str]) -> str | None:
    """The first of some settings that is `changed`, as an option of the command line; None where none is."""
    return next((f"--{name.replace('_', '-')}" for name in names if changed(s, name)), None)


def resolve(model: type[S], config: Path | None, given: dict[str, Any]) -> S:
    """Defaults, then the recipe, then the TOML file, then what the command line or the caller gives.

    Raises:
        UserError: an unreadable file, an unknown name or an unfit value, said in one sentence.
    """
    stored = {} if config is None else read_toml(config, f"config file {config.name!r}")
    names = {field.alias: name for name, field in model.model_fields.items() if field.alias}  # "from" -> "from_"
    said = model.over(*({names.get(key, key): value for key, value in part.items()} for part in (stored, given)))
    said = {name: _word(model, name, value) for name, value in said.items()}
    recipe = model.recipe(said) or Recipe("", {})
    values = model.over({name: _word(model, name, value) for name, value in recipe.values.items()}, said)
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        if first["type"] == "extra_forbidden":
            raise _unknown(model, name, config if name in stored and name not in given else None) from error
        if first["type"] == "missing":
            raise UserError(f"The setting {name} is missing: {model.model_fields[name].description}") from error
        why = reason(first)
        words = [one["ctx"]["expected"] for one in error.errors()[1:] if one["type"] == "literal_error"]
        if words and str(error.errors()[1]["loc"][0]) == name:  # of a number or a word, as 16 or "auto"
            why = f"{why}, or {words[0]}"
        where = f" in the recipe {recipe.where!r}" if name in recipe.values and name not in said else ""
        raise UserError(f"The setting {name} = {first['input']!r}{where} is not possible: {why}.") from error


def reason(error: Mapping[str, Any]) -> str:
    """Why a value is not possible, of one of the errors of a ValidationError; this program's own words as they are."""
    return str(error["ctx"]["error"]) if error["type"] == "value_error" else error["msg"].lower()


def _word(model: type[Settings], name: str, value: Any) -> Any:
    """For a setting that is a word on the command line, numbers and lists as written there: `mix = [0, 0.5]`."""
    field = model.model_fields.get(name)
    if field is None or field.annotation not in (str, str | None) or isinstance(value, bool):
        return value
    if isinstance(value, list | tuple) and not any(isinstance(part, bool | dict | list) for part in value):
        return ",".join(map(str, value))
    return str(value) if isinstance(value, int | float) else value


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """The values in a TOML file; `what` is what a message calls it.

    Raises:
        UserError: it cannot be read, or is no TOML.
    """
    try:
        return parse_toml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"The {what} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UserError(f"The {what} is no valid TOML: {first_line(error)}.") from error


def _unknown(model: type[Settings], name: str, config: Path | None) -> UserError:
    """Says the names that are near; in a file `from` is one, in Python, where it is a word of the language, `from_`."""
    where = "" if config is None else f" in {config.name}"
    known = sorted((config and field.alias) or key for key, field in model.model_fields.items())
    close = difflib.get_close_matches(name.replace("-", "_"), known)
    hint = f"did you mean {', '.join(close)}?" if close else f"the known ones are {', '.join(known)}."
    return UserError(f"There is no setting {name!r}{where}: {hint}")
