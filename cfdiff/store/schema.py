"""Schema 1 of the result file: every data set it may hold, with its type, axes, units and meaning.

N images of H x W pixels and C channels, K classes (index 1 is the positive class). Raise FORMAT_VERSION when
a reader of the old layout would misread the new one, and describe the change in docs/hdf5.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import h5py
import numpy as np

FORMAT = "cfdiff"
FORMAT_VERSION = 1
IMAGE_DTYPES = ("uint8", "uint16", "float32")
QUARANTINED = "quarantined: the edit was not finite, the source stands in its place"
_VECTOR_CHUNK = 4096


class Within(NamedTuple):
    """Values from `low` to `high`, and no NaN."""

    low: float
    high: float

    def problem(self, values: np.ndarray, sizes: Mapping[str, int]) -> str | None:
        """What is wrong with values, in words that go on after the name of the data set; None where nothing is."""
        if np.all((values >= self.low) & (values <= self.high)):
            return None
        return f"has values that are not from {self.low:g} to {self.high:g}"


class Row(NamedTuple):
    """Row numbers of an axis, or, with `low` -1, also none."""

    axis: str
    low: int = 0

    def problem(self, values: np.ndarray, sizes: Mapping[str, int]) -> str | None:
        """As Within.problem; `sizes` are those of the axes."""
        if np.all((values >= self.low) & (values < sizes[self.axis])):
            return None
        return f"has row numbers beyond the {sizes[self.axis]} that there are"


class Offsets(NamedTuple):
    """Where pieces of an axis begin, and where the last one ends: from 0 to its size, and no piece is empty."""

    axis: str

    def problem(self, values: np.ndarray, sizes: Mapping[str, int]) -> str | None:
        """As Row.problem."""
        if values[0] == 0 and values[-1] == sizes[self.axis] and np.all(np.diff(values) > 0):
            return None
        return f"does not rise from 0 to {sizes[self.axis]}"


class Field(NamedTuple):
    """One data set. `dtype` "image" is that of the images read; "string" is variable-length UTF-8.

    `values` says which it may have, where a reader would go wrong with others.
    """

    axes: tuple[str, ...]
    dtype: str
    units: str
    description: str
    required: bool = False
    values: Within | Row | Offsets | None = None


_IMAGE = ("N", "H", "W", "C")
_STAGES = "before and after (axis 1), per class (axis 2; 1 is positive)"
_CODES = "class index"
PROBABILITY = Within(0, 1 + 1e-3)  # half precision and sums of it
CLASS = SHARE = Within(0, 1)
COUNT = Within(0, np.inf)

SCHEMA: dict[str, Field] = {
    "id": Field(("N",), "string", "", "relative path or key of the image in its source", True),
    "group": Field(("N",), "string", "", "patient or slide of the image"),
    "pair": Field(("N",), "string", "", "name of the image's pair: the same place in both classes; empty for none"),
    "label": Field(("N",), "int8", _CODES, "class before: 0 negative, 1 positive, -1 unknown", True, Within(-1, 1)),
    "target": Field(("N",), "int8", _CODES, "class asked for: 0 negative, 1 positive", True, CLASS),
    "source": Field(_IMAGE, "image", "stored value", "the image as read", True),
    "counterfactual": Field(_IMAGE, "image", "stored value", "the guided output as written", True),
    "difference": Field(_IMAGE, "float16", "fraction of the full range", "counterfactual - source, signed", True),
    "factual": Field(_IMAGE, "image", "stored value", "the unguided reconstruction of the same image"),
    "mask": Field(("N", "H", "W"), "bool", "", "where the image was allowed to change"),
    "saliency": Field(
        ("N", "H", "W"),
        "float16",
        "1",
        "where the class stands to guides and, where asked, denoiser; 1 at most",
    ),
    "prob/checker": Field(("N", "2", "K"), "float32", "probability", f"checker, {_STAGES}", values=PROBABILITY),
    "prob/verifier": Field(
        ("N", "2", "K"), "float32", "probability", f"verifier, which never steers, {_STAGES}", values=PROBABILITY
    ),
    "prob/judge": Field(("N", "2", "K"), "float32", "probability", f"independent judge, {_STAGES}", values=PROBABILITY),
    "flipped": Field(("N",), "bool", "", "the judge sees the target class afterwards"),
    "status": Field(("N",), "string", "", "ok, not flipped, not judged, or quarantined and why"),
    "guidance/edit": Field(("N",), "string", "", "way of editing that was kept: anchored or regenerate"),
    "guidance/ratio": Field(("N",), "float32", "1", "clamp of the guidance by the network's norm, as used"),
    "guidance/depth": Field(("N",), "float32", "fraction of T", "how far up the image was encoded"),
    "guidance/alpha_bar": Field(("N",), "float32", "1", "alpha_bar at that depth: comparable across schedules"),
    "guidance/retries": Field(("N",), "int16", "1", "rungs of the retry ladder that were climbed", values=COUNT),
    "guidance/network_calls": Field(
        ("N",), "int32", "1", "calls of the diffusion network for this image", values=COUNT
    ),
    "guidance/guide_calls": Field(("N",), "int32", "1", "steps in which the guides steered this image", values=COUNT),
}


class Layout(NamedTuple):
    """A kind of file: its name and version in the root attributes, its data sets, and the command that writes it."""

    format: str
    version: int
    fields: dict[str, Field]
    made_by: str


RESULT = Layout(FORMAT, FORMAT_VERSION, SCHEMA, "cfdiff translate")


def check_arrays(arrays: dict[str, Any], count: int, layout: Layout = RESULT) -> dict[str, np.ndarray]:
    """The arrays of `count` images in the layout's order and types.

    Raises ValueError for unknown, missing or misshapen arrays and TypeError for types that do not fit: these
    are mistakes of the program, not of its user.
    """
    fields = layout.fields
    if unknown := sorted(set(arrays) - set(fields)):
        raise ValueError(f"not in the schema: {', '.join(unknown)}")
    if missing := [name for name, field in fields.items() if field.required and name not in arrays]:
        raise ValueError(f"missing: {', '.join(missing)}")
    checked = {name: _check(name, arrays[name], fields[name]) for name in fields if name in arrays}
    sizes: dict[str, int] = {"N": count, "2": 2}
    for name, array in checked.items():
        for axis, size in zip(fields[name].axes, array.shape, strict=True):
            if sizes.setdefault(axis, size) != size:
                raise ValueError(f"{name} has shape {array.shape}: axis {axis} should be {sizes[axis]}")
        check = fields[name].values
        if check is not None and (problem := check.problem(array, sizes)) is not None:
            raise ValueError(f"{name} {problem}")  # or it could be written and never opened
    return checked


def _check(name: str, values: Any, field: Field) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim != len(field.axes):
        raise ValueError(f"{name} has shape {array.shape} instead of ({', '.join(field.axes)})")
    if field.dtype == "string":
        return array.astype(str)
    if field.dtype == "image":
        if array.dtype.name not in IMAGE_DTYPES:
            raise TypeError(f"{name} is {array.dtype}, not one of {', '.join(IMAGE_DTYPES)}")
        return array
    return array.astype(field.dtype, casting="same_kind")


def create_dataset(
    file: h5py.File, name: str, like: np.ndarray | h5py.Dataset, n: int, layout: Layout = RESULT
) -> h5py.Dataset:
    """An empty data set for `n` images whose rows look like those of `like`; images get one chunk each."""
    field = layout.fields[name]
    row = like.shape[1:]
    dataset = file.create_dataset(
        name,
        shape=(n, *row),
        dtype=h5py.string_dtype() if field.dtype == "string" else like.dtype,
        chunks=(1, *row) if len(row) >= 2 and "H" in field.axes else (max(1, min(n, _VECTOR_CHUNK)), *row),
        compression="gzip",
        shuffle=True,
        track_times=False,
    )
    dataset.attrs["description"] = field.description
    dataset.attrs["units"] = field.units
    return dataset
