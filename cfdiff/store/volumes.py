"""Results in volumes: the images of a large run in several files beside the result, which opens them all as its own.

A volume holds the images of some of the rows. The result holds everything else, and each data set of images as a
virtual one of HDF5, put together from the volumes in its folder. HDF5 reads zeros where one of them is not there, and
would follow any name; so volumes are named in the result, and looked at when it is opened.
"""

from __future__ import annotations

import glob
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py

from cfdiff.errors import UserError
from cfdiff.files import parse_json
from cfdiff.hdf5 import DAMAGED, format_of, open_to_read, own_dataset, reason
from cfdiff.store.schema import Field, Layout

FORMAT = "cfdiff volume"
NAMED = "volumes"
"""The root attribute of a result that names its volumes: [[file name, rows], ...]."""
OF = "volume_of"
"""The attribute of result and volumes alike that says that they belong together."""
_NAME = re.compile(r"(.+)\.[0-9a-f]{12}-\d{4,}\.h5")


class Volume(NamedTuple):
    """A file of the rows from `first` on, up to `last` and without it."""

    name: str
    first: int
    last: int


def cut(out: Path, n: int, most: int, digest: str) -> list[Volume]:
    """The volumes of `n` rows, at most so many in each; `digest` keeps those of two runs apart."""
    starts = range(0, n, most)
    return [Volume(f"{out.stem}.{digest[:12]}-{i:04d}.h5", at, min(at + most, n)) for i, at in enumerate(starts)]


def in_volumes(field: Field) -> bool:
    """Whether a data set is one of images, a row each."""
    return field.axes[:2] == ("N", "H")


def put_together(file: h5py.File, volume: h5py.File, volumes: list[Volume], layout: Layout) -> None:
    """Name the volumes in a result, and make its virtual data sets, which look like those of one `volume`."""
    n = volumes[-1].last
    for name, field in layout.fields.items():
        if name not in volume:
            continue
        like = volume[name]
        whole = h5py.VirtualLayout((n, *like.shape[1:]), like.dtype)
        for part, first, last in volumes:
            whole[first:last] = h5py.VirtualSource(part, name, (last - first, *like.shape[1:]), like.dtype)
        made = file.create_virtual_dataset(name, whole)
        made.attrs["description"], made.attrs["units"] = field.description, field.units


def check_volumes(path: Path, told: Mapping[str, Any], schema: Mapping[str, Field], again: str) -> list[Volume]:
    """The volumes that a result names; none where it names none.

    Raises:
        UserError: one is not beside the result, or is none of it, or its values are in yet another file.
    """
    if NAMED not in told:
        return []
    sizes = _sizes(told[NAMED])
    if not sizes:
        raise UserError(f"{path} names volumes that cannot be: {again}.")
    found: list[Volume] = []
    for name, rows in sizes:
        first = found[-1].last if found else 0
        found.append(Volume(name, first, first + rows))
        _check(path, found[-1], told.get(OF), schema, again)
    return found


def _check(path: Path, volume: Volume, of: Any, schema: Mapping[str, Field], again: str) -> None:
    where = path.with_name(volume.name)
    if not where.is_file():
        raise UserError(f"{path} keeps images in {volume.name}, which is not beside it: put it there, or {again}.")
    with open_to_read(where, str(where), again, whole=True) as file:
        try:
            same = file.attrs.get("format") == FORMAT and file.attrs.get(OF) == of
            there = [own_dataset(file, name, str(where)) for name, field in schema.items() if in_volumes(field)]
            same = same and all(item is None or len(item) == volume.last - volume.first for item in there)
        except DAMAGED as error:
            raise UserError(f"{where} {reason(error, again)}.") from error
    if not same:
        raise UserError(f"{where} is no volume of {path.name}: put the one there that was made with it, or {again}.")


def is_of(item: h5py.Dataset, name: str, volumes: list[Volume]) -> bool:
    """Whether a virtual data set is put together from the volumes as it should be, row by row."""
    sources = item.virtual_sources()
    if len(sources) != len(volumes):
        return False
    for source, (file, first, last) in zip(sources, volumes, strict=True):
        low, high = source.vspace.get_select_bounds()
        if (source.file_name, source.dset_name.strip("/")) != (file, name) or (low[0], high[0] + 1) != (first, last):
            return False
        if source.vspace.get_select_npoints() != (last - first) * math.prod(item.shape[1:]):
            return False
    return True


def remove_others(out: Path) -> None:
    """Remove the volumes beside `out` that it does not name: of a result that it replaced, or of a join that was
    killed."""
    mine: set[str] = set()
    if out.is_file():
        try:
            with h5py.File(out, "r", locking=False) as file:
                mine = {name for name, _ in _sizes(parse_json(file.attrs.get(NAMED, "[]")))}
        except DAMAGED:
            return
    for path in out.parent.glob(f"{glob.escape(out.stem)}.*-*.h5"):
        called = _NAME.fullmatch(path.name)
        if called and called[1] == out.stem and path.name not in mine and format_of(path) == FORMAT:
            path.unlink(missing_ok=True)


def _sizes(named: Any) -> list[tuple[str, int]]:
    """Names and rows of volumes; none where they cannot be."""
    try:
        sizes = [(str(name), int(rows)) for name, rows in named]
    except (TypeError, ValueError):
        return []
    possible = all(rows > 0 and name == Path(name).name and _NAME.fullmatch(name) for name, rows in sizes)
    return sizes if possible else []
