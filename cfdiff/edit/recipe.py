"""The recipe of a weights folder: the settings of an edit that were found for its models.

`edit.toml` holds for all edits; what `edit-to-negative.toml` and `edit-to-positive.toml` say, for those to one class.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from cfdiff.errors import UserError
from cfdiff.files import parse_json
from cfdiff.models.bundled import WEIGHTS, weights_folder
from cfdiff.remote import shown
from cfdiff.settings import Recipe, read_toml

NAME = "edit.toml"
TOWARDS = {"negative": "edit-to-negative.toml", "positive": "edit-to-positive.toml"}
NAMES = (NAME, *TOWARDS.values())


def weights_name(weights: str | None, data: str | None) -> str | None:
    """What --weights says, or where it says nothing the bundled data, if its weights are bundled too; else None."""
    from cfdiff.data.bundled import BUNDLED  # `cfdiff.data` knows numpy, and `--help` need not

    return weights or (data if data in BUNDLED and (WEIGHTS / data).is_dir() else None)


def recipe_of(weights: str | None, data: str | None) -> Path | None:
    """Where the recipe of these weights stands, or would; None where there is no such folder."""
    name = weights_name(weights, data)
    if name is None:
        return None
    try:
        return weights_folder(name) / NAME
    except UserError:  # said where the models are looked for, in the same words
        return None


def fitted_splits(folder: Path, data: str | None) -> Path | None:
    """The splits that `cfdiff fit` made, where the weights in `folder` were fitted to data of this name; else None.

    So that what is translated by default is what no model learned from.
    """
    try:
        told = parse_json((folder / "fit.json").read_text())
        fitted = told["of"]["data"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    path = folder / "splits.csv"
    return path if data is not None and fitted in _names(data) and path.is_file() else None


def _names(data: str) -> set[str]:
    """What data that is named so may be called once it is read (`cfdiff.data.open.read_raw`)."""
    from cfdiff.data.readers.medmnist import by_name

    try:
        path = by_name(data) or Path(data)
    except UserError:  # it is not there, which is said when it is read
        path = Path(data)
    return {shown(data), path.name or path.resolve().name}


def read_recipes(path: Path, known: Collection[str]) -> Recipe:
    """The settings in the recipe at `path` and in those of one class beside it, as far as they are there.

    Raises:
        UserError: as `read_recipe`.
    """
    found = read_recipe(path, known) if path.is_file() else Recipe("", {})
    beside = {target: path.with_name(name) for target, name in TOWARDS.items()}
    tables = {target: read_recipe(own, known) for target, own in beside.items() if own.is_file()}
    if not tables:
        return found
    where = " and ".join(recipe.where for recipe in (found, *tables.values()) if recipe.where)
    told = found.values.get("towards", {})
    of_files = {target: table.values for target, table in tables.items()}
    return Recipe(where, {**found.values, "towards": {**told, **of_files} if isinstance(told, dict) else told})


def read_recipe(path: Path, known: Collection[str]) -> Recipe:
    """The settings in a recipe, of which only those in `known` may be.

    Weights come from anywhere: what lies beside them must not say where to read or to write, nor on which data.

    Raises:
        UserError: an unreadable file, or a name that is none of those.
    """
    where = f"{path.absolute().parent.name}/{path.name}"
    values = read_toml(path, f"recipe {where!r}")
    if wrong := sorted(set(values) - set(known)):
        raise UserError(
            f"There is no setting {wrong[0]!r} of an edit, which alone may stand in the recipe {where!r}: take it out "
            f"(the known ones are {', '.join(sorted(known))})."
        )
    return Recipe(where, values)
