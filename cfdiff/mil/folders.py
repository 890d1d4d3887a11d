"""Folders of features, one bag a file, in one of registry.BAG_FOLDERS.

What a folder does not hold itself stands in a table beside it, `dataset.csv`, or the one that --labels names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cfdiff.data.classes import map_classes
from cfdiff.data.source import OTHER
from cfdiff.errors import UserError
from cfdiff.files import is_there
from cfdiff.mil.layouts import Found, Layout
from cfdiff.mil.series import UNKNOWN, BagSet, Series, class_of, named_models
from cfdiff.mil.table import TABLE, Row, read_table
from cfdiff.registry import BAG_FOLDERS
from cfdiff.store.bag_layouts import read_origin


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
    rows = read_table(table or path / TABLE, required=table is not None)
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
