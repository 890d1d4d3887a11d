"""Files that may hold several images each (DICOM, NIfTI, slides), as rows of images beside ordinary ones."""

from __future__ import annotations

import hashlib
import importlib
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cfdiff.data.fit import Fit, Shape
from cfdiff.data.raw import file_sha256
from cfdiff.data.readers.foreign import in_truth
from cfdiff.data.readers.images import SUFFIXES, decode, in_words, look
from cfdiff.data.readers.listed import Listed
from cfdiff.data.readers.reading import Reading
from cfdiff.data.readers.shown import profile_notes
from cfdiff.errors import UserError, first_line, plain
from cfdiff.files import far
from cfdiff.registry import FILES

PLACES = ("frame", "slice")
"""Columns that choose one image of a file."""
SQUARE = 0.05
"""Relative difference of the sides of a pixel from which on a picture is out of proportion."""
DIGITS = 4
"""Of the number of an image in its file, at least: `scan.dcm#0007`."""


@dataclass(frozen=True, eq=False)
class Held:
    """The images that one file holds, all of one shape and type.

    Attributes:
        shape: (H, W, C).
        parts: what comes after the file's id, one an image; "" for a file that is one image.
        read: (n,) places in `parts` -> the images (n, H, W, C).
        columns: name -> (N,) str, what the file says of its images; one of `parts` each.
        asked: such columns that are read only for whoever asks by name: those that name a person.
        group: the column that says which images belong together.
        notes: what the user should know, in sentences that are counted over the files; "{files}" stands for how many.
        profile: the name of a colour profile that is not sRGB.
        between: the values that are black and white, where neither the file nor `--reading` chooses them.
    """

    shape: Shape
    dtype: np.dtype
    parts: list[str]
    read: Callable[[Sequence[int]], np.ndarray]
    columns: Mapping[str, list[str]] = field(default_factory=dict)
    asked: Mapping[str, Callable[[], str]] = field(default_factory=dict)
    group: str | None = None
    notes: tuple[str, ...] = ()
    profile: str | None = None
    between: frozenset[tuple[float, float]] = frozenset()


class FileKind(NamedTuple):
    """An entry of `registry.FILES`.

    Attributes:
        recognises: whether a file is of this kind, by its name or its first bytes.
        hold: (path, its path in the source, as messages call it, reading) -> what it holds; None where it is of this
            kind and has no image.
            Raises UserError for what cannot be read as images, or where the package that reads it is not there.
        keys: the keys of `--reading` that it heeds.
        masks: (path, what messages call it, reading) -> its images (N, H, W) bool as masks; None where it can be none.
        same_place: whether two files of the kind, of one shape, lie in one place; None where files do not say.
    """

    recognises: Callable[[Path, Reading], bool]
    hold: Callable[[Path, str, Reading], Held | None]
    keys: tuple[str, ...]
    masks: Callable[[Path, str, Reading], np.ndarray] | None = None
    same_place: Callable[[Path, Path], bool] | None = None


def kind_of(path: Path, reading: Reading) -> str | None:
    """The name in `registry.FILES` of the kind of a file; None for an ordinary image and for anything else."""
    return next((name for name in FILES if FILES[name].recognises(path, reading)), None)


def numbered(n: int) -> list[str]:
    """`#0000` to the last of n images."""
    digits = max(DIGITS, len(str(n - 1)))
    return [f"#{i:0{digits}d}" for i in range(n)]


def of_proportion(height: float, width: float) -> tuple[str, ...]:
    """A note where pixels of these sides are not square."""
    if not min(height, width) > 0 or abs(height / width - 1) <= SQUARE:
        return ()
    return ("{files} with pixels that are not square: pictures are out of proportion, resample them if it matters.",)


def need(module: str, extra: str, shown: str, what: str) -> Any:
    """A module of an extra; UserError with what to install where it is not there."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"{shown} is {what}, which cfdiff reads after pip install 'cfdiff[{extra}]'.") from error


@contextmanager
def said_of(path: Path, shown: str, kind: str, hint: str) -> Iterator[None]:
    """Whatever a library says of a file is a UserError: that it cannot be read as `kind`, and `hint`, what may be."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd values in headers, of which many are odd
            yield
    except (UserError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise UserError(f"{shown} is missing: correct its path or take it off the list.") from error
    except PermissionError as error:
        raise UserError(f"{shown} may not be read ({error.strerror}): change its permissions or remove it.") from error
    except Exception as error:
        if (away := far(error)) is not None:
            raise UserError(f"{shown} {away}.") from error
        if path.is_file() and path.stat().st_size == 0:
            raise UserError(f"{shown} is empty (0 bytes): copy it again or remove it.") from error
        truth = in_truth(path)
        its_own = kind in (truth or "") or ((truth or "").startswith("packed by gzip") and path.suffix.lower() == ".gz")
        if truth is not None and not its_own:
            raise UserError(f"{shown} cannot be read as {kind} but is {truth}.") from error
        why = plain(first_line(error)).replace(str(path), path.name)
        raise UserError(f"{shown} cannot be read as {kind} ({why}): {hint}.") from error


def stamp(path: Path) -> int:
    """When a file was changed, for what is kept of it in memory; 0 where it is not there."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


class HeldFiles:
    """The images of files of several kinds: what they hold is looked at at once, pixels are read on demand.

    Attributes:
        of: (N,) the file of each image; `ids` (N,) its id and number.
        columns, asked, group: as in Held, over all files; "" where a file does not say.
        empty: kind of file -> how many without an image.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        ids: np.ndarray,
        fit: Fit | None,
        reading: Reading,
        wanted: Sequence[Mapping[str, str]] | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        """`wanted`: of each file the values of its columns that its images must have (`{"slice": "12"}`).

        `names`: where each lies in the source, its path from there; `ids` where these are just that.
        """
        self.paths, self.fit, self.reading = paths, fit or Fit(), reading
        self.kinds = kinds = [kind_of(path, reading) for path in paths]
        check_heeded(reading, kinds)
        self.held: list[Held | None] = []
        self.empty: Counter[str] = Counter()
        of: list[int] = []
        places: list[int] = []
        found: list[str] = []
        for i, (path, kind) in enumerate(zip(paths, kinds, strict=True)):
            shown = str(ids[i] if names is None else names[i])
            one = _ordinary(path, shown) if kind is None else FILES[kind].hold(path, shown, reading)
            self.held.append(one)
            if one is None:
                self.empty[f"{kind} files without an image"] += 1
                continue
            for place in _chosen(one, {} if wanted is None else wanted[i], shown):
                of.append(i)
                places.append(place)
                found.append(str(ids[i]) + one.parts[place])
        self.of, self.places = np.array(of, np.int64), np.array(places, np.int64)
        if not found:
            more = f" and {len(ids) - 1:,} more files hold" if len(ids) > 1 else " holds"
            raise UserError(
                f"{ids[0]}{more} no image, slice or tile that is asked for: change --reading, or look into the file."
            )
        self.ids = np.array(found)
        self.shape, self.dtype = self._common()
        there = [one for one in self.held if one is not None]
        keys = list(dict.fromkeys(key for one in there for key in one.columns))
        self.columns = {key: partial(self._column, key) for key in keys}
        self.asked = {key: partial(self._asked, key) for one in there for key in one.asked}
        self.group = next((one.group for one in there if one.group is not None), None)
        # A file may be in several rows, for an image each.
        said = {(path, note): None for path, one in zip(paths, self.held, strict=True) if one for note in one.notes}
        self.notes = tuple(
            note.replace("{files}", f"{n:,} file{'s' if n > 1 else ''}")
            for note, n in Counter(note for _, note in said).items()
        )
        self.notes += profile_notes([one.profile for one in there], "file") + _unlike_grays(there)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Images (B, H, W, C); each file is opened once for all of its images."""
        out = np.empty((len(rows), *self.shape), self.dtype)
        for file, mine in self._by_file(rows):
            held = self.held[file]
            assert held is not None
            for place, image in zip(mine, held.read(self.places[rows[mine]].tolist()), strict=True):
                fitted = self.fit.image(image)
                if (fitted.shape, fitted.dtype) != (self.shape, self.dtype):
                    raise UserError(
                        f"{self.ids[rows[place]]} was changed while it was in use: leave the images be, and start "
                        "again."
                    )
                out[place] = fitted
        return out

    def digest(self, rows: np.ndarray) -> str:
        """sha256 over how the files of some rows are read, and over their content."""
        h = hashlib.sha256(repr(self.reading).encode())
        for file in np.unique(self.of[rows]).tolist():
            for path in _behind(self.paths[file]):
                try:
                    h.update(file_sha256(path).encode() + b"\n")
                except OSError as error:
                    raise UserError(f"{path.name} cannot be read ({error.strerror}): restore it.") from error
        return h.hexdigest()

    def _by_file(self, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        files = self.of[rows]
        for file in np.unique(files).tolist():
            yield file, np.flatnonzero(files == file)

    def _common(self) -> tuple[Shape, np.dtype]:
        first: tuple[int, tuple[Shape, np.dtype]] | None = None
        for row in np.unique(self.of, return_index=True)[1].tolist():
            held = self.held[self.of[row]]
            assert held is not None
            here = self.fit.shape(held.shape), held.dtype
            if first is not None and here != first[1]:
                raise UserError(
                    f"{self.ids[first[0]]} is {in_words(*first[1])} but {self.ids[row]} is {in_words(*here)}: all must "
                    "be alike, `cfdiff data convert` with --size and --gray or --rgb makes them so."
                )
            first = first or (row, here)
        assert first is not None
        return first[1]

    def _column(self, key: str) -> np.ndarray:
        values = [held.columns.get(key) if (held := self.held[file]) else None for file in self.of.tolist()]
        return np.array([v[place] if v else "" for v, place in zip(values, self.places.tolist(), strict=True)])

    def _asked(self, key: str) -> np.ndarray:
        said = {i: held.asked[key]() for i, held in enumerate(self.held) if held is not None and key in held.asked}
        return np.array([said.get(file, "") for file in self.of.tolist()])


def _unlike_grays(there: Sequence[Held]) -> tuple[str, ...]:
    """A note where one gray is not one value in all files, as of scanners with other bits or scales."""
    between = sorted(set[tuple[float, float]]().union(*(one.between for one in there)))
    if len(between) < 2:
        return ()
    said = ", ".join(f"{low:g}:{high:g}" for low, high in between[:3]) + (", …" if len(between) > 3 else "")
    return (
        f"Black and white are not the same values in all files ({said}), so that one gray is not one value: --reading "
        "window=BLACK:WHITE makes them alike.",
    )


def _behind(path: Path) -> list[Path]:
    """The files that hold what a file shows: of MIRAX it is a folder of the same name."""
    beside = path.with_suffix("")
    if path.suffix.lower() != ".mrxs" or not beside.is_dir():
        return [path]
    return [path, *sorted(part for part in beside.iterdir() if part.is_file())]


def _ordinary(path: Path, shown: str) -> Held:
    """An image file that holds just one."""
    found = look(path, shown)
    return Held(
        shape=found.shape,
        dtype=found.dtype,
        parts=[""],
        read=lambda places: np.stack([decode(path, shown)] * len(places)),
        profile=found.profile,
    )


def _chosen(held: Held, wanted: Mapping[str, str], shown: str) -> list[int]:
    """The places of the images that are asked for.

    Raises:
        UserError: none is as asked, or several are there and what is asked is not what tells them apart.
    """
    asked = {key: value for key, value in wanted.items() if value}
    keys = [key for key in asked if key in held.columns]
    if asked and not keys and len(held.parts) > 1:
        wrong = next(iter(asked))
        there = next((key for key in PLACES if key in held.columns), None)
        raise UserError(
            f"{shown} has {there}s and no {wrong}s: name the column {there!r}."
            if there
            else f"{shown} has no {wrong}s to choose of: leave {wrong!r} empty in its row."
        )
    chosen = [i for i in range(len(held.parts)) if all(held.columns[key][i] == asked[key] for key in keys)]
    if not chosen and keys:
        raise UserError(f"{shown} has no image with {keys[0]} {wanted[keys[0]]!r}: correct that row.")
    return chosen


def check_heeded(reading: Reading, kinds: Sequence[str | None]) -> None:
    """Raise UserError for a key of `--reading` that no file of these kinds heeds."""
    heeded = {key for kind in set(kinds) if kind is not None for key in FILES[kind].keys}
    if unheeded := [key for key in reading.said if key not in heeded]:
        by = ", ".join(name for name in FILES if unheeded[0] in FILES[name].keys)
        raise UserError(
            f"--reading says {unheeded[0]}, which is for files of the kind {by}, and there are none: leave it out."
        )


def any_held(paths: Sequence[Path], reading: Reading) -> bool:
    """Whether some file is of a kind in `registry.FILES`; ordinary images go by their suffix."""
    endings = paths.endings() if isinstance(paths, Listed) else {path.suffix.lower(): path for path in paths}
    return any(ending not in SUFFIXES or kind_of(path, reading) is not None for ending, path in endings.items())
