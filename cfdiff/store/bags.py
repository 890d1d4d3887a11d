"""The bag file: how it is written, resumed and read. What it holds is in bag_schema."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from cfdiff.errors import UserError
from cfdiff.files import atomic
from cfdiff.hdf5 import Stored, create
from cfdiff.roles import WITNESSES
from cfdiff.shard import Shard
from cfdiff.store.bag_schema import FORMAT, FORMAT_VERSION, SCHEMA
from cfdiff.store.check import NUMBER, TEXT, TEXTS, Stock, open_stock
from cfdiff.store.parts import RunParts
from cfdiff.store.remote import RemoteParts
from cfdiff.store.result import encode_settings, is_result_of
from cfdiff.store.schema import Field
from cfdiff.version import __version__

_VECTOR_CHUNK = 4096
_ATTRIBUTES = {"cfdiff_version": TEXT, "seed": NUMBER, "models": TEXTS}
_KIND = "a finished bag file: give a file that cfdiff bag wrote"
_AGAIN = "run cfdiff bag again"

ImageStream = tuple[tuple[int, ...], np.dtype, Iterable[np.ndarray]]
"""Shape of the whole, type, and the images in pieces."""


def sha256_of(image: np.ndarray) -> str:
    """sha256 (hex) of an image's pixels, C order."""
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()


def draw_name(b: int) -> str:
    """What the b-th drawn bag is called, from 0."""
    return f"draw-{b:04d}"


def is_draw(name: str) -> bool:
    """Whether it is what a drawn bag is called: such a name is no group, and a draw may hold instances of several."""
    return re.fullmatch(r"draw-\d{4,}", name) is not None


class BagParts(RunParts):
    """A bag run in progress: `<out>.parts/` holds a run in parts (RunParts) for each round of translations.

    It is entered, refused and resumed as any run; only what it consists of and how it is joined differ.
    """

    def __init__(
        self,
        out: str | Path,
        settings: dict[str, Any],
        *,
        force: bool = False,
        shard: Shard | None = None,
        remote: RemoteParts | None = None,
        adopts: bool = False,
    ) -> None:
        super().__init__(out, settings, 0, 1, force=force, shard=shard, remote=remote, adopts=adopts)

    def __enter__(self) -> BagParts:
        return self

    def path_of(self, name: str) -> Path:
        """Where the file of a round lies, finished or not."""
        return self.folder / f"{name}.h5"

    def finish_pieces(self, names: Sequence[str]) -> Path:
        """State that the pieces `names` of the shard are there; the file that says so."""
        return self._manifest(names)

    def finish(self, write: Callable[[Path], None]) -> Path:
        """Make `out` by `write` and remove the parts."""
        self._require_ours()
        with atomic(self.out, through=self.folder) as scratch:
            write(scratch)
            self._require_ours()
        self._clear()
        self._clear_remote()
        self.finished = True
        return self.out

    def joined(self) -> bool:
        """Whether `out` is the finished file of this very run."""
        return is_bags_of(self.out, self.settings)


def round_of(
    path: Path,
    settings: dict[str, Any],
    n: int,
    part_size: int,
    shard: Shard | None = None,
    patience: float = 0.0,
    remote: RemoteParts | None = None,
) -> RunParts | None:
    """The parts of one round of `n` translations, whose file is `path`; None where that is finished already."""
    if is_result_of(path, settings, n):
        return None
    at = None if remote is None else remote.of_round(path)
    run = RunParts(path, settings, n, part_size, shard=shard, patience=patience, remote=at)
    if run.finished:
        run.close()
        return None
    return run


def is_bags_of(path: Path, settings: dict[str, Any]) -> bool:
    """Whether `path` is the finished bag file of these settings, by this version."""
    if not path.is_file():
        return False
    try:
        with open_bags(path) as bags:
            same = bags.attrs["cfdiff_version"] == __version__
            return same and encode_settings(bags.settings) == encode_settings(settings)
    except UserError:
        return False


def write_bags(
    path: Path,
    settings: dict[str, Any],
    attrs: dict[str, Any],
    arrays: dict[str, np.ndarray],
    images: dict[str, ImageStream],
) -> None:
    """Write a bag file: `arrays` whole, `images` as a stream. Names, types and axes are those of SCHEMA."""
    given = set(arrays) | set(images)
    if unknown := sorted(given - set(SCHEMA)):
        raise ValueError(f"not in the schema: {', '.join(unknown)}")
    if missing := [name for name, field in SCHEMA.items() if field.required and name not in given]:
        raise ValueError(f"missing: {', '.join(missing)}")
    own = {"format": FORMAT, "format_version": FORMAT_VERSION, "cfdiff_version": __version__, "complete": True}
    with create(path) as file:
        for key, value in sorted({**attrs, **own, "command": encode_settings(settings)}.items()):
            plain = isinstance(value, str | int | float | np.generic)
            file.attrs[key] = value if plain else json.dumps(value, sort_keys=True)
        for name, field in SCHEMA.items():
            if name in arrays:
                _array(file, name, field, np.asarray(arrays[name]))
            elif name in images:
                _stream(file, name, field, images[name])


def _array(file: h5py.File, name: str, field: Field, values: np.ndarray) -> None:
    if values.ndim != len(field.axes):
        raise ValueError(f"{name} has shape {values.shape} instead of ({', '.join(field.axes)})")
    string = field.dtype == "string"
    values = values.astype(str).astype(object) if string else values.astype(field.dtype, casting="same_kind")
    dtype = h5py.string_dtype() if string else values.dtype
    dataset = _create(file, name, field, values.shape, dtype, min(len(values), _VECTOR_CHUNK))
    if len(values):
        dataset[:] = values


def _stream(file: h5py.File, name: str, field: Field, stream: ImageStream) -> None:
    shape, dtype, pieces = stream
    dataset = _create(file, name, field, shape, dtype, 1)
    start = 0
    for piece in pieces:
        dataset[start : start + len(piece)] = piece
        start += len(piece)
    if start != shape[0]:
        raise ValueError(f"{name} got {start} images instead of {shape[0]}")


def _create(file: h5py.File, name: str, field: Field, shape: tuple[int, ...], dtype: Any, rows: int) -> h5py.Dataset:
    """An empty data set in chunks of `rows`; one without rows cannot be chunked."""
    packed = {"chunks": (rows, *shape[1:]), "compression": "gzip", "shuffle": True} if shape[0] else {}
    dataset = file.create_dataset(name, shape, dtype, track_times=False, **packed)
    dataset.attrs["description"] = field.description
    dataset.attrs["units"] = field.units
    return dataset


@dataclass(frozen=True, eq=False)
class BagView:
    """One bag at one mix, in memory; rows follow the bag's instances.

    Attributes:
        name, requested, planned, achieved, achieved_by_labels, before, target, wanted: as in SCHEMA.
        ids: (n,) str.
        label_before, label: (n,) int8 class before and after.
        edited, sham: (n,) bool.
        source, image: (n, H, W, C), before and after.
        prob: those of roles.WITNESSES that the run had -> (n, 2 stages, 2 classes) float32.
    """

    name: str
    requested: float
    wanted: int
    planned: float
    before: float
    achieved: float | None
    achieved_by_labels: float | None
    target: int
    ids: np.ndarray
    label_before: np.ndarray
    label: np.ndarray
    edited: np.ndarray
    sham: np.ndarray
    source: np.ndarray
    image: np.ndarray
    prob: dict[str, np.ndarray]


class SlidePlaces(NamedTuple):
    """Where the n instances of a bag lie in their slide.

    Attributes:
        slide: its name, "" where nothing says it.
        corners: (n, 2) int64, x and y of the upper left corners, in pixels of the slide.
        grid: (n, 2) int32, column and row, from 0, counted in sides of an image.
        side: (n,) lengths of a side of an image, in pixels of the slide.
    """

    slide: str
    corners: np.ndarray
    grid: np.ndarray
    side: np.ndarray


class Bags:
    """A finished bag file, read lazily: `bags[j]` reads one bag at one mix. Use it in a `with` statement."""

    def __init__(self, stock: Stock, path: Path) -> None:
        self.path, self._stock = path, stock

    def __enter__(self) -> Bags:
        return self

    def __exit__(self, *error: object) -> None:
        self._stock.file.close()

    def __len__(self) -> int:
        """J, the number of pairs of a bag and a mix."""
        return len(self._stock.data["mix/bag"])

    def __contains__(self, name: str) -> bool:
        return name in self._stock.data

    def read(self, name: str, where: Any = slice(None)) -> np.ndarray:
        """A data set of SCHEMA, or part of it; strings come as str."""
        return self._data(name)[where]

    @property
    def attrs(self) -> dict[str, Any]:
        """The root attributes; those stored as JSON (command, models, ...) come as dicts and lists."""
        return self._stock.attrs

    @property
    def settings(self) -> dict[str, Any]:
        """The resolved settings of the run."""
        return self._stock.settings

    def rows(self, j: int) -> slice:
        """The rows of bag and mix j in row/* and prob/*."""
        start, stop = self._data("mix/offset")[j : j + 2].tolist()
        return slice(start, stop)

    def places(self, j: int) -> SlidePlaces | None:
        """Where the instances of bag and mix j lie in their slide; None where nothing says it, or it is several."""
        if "instance/x" not in self:
            return None
        instance = self.read("row/instance", self.rows(j))
        first, last = int(instance.min()), int(instance.max()) + 1
        x, y, side, slide = (
            self.read(f"instance/{key}", slice(first, last))[instance - first] for key in ("x", "y", "side", "slide")
        )
        if len(np.unique(slide)) != 1:
            return None
        corners = np.stack([x, y], axis=1)
        grid = np.rint((corners - corners.min(axis=0)) / side[:, None]).astype(np.int32)
        return SlidePlaces(str(slide[0]), corners, grid, side)

    def edits(self) -> tuple[np.ndarray, np.ndarray]:
        """The edits that changed an instance to the other class, each once however many mixes show it.

        Their numbers (E,) in edit/*, rising, and for each the first row (E,) in row/* and prob/* that shows it. Shams
        and replaced failures are none.
        """
        shown = np.flatnonzero(self.read("row/edited"))
        numbers, first = np.unique(self.read("row/edit")[shown], return_index=True)
        return numbers, shown[first]

    def __getitem__(self, j: int) -> BagView:
        if not 0 <= j < len(self):
            raise IndexError(j)
        rows = self.rows(j)
        instance, edit = self.read("row/instance", rows), self.read("row/edit", rows)
        first, last = int(instance.min()), int(instance.max()) + 1
        of = {k: self.read(f"instance/{k}", slice(first, last))[instance - first] for k in ("id", "source", "label")}
        source = self.images("source", of["source"])
        image = source.copy()
        image[edit >= 0] = self.images("counterfactual", edit[edit >= 0])
        one = {k: self.read(f"mix/{k}", j) for k in ("requested", "wanted", "planned", "before", "target")}
        bag = int(self.read("mix/bag", j))
        return BagView(
            name=str(self.read("bag/name", slice(bag, bag + 1))[0]),
            requested=float(one["requested"]),
            wanted=int(one["wanted"]),
            planned=float(one["planned"]),
            before=float(one["before"]),
            achieved=self._optional("mix/achieved", j),
            achieved_by_labels=self._optional("mix/achieved_by_labels", j),
            target=int(one["target"]),
            ids=of["id"],
            label_before=of["label"],
            label=self.read("row/label", rows),
            edited=self.read("row/edited", rows),
            sham=self.read("row/sham", rows),
            source=source,
            image=image,
            prob={k: self.read(f"prob/{k}", rows) for k in WITNESSES if f"prob/{k}" in self},
        )

    def images(self, name: str, index: np.ndarray) -> np.ndarray:
        """Images of `source`, `counterfactual` or `difference` in any order, with repeats."""
        unique, back = np.unique(index, return_inverse=True)
        dataset = self._data(name)
        if len(unique) == 0:
            return np.empty((0, *dataset.shape[1:]), dataset.dtype)
        return dataset[unique][back]

    def _optional(self, name: str, j: int) -> float | None:
        return float(self._data(name)[j]) if name in self else None

    def _data(self, name: str) -> Stored:
        if name not in self:
            raise UserError(f"{self.path.name} has no data set {name}: it has {', '.join(self._stock.data)}.")
        return self._stock.data[name]


def open_bags(path: str | Path) -> Bags:
    """Open a finished bag file.

    Raises:
        UserError: it is missing, damaged, none, too new, or does not hold what the schema says.
    """
    path = Path(path)
    stock = open_stock(path, _KIND, (FORMAT, FORMAT_VERSION), SCHEMA, _ATTRIBUTES, _AGAIN)
    try:
        _check_rows(stock.data, path)
    except BaseException:
        stock.file.close()
        raise
    return Bags(stock, path)


def _check_rows(data: Mapping[str, Stored], path: Path) -> None:
    """Raise UserError unless the rows of a mix are the instances of its bag, once each; edited ones have an edit."""
    bag_offset, mix_offset = data["bag/offset"][:], data["mix/offset"][:]
    bag, instance, edit = data["mix/bag"][:], data["row/instance"][:], data["row/edit"][:]
    lengths = np.diff(bag_offset)[bag]
    fits = np.array_equal(np.diff(mix_offset), lengths)
    if fits:
        first = np.repeat(bag_offset[:-1][bag], lengths)
        ordered = np.lexsort((instance, np.repeat(np.arange(len(bag)), lengths)))
        place = np.arange(len(instance)) - np.repeat(mix_offset[:-1], lengths)
        fits = np.array_equal(instance[ordered], first + place)
    fits = fits and len(np.unique(bag)) == len(data["bag/name"])
    if not fits:
        raise UserError(f"The rows of {path} are not those of its bags, it may be damaged: {_AGAIN}.")
    if np.any(data["row/edited"][:] & (edit < 0)):
        raise UserError(f"{path} has edited rows without an edit, it may be damaged: {_AGAIN}.")
