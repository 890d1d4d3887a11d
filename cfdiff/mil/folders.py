"""Folders of features, one bag a file: as CLAM, TRIDENT, torchmil and `cfdiff bag --export` write them.

What a folder does not hold itself stands in a table beside it, `dataset.csv`, or the one that --labels names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cfdiff.data.classes import map_classes
from cfdiff.data.names import fold
from cfdiff.data.readers.table import read_columns
from cfdiff.data.source import OTHER
from cfdiff.errors import UserError
from cfdiff.files import is_there
from cfdiff.mil.series import UNKNOWN, BagSet, Series, class_of, named_models
from cfdiff.registry import BAG_FOLDERS
from cfdiff.store.bag_layouts import read_h5, read_origin

TABLE = "dataset.csv"
NAME = ("slide_id", "bag", "slide", "wsi", "name", "filename")
CASE = ("case_id", "patient", "group", "case")
CLASS = ("label", "class", "target")
"""What the columns of a table are called, by those who write them; the first that is there counts."""


NOTHING = frozenset({"", "nan", "na", "n/a", "<na>", "none", "null"})
"""What tables write, folded, where a value is missing."""


@dataclass(frozen=True, eq=False)
class Found:
    """One bag as its files tell it.

    Attributes:
        name: of its file, without the ending.
        features: (n, D) float32.
        labels: (n,) int8 of the instances; None where the folder does not say.
        label: class of the bag, 0 or 1; None where the folder does not say.
        edited: whether an instance was edited, or is a sham; None where the folder does not say.
    """

    name: str
    features: np.ndarray
    labels: np.ndarray | None = None
    label: int | None = None
    edited: bool | None = None


@dataclass(frozen=True)
class Layout:
    """An entry of registry.BAG_FOLDERS: `recognises(folder)` and `read(folder)`, its bags in the order of names."""

    recognises: Callable[[Path], bool]
    read: Callable[[Path], list[Found]]


@dataclass(frozen=True)
class Row:
    """What a table says of a bag; "" where it says nothing, and None of `edited`."""

    case: str
    label: str
    split: str
    edited: bool | None = None
    mix_of: str = ""
    requested: str = ""


def is_bag_folder(path: Path) -> bool:
    """Whether it is a folder of bags in one of the layouts."""
    return is_there(path) and path.is_dir() and any(BAG_FOLDERS[name].recognises(path) for name in BAG_FOLDERS)


def read_folder(path: Path, table: Path | None, negative: str | None, positive: str | None) -> BagSet:
    """Every bag of a folder for itself; those of one case are of one group, and `real` where none was edited.

    Raises:
        UserError: a bag cannot be read, has no class, or features of another width than the first.
    """
    layout: Layout = next(BAG_FOLDERS[name] for name in BAG_FOLDERS if BAG_FOLDERS[name].recognises(path))
    found = layout.read(path)
    if not found:
        raise UserError(f"{path.name} holds no bag: give a folder with one file of features a bag.")
    rows = _table(table or path / TABLE, required=table is not None)
    if rows is not None and not any(one.name in rows for one in found):
        raise UserError(
            f"{(table or path / TABLE).name} names no bag of {path.name}: its names must be those of files."
        )
    if rows is not None:  # a table also says which bags take part
        found = [one for one in found if one.name in rows]
    names, classes = _classes(path.name, found, rows or {}, negative, positive)
    kept = [i for i, label in enumerate(classes) if label != OTHER]
    found, classes = [found[i] for i in kept], [classes[i] for i in kept]
    if not found:
        raise UserError(f"{path.name} has no bag of the classes {' and '.join(names)}: name others.")
    width = found[0].features.shape[1]
    series, start = [], 0
    for one, label in zip(found, classes, strict=True):
        if one.features.shape[1] != width:
            raise UserError(
                f"{path.name} holds features of other widths: {one.name} has {one.features.shape[1]} numbers an "
                f"instance and {found[0].name} has {width}; make all with one model."
            )
        n = len(one.features)
        labels = np.full(n, UNKNOWN, np.int8) if one.labels is None else one.labels
        if len(labels) != n or n == 0:
            raise UserError(f"The bag {one.name} of {path.name} has {n} instances and {len(labels)} labels: mend it.")
        row = (rows or {}).get(one.name, Row("", "", ""))
        places = np.arange(start, start + n)[None]
        real = not (row.edited or one.edited)
        told = labels[None], np.array([label], np.int8)
        whose = row.case or one.name
        series.append(
            Series(one.name, whose, places, *told, real, row.split, mix_of=row.mix_of, requested=row.requested)
        )
        start += n
    contents = np.concatenate([one.features for one in found])
    if not np.isfinite(contents).all():
        raise UserError(f"{path.name} has features that are NaN or infinite: make them again.")
    origin = read_origin(path)
    return BagSet(path.name, contents, tuple(series), names, named_models(origin.models), origin.encoder)


def as_mixes(bags: BagSet) -> BagSet:
    """The mixes of each bag as one bag in versions, lowest first, as `cfdiff bag --export` wrote them.

    Which are of one bag the column mix_of says; where it is not, those of one case and one size are.

    Raises:
        UserError: instance labels are missing, no bag has two mixes, or what would be one bag is of several cases, or
            at one mix twice.
    """
    wholes: dict[tuple[str, str, int], list[Series]] = {}
    for one in bags.series:
        if not one.known:
            raise UserError(
                f"{bags.name} does not say which instances are positive, so its mixes are not known: export it as "
                "torchmil or npz."
            )
        wholes.setdefault((one.mix_of, "" if one.mix_of else one.group, one.size), []).append(one)
    series = []
    for (mix_of, _, _), versions in wholes.items():
        case = versions[0].group
        _check_one_bag(bags.name, mix_of, versions)
        rows = np.concatenate([one.rows for one in versions])
        labels = np.concatenate([one.labels for one in versions])
        order = np.argsort((labels == 1).sum(1), kind="stable")
        series.append(Series(mix_of or case, case, rows[order], labels[order], class_of(labels[order]), real=False))
    if all(len(one) < 2 for one in series):
        raise UserError(f"{bags.name} has each bag at one mix only: make it with cfdiff bag --sweep and --export.")
    return replace(bags, series=tuple(series))


def _check_one_bag(where: str, mix_of: str, versions: Sequence[Series]) -> None:
    """Raise UserError where bags cannot be mixes of one: every loss between them would compare other instances."""
    cases = sorted({one.group for one in versions})
    if len(cases) > 1:
        raise UserError(
            f"{TABLE} of {where} says that mixes of the bag {mix_of} are of several cases ({', '.join(cases)}): "
            "correct case_id or mix_of there."
        )
    twice = next((mix for mix, n in Counter(one.requested for one in versions).items() if mix and n > 1), None)
    if not mix_of and twice is not None:
        raise UserError(
            f"{where} holds several bags of the case {cases[0]} at the mix {twice}, and which mixes are of one bag is "
            f"not said: export them again, or name the bag of each in the column mix_of of its {TABLE}."
        )


def _classes(
    where: str, found: list[Found], rows: dict[str, Row], negative: str | None, positive: str | None
) -> tuple[tuple[str, str], list[int]]:
    """The names of the classes, and the class of each bag: of the table, else of the folder, else of its instances.

    A bag of a third class in the table is OTHER, as an image is, and left out.
    """
    said = {one.name: rows[one.name].label for one in found if one.name in rows and rows[one.name].label}
    names, mapped = ("negative", "positive"), dict[str, int]()
    if said:
        labels, names = map_classes(np.array(list(said.values())), negative, positive, where)
        mapped = dict(zip(said, labels.tolist(), strict=True))
        names = names if not all(name.isdecimal() for name in names) else ("negative", "positive")
    classes = []
    for one in found:
        label = mapped.get(one.name, one.label)
        if label is None and one.labels is not None:
            label = int(class_of(one.labels))
        if one.name in mapped and label == OTHER:
            classes.append(OTHER)
            continue
        if label not in (0, 1):
            raise UserError(
                f"The bag {one.name} of {where} has no class: name a table of slide_id,label with --labels, or put "
                f"{TABLE} into the folder."
            )
        classes.append(int(label))
    return names, classes


def _table(path: Path, required: bool) -> dict[str, Row] | None:
    if not path.is_file():
        if required:
            raise UserError(f"There is no table {str(path)!r} for --labels: give a .csv of slide_id,label.")
        return None
    table = read_columns(path, path.name)
    name, case, label = (next((c for c in known if c in table), None) for known in (NAME, CASE, CLASS))
    if name is None or (required and label is None):
        raise UserError(f"{path.name} needs the columns slide_id and label: it has {', '.join(table) or 'none'}.")
    names = table[name].tolist()
    kinds = (case, label, *(key if key in table else None for key in ("split", "mix_of", "requested")))
    values = [[""] * len(names) if key is None else table[key].tolist() for key in kinds]
    rows: dict[str, Row] = {}
    for bag, edited, *said in zip(map(_stem, names), _edited(table, case, names), *values, strict=True):
        known = ["" if fold(word) in NOTHING else word for word in said]
        row = Row(known[0], known[1], known[2], edited, known[3], known[4])
        if rows.setdefault(bag, row) != row:
            raise UserError(f"{path.name} names the bag {bag!r} twice, and not alike: leave one row for each bag.")
    return rows


def _edited(table: Mapping[str, np.ndarray], case: str | None, names: list[str]) -> list[bool | None]:
    """Whether an instance of each bag was edited, by a table of `cfdiff bag --export`; None where it does not say.

    Before it had the column, of a case with several mixes all but one had to be edited, and which is not said.
    """
    if "requested" not in table:
        return [None] * len(names)
    if "edited" in table:
        return [word not in ("0", "") for word in table["edited"].tolist()]
    cases = names if case is None else table[case].tolist()
    times = Counter(cases)
    return [True if times[one] > 1 else None for one in cases]


def _stem(name: str) -> str:
    """A slide's name without the ending of its image or features."""
    known = (".h5", ".pt", ".npy", ".npz", ".svs", ".tif", ".tiff", ".ndpi", ".mrxs")
    return next((name[: -len(end)] for end in known if name.lower().endswith(end)), name)


def _numpy(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path.name} in {path.parent.name} is no readable array: write it again.") from error


def _features(array: np.ndarray, path: Path) -> np.ndarray:
    """(n, D) float32 of (n, D), or of (1, n, D)."""
    array = array[0] if array.ndim == 3 and len(array) == 1 else array
    if array.ndim != 2:
        raise UserError(f"{path.name} holds features of shape {array.shape}: one row an instance is needed.")
    if array.dtype.kind not in "biuf":
        raise UserError(f"{path.name} holds features of type {array.dtype}: save them as real numbers.")
    with np.errstate(over="ignore"):  # what is beyond float32 is infinite, and refused as such
        return array.astype(np.float32)


def _whole(values: np.ndarray, path: Path, what: str) -> np.ndarray:
    """(n,) int64 of 0, 1 and what is below 0, not known; UserError for anything else, which a cast would hide."""
    if values.dtype.kind not in "biuf" or not np.isin(values, (0, 1, -1)).all():
        raise UserError(
            f"{path.name} holds {what} that are not 0 or 1 (or -1, not known): store them so; names of classes stand "
            "in a table of slide_id,label."
        )
    return values.reshape(-1).astype(np.int64)


def _class(values: np.ndarray, path: Path) -> int:
    """The class of a bag, of one number."""
    if values.size != 1:
        raise UserError(f"{path.name} holds {values.size} numbers as the class of a bag: store one, 0 or 1.")
    return int(_whole(values, path, "classes")[0])


def _read_torchmil(folder: Path) -> list[Found]:
    found = []
    for path in sorted((folder / "features").glob("*.npy")):
        inst, label = (folder / part / path.name for part in ("inst_labels", "labels"))
        found.append(
            Found(
                path.stem,
                _features(_numpy(path), path),
                _whole(_numpy(inst), inst, "labels of instances").astype(np.int8) if inst.is_file() else None,
                _class(_numpy(label), label) if label.is_file() else None,
            )
        )
    return found


def _read_clam(folder: Path) -> list[Found]:
    if (folder / "h5_files").is_dir():
        return _read_h5s(folder / "h5_files")
    return [Found(path.stem, _features(_torch(path), path)) for path in sorted((folder / "pt_files").glob("*.pt"))]


def _torch(path: Path) -> np.ndarray:
    import torch

    try:  # weights_only: nothing in it is run
        tensor = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # what is no tensor ends in a dozen ways
        raise UserError(f"{path.name} is no readable tensor: write it again, or give h5_files.") from error
    if not isinstance(tensor, torch.Tensor):
        raise UserError(f"{path.name} holds no tensor of features: give the pt_files that CLAM wrote.")
    dense = tensor.detach().to_dense() if tensor.layout != torch.strided else tensor.detach()
    return (dense if dense.is_complex() else dense.float()).numpy()


def _read_h5s(folder: Path) -> list[Found]:
    return [Found(path.stem, _features(read_h5(path, "features"), path)) for path in sorted(folder.glob("*.h5"))]


def _trident_features(folder: Path) -> list[Path]:
    """The folders of features in it, or in those of a patch size in it: one an encoder; or it is one of them."""
    inside = sorted(
        p for form in ("features_*", "*/features_*") for p in folder.glob(form) if p.is_dir() and any(p.glob("*.h5"))
    )
    return inside or ([folder] if folder.name.startswith("features_") and any(folder.glob("*.h5")) else [])


def _read_trident(folder: Path) -> list[Found]:
    there = _trident_features(folder)
    if len(there) > 1:
        raise UserError(
            f"{folder.name} holds the features of several encoders or patch sizes "
            f"({', '.join(p.relative_to(folder).as_posix() for p in there)}): give one."
        )
    return _read_h5s(there[0])


def _read_npz(folder: Path) -> list[Found]:
    found = []
    for path in sorted(folder.glob("*.npz")):
        try:
            with np.load(path, allow_pickle=False) as file:
                labels = (
                    _whole(file["labels"], path, "labels of instances").astype(np.int8) if "labels" in file else None
                )
                label = _class(file["label"], path) if "label" in file else None
                marks = [bool(file[key].any()) for key in ("edited", "sham") if key in file and "requested" in file]
                edited = any(marks) if marks else None
                found.append(Found(path.stem, _features(file["features"], path), labels, label, edited))
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise UserError(f"{path.name} is no bag: a .npz with the array features is needed.") from error
    return found


def _is_npz(folder: Path) -> bool:
    """Whether its .npz hold features, as bags do, and not images."""
    first = next(iter(sorted(folder.glob("*.npz"))), None)
    try:
        if first is None:
            return False
        with np.load(first, allow_pickle=False) as file:
            return "features" in file
    except (OSError, ValueError):
        return False


TORCHMIL = Layout(lambda folder: any((folder / "features").glob("*.npy")), _read_torchmil)
CLAM = Layout(
    lambda folder: any((folder / "h5_files").glob("*.h5")) or any((folder / "pt_files").glob("*.pt")), _read_clam
)
TRIDENT = Layout(lambda folder: bool(_trident_features(folder)), _read_trident)
NPZ = Layout(_is_npz, _read_npz)
