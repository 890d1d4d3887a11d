"""The finished result file: its attributes, and how to read it without loading it."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import h5py
import numpy as np

from cfdiff.errors import UserError
from cfdiff.store.recall import Recall, read_recall
from cfdiff.store.schema import RESULT, Layout
from cfdiff.version import __version__

_REQUIRED = ("seed", "models", "direction")
F = TypeVar("F", bound="Stored")


class Stored:
    """A finished file of a run, read lazily. Use it in a `with` statement.

    Attributes:
        layout: what it is called, and the data sets that it may hold.
    """

    layout: ClassVar[Layout]

    def __init__(self, file: h5py.File, path: Path) -> None:
        self.path = path
        self._file = file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __len__(self) -> int:
        """The number of images."""
        return int(self._file["id"].shape[0])

    def __contains__(self, name: str) -> bool:
        return name in self.layout.fields and name in self._file

    def __getitem__(self, name: str) -> Any:
        """The data set `name` of the layout, read when it is indexed; strings come as str."""
        if name not in self:
            raise UserError(f"{self.path.name} has no data set {name}: it has {', '.join(self.names)}.")
        dataset = self._file[name]
        return dataset.asstr() if self.layout.fields[name].dtype == "string" else dataset

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def names(self) -> list[str]:
        """The data sets that the file holds, in the layout's order."""
        return [name for name in self.layout.fields if name in self._file]

    @property
    def attrs(self) -> dict[str, Any]:
        """The root attributes; those stored as JSON (command, models, ...) come as dicts and lists."""
        return {key: _decode(value) for key, value in self._file.attrs.items()}

    @property
    def settings(self) -> dict[str, Any]:
        """The resolved settings of the command that made the file."""
        return json.loads(self._file.attrs["command"])


class Result(Stored):
    """A finished translation, read lazily: `result.source[3]` reads one image.

    Images are (H, W, C) in the type of the source; `difference` is counterfactual - source in [0, 1] units.
    """

    layout = RESULT

    @property
    def source(self) -> Any:
        """(N, H, W, C), the images as read."""
        return self["source"]

    @property
    def counterfactual(self) -> Any:
        """(N, H, W, C), the guided outputs in the type of the source."""
        return self["counterfactual"]

    @property
    def difference(self) -> Any:
        """(N, H, W, C) float16, counterfactual - source in [0, 1] units."""
        return self["difference"]

    @property
    def quarantined(self) -> np.ndarray:
        """(N,) bool: no edit could be saved, so the counterfactual is the source; never flipped."""
        if "status" not in self:
            return np.zeros(len(self), bool)
        return np.array([str(status).startswith("quarantined") for status in self["status"][:]], bool)

    @property
    def recall(self) -> dict[str, Recall]:
        """Role -> what it says of real images of the class asked for; empty in a file that was not told."""
        return read_recall(self.attrs.get("recall"))

    def prob(self, model: str) -> np.ndarray:
        """(N, 2, K) float32: what `model` ("judge", "verifier" or "checker") gives each class before and after."""
        return self[f"prob/{model}"][:]


def open_result(path: str | Path) -> Result:
    """Open a finished result file. Raises UserError if it is missing, damaged, no result, or too new."""
    return open_stored(path, Result)


def open_stored(path: str | Path, kind: type[F]) -> F:
    """Open a finished file of that kind. Raises UserError if it is missing, damaged, another kind, or too new."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist: give the .h5 file of a finished run.")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise UserError(f"{path} is no HDF5 file or is damaged: run the command that made it again.") from error
    problem = _problem(file, kind.layout)
    if problem:
        file.close()
        raise UserError(f"{path} {problem}.")
    return kind(file, path)


def _problem(file: h5py.File, layout: Layout) -> str | None:
    if file.attrs.get("format") != layout.format:
        return f"is not a {layout.format} result: give a file that {layout.made_by} wrote"
    version = int(file.attrs.get("format_version", 0))
    if not 1 <= version <= layout.version:
        return f"has format version {version}, newer than {layout.version}: install a newer cfdiff to read it"
    if not file.attrs.get("complete", False):
        return "is not complete: run the command that makes it again"
    return None


def is_result_of(path: Path, settings: dict[str, Any], n: int, kind: type[Stored] = Result) -> bool:
    """Whether `path` is the finished file of these settings on `n` images, by this version."""
    if not path.is_file():
        return False
    try:
        with open_stored(path, kind) as result:
            same = result.attrs["cfdiff_version"] == __version__ and len(result) == n
            return same and encode_settings(result.settings) == encode_settings(settings)
    except UserError:
        return False


def encode_settings(settings: dict[str, Any]) -> str:
    """Settings as JSON; equal settings give equal text."""
    return json.dumps(settings, sort_keys=True)


def write_attributes(file: h5py.File, settings: dict[str, Any], attrs: dict[str, Any], layout: Layout = RESULT) -> None:
    """Write the root attributes; dicts, lists and None are stored as JSON."""
    if missing := [key for key in _REQUIRED if key not in attrs]:
        raise ValueError(f"root attributes are missing: {', '.join(missing)}")
    own = {
        "format": layout.format,
        "format_version": layout.version,
        "cfdiff_version": __version__,
        "command": encode_settings(settings),
        "complete": True,
    }
    for key, value in sorted({**attrs, **own}.items()):
        plain = isinstance(value, str | int | float | np.generic)
        file.attrs[key] = value if plain else json.dumps(value, sort_keys=True)


def _decode(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in ("{", "["):
        with suppress(ValueError):
            return json.loads(value)
    return value.item() if isinstance(value, np.generic) else value
