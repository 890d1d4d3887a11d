"""The finished result file: its attributes, and how to read it without loading it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import h5py
import numpy as np

from cfdiff.errors import UserError
from cfdiff.hdf5 import Stored
from cfdiff.store.check import NUMBER, TEXT, TEXTS, Stock, open_stock
from cfdiff.store.recall import Recall, read_recall
from cfdiff.store.schema import RESULT, Layout
from cfdiff.version import __version__

_REQUIRED = ("seed", "models", "direction")
F = TypeVar("F", bound="RunFile")
_ATTRIBUTES = {"cfdiff_version": TEXT, "seed": NUMBER, "models": TEXTS, "direction": TEXT}
_AGAIN = "run the command that made it again"


class RunFile:
    """A finished file of a run, read lazily. Use it in a `with` statement.

    Attributes:
        layout: what it is called, and the data sets that it may hold.
    """

    layout: ClassVar[Layout]

    def __init__(self, stock: Stock, path: Path) -> None:
        self.path = path
        self._stock = stock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __len__(self) -> int:
        """The number of images."""
        return len(self._stock.data["id"])

    def __contains__(self, name: str) -> bool:
        return name in self._stock.data

    def __getitem__(self, name: str) -> Stored:
        """The data set `name` of the layout, read when it is indexed; strings come as str."""
        if name not in self:
            raise UserError(f"{self.path.name} has no data set {name}: it has {', '.join(self.names)}.")
        return self._stock.data[name]

    def close(self) -> None:
        """Close the file."""
        self._stock.file.close()

    @property
    def names(self) -> list[str]:
        """The data sets that the file holds, in the layout's order."""
        return list(self._stock.data)

    @property
    def attrs(self) -> dict[str, Any]:
        """The root attributes; those stored as JSON (command, models, ...) come as dicts and lists."""
        return self._stock.attrs

    @property
    def settings(self) -> dict[str, Any]:
        """The resolved settings of the command that made the file."""
        return self._stock.settings


class Result(RunFile):
    """A finished translation, read lazily: `result.source[3]` reads one image.

    Images are (H, W, C) in the type of the source; `difference` is counterfactual - source in [0, 1] units.
    """

    layout = RESULT

    @property
    def source(self) -> Stored:
        """(N, H, W, C), the images as read."""
        return self["source"]

    @property
    def counterfactual(self) -> Stored:
        """(N, H, W, C), the guided outputs in the type of the source."""
        return self["counterfactual"]

    @property
    def difference(self) -> Stored:
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
        return read_recall(self.attrs.get("recall"), str(self.path))

    @property
    def told(self) -> str | None:
        """The words of an edit by words, as one reads them: "'a' rather than 'b'"; None where it was told none."""
        said = [self.settings.get(name) for name in ("to_text", "from_text")]
        words = [lead + repr(text) for lead, text in zip(("", "rather than "), said, strict=True) if text is not None]
        return " ".join(words) or None

    def prob(self, model: str) -> np.ndarray:
        """(N, 2, K) float32: what `model` ("judge", "verifier" or "checker") gives each class before and after."""
        return self[f"prob/{model}"][:]


def open_result(path: str | Path) -> Result:
    """Open a finished result file.

    Raises:
        UserError: it is missing, damaged, no result, too new, or does not hold what the schema says.
    """
    return open_run_file(path, Result)


def open_run_file(path: str | Path, kind: type[F]) -> F:
    """Open a finished file of that kind.

    Raises:
        UserError: it is missing, damaged, of another kind, too new, or does not hold what its layout says.
    """
    path, layout = Path(path), kind.layout
    called = f"a {layout.format} result: give a file that {layout.made_by} wrote"
    return kind(open_stock(path, called, (layout.format, layout.version), layout.fields, _ATTRIBUTES, _AGAIN), path)


def is_result_of(path: Path, settings: dict[str, Any], n: int, kind: type[RunFile] = Result) -> bool:
    """Whether `path` is the finished file of these settings on `n` images, by this version."""
    if not path.is_file():
        return False
    try:
        with open_run_file(path, kind) as result:
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
