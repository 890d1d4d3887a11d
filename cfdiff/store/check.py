"""Whether a file holds what its schema says: asked once, when it is opened, so that no reader meets anything else.

Shapes and types of all data sets, and the values of the small ones by which others are found, are looked at. The images
stay where they are: a damaged one is one sentence when it is read (`hdf5.Stored`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cfdiff.errors import UserError
from cfdiff.files import is_there, parse_json
from cfdiff.hdf5 import DAMAGED, Stored, is_link, open_to_read, own_dataset, reason
from cfdiff.store.schema import IMAGE_DTYPES, Field
from cfdiff.store.volumes import Volume, check_volumes, in_volumes, is_of

MAY_BE_EMPTY = ("E",)
"""Axes that may have no entry: a run of bags may edit nothing."""
CHANNELS = (1, 3)
TEXT, NUMBER, TABLE, TEXTS = "text", "a number", "a table", "a table of text"
"""Kinds of root attributes: TABLE is a JSON object, and TEXTS one of which all values are text."""
_TYPES: dict[str, tuple[type, ...]] = {TEXT: (str,), NUMBER: (int, float), TABLE: (dict,), TEXTS: (dict,)}


class Told(dict[str, Any]):
    """What a file says of its run; asking for what it does not say is one sentence."""

    def __init__(self, values: Mapping[str, Any], where: str, again: str) -> None:
        super().__init__(values)
        self._where, self._again = where, again

    def __missing__(self, name: str) -> Any:
        raise UserError(f"{self._where} does not say its {name!r}: {self._again}.")


class Stock:
    """An open file that was found to hold what it should.

    Attributes:
        data: name -> data set, those that are there, in the schema's order.
        attrs: the root attributes; those stored as JSON come as dicts and lists.
        settings: the resolved settings of the command that made the file.
    """

    def __init__(self, file: h5py.File, data: dict[str, Stored], attrs: Told, settings: Told) -> None:
        self.file, self.data, self.attrs, self.settings = file, data, attrs, settings


def open_stock(
    path: Path,
    kind: str,
    formats: tuple[str, int],
    schema: Mapping[str, Field],
    attributes: Mapping[str, str],
    again: str,
) -> Stock:
    """Open a finished file of one of our formats and hold it against its schema.

    Args:
        kind: what a message calls such a file and who makes it, as "a cfdiff result: give a file that ... wrote".
        formats: the name of the format, and the newest version that is known.
        attributes: name -> TEXT, NUMBER or TABLE, those that must be there.
        again: how one gets a sound one, as "run the command that made it again".

    Raises:
        UserError: it is missing, damaged, of another kind, too new, unfinished, or not what the schema says.
    """
    where = str(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is no file" if is_there(path) else "does not exist"
        raise UserError(f"{path} {what}: give the .h5 file of a finished run.")
    file = open_to_read(path, where, again, whole=True)
    try:
        raw = _attributes(file, where, again)
        _check_kind(raw, where, kind, formats, again)
        told = _told(raw, attributes, where, again)
        settings = Told(told.pop("command"), where, again)
        _check_settings(settings, where, again)
        told["command"] = dict(settings)
        volumes = check_volumes(path, told, schema, again)
        return Stock(file, _check_data(file, schema, where, again, volumes), Told(told, where, again), settings)
    except BaseException:
        file.close()
        raise


def _attributes(file: h5py.File, where: str, again: str) -> dict[str, Any]:
    try:
        found = {str(name): file.attrs[name] for name in file.attrs}
        return {
            name: value.tolist() if isinstance(value, np.generic | np.ndarray) else value
            for name, value in found.items()
        }
    except DAMAGED as error:
        raise UserError(f"The attributes of {where} cannot be read, they may be damaged: {again}.") from error


def _check_kind(raw: Mapping[str, Any], where: str, kind: str, formats: tuple[str, int], again: str) -> None:
    name, newest = formats
    if raw.get("format") != name:
        raise UserError(f"{where} is not {kind}.")
    version = raw.get("format_version", 0)
    if not isinstance(version, int) or version < 1:
        raise UserError(f"{where} says no format version, it may be damaged: {again}.")
    if version > newest:
        raise UserError(
            f"{where} has format version {version}, newer than {newest}: install a newer cfdiff to read it."
        )
    if raw.get("complete") not in (True, 1):
        raise UserError(f"{where} is not complete: {again}.")


def _told(raw: Mapping[str, Any], attributes: Mapping[str, str], where: str, again: str) -> dict[str, Any]:
    """The attributes, parsed, of which those in `attributes` and `command` are there and of their kind."""
    found = {name: _parsed(value) for name, value in raw.items()}
    for name, kind in {"command": TABLE, **attributes}.items():
        value = found.get(name)
        of_text = kind != TEXTS or (isinstance(value, dict) and all(isinstance(part, str) for part in value.values()))
        if not isinstance(value, _TYPES[kind]) or not of_text:
            lacks = "lacks the attribute" if name not in raw else "has no " + kind.removeprefix("a ") + " as attribute"
            raise UserError(f"{where} {lacks} {name!r}: {again}.")
    return found


def _parsed(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return parse_json(value)
        except ValueError:
            return value
    return value


def _check_settings(settings: Mapping[str, Any], where: str, again: str) -> None:
    """Raise UserError where settings by which every reader goes are not what they must be."""
    classes = settings.get("classes", ["", " "])
    described = settings.get("classifiers", {})
    lists = list(described.values()) if isinstance(described, dict) else [None]
    if not all(isinstance(part, list) and all(isinstance(one, dict) for one in part) for part in lists):
        raise UserError(f"{where} has 'classifiers' in its settings that are none: {again}.")
    pair = isinstance(classes, list) and len(classes) == 2 and all(isinstance(name, str) for name in classes)
    if not pair or not all(isinstance(settings.get(name, ""), str) for name in ("data", "mode")):
        name = "data or mode" if pair else "classes"
        raise UserError(f"{where} has {name} in its settings that cannot be ({json.dumps(classes)[:60]}): {again}.")


def _check_data(
    file: h5py.File, schema: Mapping[str, Field], where: str, again: str, volumes: list[Volume]
) -> dict[str, Stored]:
    found: dict[str, Stored] = {}
    sizes: dict[str, tuple[int, str]] = {"2": (2, "")}

    def wrong(name: str, what: str) -> UserError:
        return UserError(f"The data set {name!r} of {where} {what}: {again}.")

    for name, field in schema.items():
        try:
            item = own_dataset(file, name, where, virtual=bool(volumes) and in_volumes(field))
            if item is not None and item.is_virtual and not is_of(item, name, volumes):
                raise wrong(name, "is not put together from the volumes that the file names")
        except DAMAGED as error:
            raise UserError(f"The data set {name!r} of {where} {reason(error, again)}.") from error
        if item is None:
            if is_link(file, name):
                raise wrong(name, "is a link to nothing, or no data set at all")
            if field.required:
                raise UserError(f"{where} lacks the data set {name!r}: {again}.")
            continue
        try:
            shape, dtype = item.shape, item.dtype
        except DAMAGED as error:
            raise wrong(name, "has a shape or a type that cannot be read") from error
        if shape is None or len(shape) != len(field.axes):
            raise wrong(name, f"has shape {shape} instead of ({', '.join(field.axes)})")
        if not _fits(dtype, field.dtype):
            raise wrong(name, f"has the type {dtype} instead of {field.dtype}")
        for axis, size in zip(field.axes, shape, strict=True):
            plain, more = axis.removesuffix("+1"), axis.endswith("+1")
            size = size - 1 if more else size
            other, first = sizes.setdefault(plain, (size, name))
            if other != size:
                as_there = f"{first!r} has {other}" if first else f"{other} are needed"
                raise wrong(name, f"has {size} entries on its axis {plain} where {as_there}")
            if size < 1 and plain not in MAY_BE_EMPTY:
                raise wrong(name, f"is empty: its shape is {shape}")
        found[name] = Stored(item, name, where, again, finite=field.axes[1:3] == ("H", "W"))
    known = {axis: size for axis, (size, _) in sizes.items()}
    if known.get("C", 1) not in CHANNELS or known.get("K", 2) < 2:
        name = "source" if known.get("C", 1) not in CHANNELS else next(n for n in found if n.startswith("prob/"))
        raise wrong(name, f"has shape {found[name].shape}, which images or probabilities cannot have")
    for name, stored in found.items():
        check = schema[name].values
        if check is not None and (problem := check.problem(stored[...], known)) is not None:
            raise wrong(name, problem)
    return found


def _fits(dtype: np.dtype, asked: str) -> bool:
    """Whether values of a type are those that a field asks for."""
    if asked == "string":
        return h5py.check_string_dtype(dtype) is not None
    if asked == "image":
        return dtype.name in IMAGE_DTYPES and dtype.isnative
    wanted = np.dtype(asked)
    return dtype.kind == wanted.kind and np.can_cast(dtype, wanted, "same_kind")
