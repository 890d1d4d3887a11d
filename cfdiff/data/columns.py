"""Arrays with one value an image (labels, ids, groups, splits), from whatever shape and type a file has them in.

The keys in `KNOWN` mean something wherever they stand, so an array of that name that does not fit is an error. Any
other array that fits may serve as groups, and one that does not fit is ignored.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from cfdiff.data.distinct import distinct
from cfdiff.data.limits import BYTES_A_NAME, MAX_NAME, check_memory
from cfdiff.data.names import fold
from cfdiff.errors import UserError

KNOWN = ("id", "name", "split", "patient", "group", "pair")
TEXT, PLAIN = "SU", "biufmM"
"""Kinds of dtype that can be names: text and single numbers or dates."""

WHOLE = 2.0**53
"""Up to here every whole number has a float of its own."""
_ROWS = 1 << 14
"""Names that are looked at at once."""
NUMBER = r"[+-]?\d{1,9}(\.\d*)?([eE][+-]?\d{1,2})?"


class Columns(Mapping[str, np.ndarray]):
    """Name -> (N,) str; each is read when it is first asked for."""

    def __init__(
        self,
        loaders: Mapping[str, Callable[[], np.ndarray]],
        asked: Mapping[str, Callable[[], np.ndarray]] | None = None,
    ) -> None:
        """`asked` are there for whoever names them, and in no list: columns that name a person."""
        self._loaders, self._loaded = dict(loaders), dict[str, np.ndarray]()
        self._asked = dict(asked or {})

    def and_also(self, loaders: Mapping[str, Callable[[], np.ndarray]]) -> Columns:
        """These columns and others, which go before those of the same name."""
        return Columns({**self._loaders, **loaders}, self._asked)

    def __getitem__(self, key: str) -> np.ndarray:
        if key not in self._loaded:
            self._loaded[key] = (self._asked[key] if key in self._asked else self._loaders[key])()
        return self._loaded[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaders)

    def __len__(self) -> int:
        return len(self._loaders)


def is_row(shape: tuple[int, ...]) -> bool:
    """Whether the values lie along one axis, and all other axes have length 1: (N,), (N, 1), (1, N), ..."""
    return len(shape) > 0 and math.prod(shape) == max(shape)


def is_column(shape: tuple[int, ...], dtype: np.dtype, n: int, key: str, where: str, text: bool = False) -> bool:
    """Whether an array can be read as one value for each of n images.

    `text` says that a dtype of objects is text. Raises UserError for one of `KNOWN` that cannot.
    """
    fits = is_row(shape) and math.prod(shape) == n
    plain = text or dtype.kind in TEXT + PLAIN
    if key in KNOWN and not fits:
        raise UserError(
            f"{where} has {key!r} of shape {shape} for {n} images: one value for each is needed, shape ({n},)."
        )
    if key in KNOWN and not plain:
        raise UserError(f"{where} has {key!r} of type {dtype}: save it as numbers or text.")
    if fits and plain:
        check_memory(n * (dtype.itemsize + BYTES_A_NAME), f"The {n:,} values of {key!r} in {where}")
    return fits and plain


def as_row(values: np.ndarray) -> np.ndarray:
    """The values as (N,), where they lie along one axis; otherwise as they are."""
    return values.reshape(-1) if is_row(values.shape) else values


def as_text(values: np.ndarray, key: str = "labels", where: str = "The data") -> np.ndarray:
    """Any one-dimensional column as str, bytes decoded; UserError for what is no plain text."""
    if values.dtype.kind == "O":
        texts = values.tolist()
        if set(map(type, texts)) - {str, bytes}:
            raise UserError(f"{where} has {key!r} that is neither text nor a number for each image: save it as one.")
        longest = max(map(len, texts), default=0)
        check_name(longest, key, where)
        check_memory(len(values) * (4 * longest + BYTES_A_NAME), f"The {len(values):,} values of {key!r} in {where}")
    elif values.dtype.kind not in TEXT + PLAIN:
        raise UserError(f"{where} has {key!r} of type {values.dtype}: save it as numbers or text.")
    try:
        return decoded(values) if values.dtype.kind == "S" else values.astype(str, copy=False)
    except UnicodeDecodeError as error:
        raise UserError(f"A name in the data is not UTF-8 ({error.object!r}): save names as UTF-8 text.") from error


def decoded(values: np.ndarray) -> np.ndarray:
    """Bytes as str, from UTF-8; UnicodeDecodeError where they are no such."""
    try:
        return values.astype(str)  # ASCII alone, and a hundred times as fast
    except UnicodeDecodeError:
        return np.char.decode(values, "utf-8")


def check_storable(names: np.ndarray, what: str, where: str) -> None:
    """Raise UserError for a name (N,) that no file can hold: with a NUL, or half of a character of UTF-16."""
    if _plainly_storable(names):
        return
    try:
        if b"\0" not in "".join(names.tolist()).encode():
            return
        bad = next(name for name in names.tolist() if "\0" in name)
    except UnicodeEncodeError:
        bad = next(name for name in names.tolist() if not _encodable(name))
    raise UserError(f"{where} has the {what} {bad!r}, with a character that no file of results can hold: rename it.")


def _plainly_storable(names: np.ndarray) -> bool:
    """Whether names (N,) hold neither, by their letters; False too where these cannot be looked at as numbers."""
    width = names.dtype.itemsize // 4
    if names.dtype.kind != "U" or not names.dtype.isnative or not width or names.ndim != 1:
        return False
    letters = np.ascontiguousarray(names).view(np.uint32).reshape(len(names), width)
    for start in range(0, len(names), _ROWS):
        some = letters[start : start + _ROWS]
        ended = some == 0
        if (ended[:, :-1] & ~ended[:, 1:]).any() or (some >> 11 == 0xD800 >> 11).any():
            return False
    return True


def _encodable(name: str) -> bool:
    try:
        return bool(name.encode() or True)
    except UnicodeEncodeError:
        return False


def check_name(length: int, key: str, where: str) -> None:
    """Raise UserError for a name that is too long to be one."""
    if length > MAX_NAME:
        raise UserError(
            f"{where} has a value of {length:,} characters in {key!r}, and {MAX_NAME:,} are the most: shorten it."
        )


def numbered_if_repeated(names: np.ndarray) -> np.ndarray:
    """Names made unique: the second `a` becomes `a#2`. Crops of one photograph often share its name."""
    seen: dict[str, int] = {}
    unique = []
    for name in names.tolist():
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return np.array(unique)


def row_ids(columns: Mapping[str, np.ndarray], n: int) -> np.ndarray:
    """Ids from `id`, else from `name` (numbered where repeated), else the row number."""
    if "id" in columns:
        return columns["id"]
    if "name" in columns:
        return numbered_if_repeated(columns["name"])
    return np.array([f"{i:06d}" for i in range(n)])


def class_names(labels: np.ndarray, classes: np.ndarray | None, name: str, unlabelled: bool = False) -> np.ndarray:
    """Labels (N,), integers, booleans or strings, as class names (N,) str; the same in every layout of images.

    Integers are places in `classes` where these are given, and so are strings of digits that are no class themselves.
    Whole numbers are one class however they are written: 1, 1.0, "1", "1.0". -1 is "", where data may be `unlabelled`;
    but where the only other label is 1 and there are two classes, -1 is the first of them.

    Raises:
        UserError: several labels an image, one-hot ones too; fractions; numbers beyond `classes`.
    """
    if classes is not None and classes.ndim != 1:
        raise UserError(f"{name} has 'classes' of shape {classes.shape}: one name per label is needed, shape (K,).")
    labels = as_row(labels)
    if labels.ndim != 1:
        raise several_labels(labels.shape, name)
    if labels.dtype.kind == "f" and unlabelled and (silent := np.isnan(labels)).any():
        said = class_names(labels[~silent], classes, name, unlabelled)
        names = np.full(len(labels), "", said.dtype)
        names[~silent] = said
        return names
    if labels.dtype.kind == "f":
        if not (np.isfinite(labels).all() and np.array_equal(labels, np.rint(labels))):
            raise UserError(f"{name} has labels that are not whole numbers: store a class per image, 0 or 1.")
        if (beyond := np.abs(labels) > WHOLE).any():
            raise UserError(f"{name} has the label {labels[beyond][0]:g}, which numbers no class: store 0 or 1.")
        labels = labels.astype(np.int64)
    if labels.dtype.kind == "b":
        labels = labels.astype(np.uint8)
    if labels.dtype.kind not in "iu":
        said = as_text(labels, "labels", name)
        labels = _numbers(said, () if classes is None else as_text(classes, "classes", name).tolist(), name)
    if classes is None or labels.dtype.kind not in "iu":
        if labels.dtype.kind not in "iu":
            return as_text(labels, "labels", name)
        unique, place = np.unique(labels, return_inverse=True)
        return np.array(as_text(unique, "labels", name).tolist(), dtype=str)[place.reshape(-1)]
    if len(classes) == 2 and set(np.unique(labels).tolist()) == {-1, 1}:
        labels = labels > 0
    if labels.size and not (-1 if unlabelled else 0) <= labels.min() <= labels.max() < len(classes):
        raise UserError(
            f"{name} has labels from {labels.min()} to {labels.max()} but names {len(classes)} 'classes': a "
            "label is the place of its class among them, from 0."
        )
    return np.where(labels < 0, "", as_text(classes, "classes", name)[labels.astype(np.int64)])


def several_labels(shape: tuple[int, ...], name: str) -> UserError:
    """What to say of labels that are not one an image."""
    hint = "; of one-hot labels take np.argmax(labels, axis=1), of several choose one" if len(shape) == 2 else ""
    return UserError(f"{name} has labels of shape {shape}: one class per image is needed, shape (N,){hint}.")


def _numbers(said: np.ndarray, classes: Sequence[str], name: str) -> np.ndarray:
    """Labels (N,) str as they were meant: "1.0", "1." and "1.00e+00" are 1.

    All are integers where `classes` are other names. What is written in digits alone stays as it is ("01", or "+1"
    beside "-1"), unless two are one number.

    Raises:
        UserError: numbers that are fractions.
    """
    unique, place = distinct(said)
    spoken = [word.strip() for word in unique.tolist() if fold(word) not in ("", "nan")]
    if not spoken or not all(re.fullmatch(NUMBER, word, re.ASCII) and abs(float(word)) <= WHOLE for word in spoken):
        return said
    if any(float(word) != int(float(word)) for word in spoken):
        raise UserError(f"{name} has labels that are not whole numbers: store a class per image, 0 or 1.")
    if classes and len(spoken) == len(unique) and not any(word in classes for word in spoken):
        return np.array([int(float(word)) for word in spoken], np.int64)[place]
    meant = {word: str(int(float(word))) for word in spoken}
    if len(set(meant.values())) == len(meant) and not any(re.search(r"[.eE]|^[+-]0+$", word) for word in meant):
        return said
    return np.array([meant.get(word.strip(), word.strip()) for word in unique.tolist()])[place]


def check_labels(labels: np.ndarray, n: int, name: str) -> None:
    """Raise UserError unless there is one label per image."""
    if len(labels) != n:
        raise UserError(f"{name} has {n} images but {len(labels)} labels: there must be one for each.")
