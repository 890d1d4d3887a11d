"""Bags from what there is: images in groups, the bags and mixes of a `cfdiff bag --sweep`, or a folder of features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cfdiff.data.open import open_told
from cfdiff.data.source import Source
from cfdiff.errors import UserError
from cfdiff.files import is_there
from cfdiff.mil.folders import as_mixes, is_bag_folder, read_folder
from cfdiff.mil.series import BagSet, Series, class_of, named_models
from cfdiff.remote import is_url
from cfdiff.settings import DataSettings
from cfdiff.store.bags import Bags, is_draw, open_bags


def open_real(s: DataSettings, labels: Path | None, splits: Sequence[str] | None) -> BagSet:
    """The bags of --data as they were found; `splits` are those that are needed, None is all.

    Raises:
        UserError: the data cannot be read, a bag has no class, nothing says which instances belong together or whose
            they are, or bags were edited.
    """
    path = Path(s.data)
    if not is_url(s.data) and is_bag_folder(path):
        return _as_found(_of_groups(read_folder(path, labels, s.negative, s.positive)))
    if labels is not None:
        raise UserError("--labels is the table of a folder of features: leave it out for images.")
    if not is_url(s.data) and is_sweep(path):
        sweep = _of_groups(read_sweep(path))
        return BagSet(sweep.name, sweep.contents, tuple(o.version([0]) for o in sweep.series), sweep.names)
    source = open_told(s)
    if splits is not None and source.splits is not None:
        source = source.narrow("+".join(splits))
    return of_source(source)


def _of_groups(bags: BagSet) -> BagSet:
    """The same; UserError where bags are draws: their instances may be of patients who are in other bags too."""
    draws = [one.name for one in bags.series if is_draw(one.group)]
    if draws:
        raise UserError(
            f"{bags.name} holds drawn bags ({len(draws)} of {len(bags.series)}, such as {draws[0]}), whose instances "
            "may be of several patients, and no patient may be both learned from and measured on: make it with cfdiff "
            "bag without --bag-size, or, where each bag of a folder is of one patient, name that in the column case_id "
            "of its table (and in mix_of the bag that a mix is of)."
        )
    return bags


def _as_found(bags: BagSet) -> BagSet:
    """The same; UserError where instances were edited: what is learned and measured as real must be so."""
    edited = [one.name for one in bags.series if not one.real]
    if edited:
        raise UserError(
            f"{bags.name} holds edited bags ({len(edited)} of {len(bags.series)}, such as {edited[0]}), and --data is "
            "of bags as they were found: give it as --mixtures (train) or --sweep (explain), and the real bags here."
        )
    return bags


def of_source(source: Source) -> BagSet:
    """The groups of labelled images as bags, one for each split that a group is in.

    Raises:
        UserError: nothing says which images belong together.
    """
    if source.groups is None:
        raise UserError(
            f"{source.name} does not say which images belong together, so it has no bags: name the column of the "
            "patient or slide with --group-key."
        )
    splits = np.full(len(source), "") if source.splits is None else source.splits.astype(str)
    groups, series = source.groups.astype(str), []
    if (groups == "").any():
        raise UserError(f"{int((groups == '').sum())} images of {source.name} have no group: name it or remove them.")
    for group, split in sorted(set(zip(groups.tolist(), splits.tolist(), strict=True))):
        rows = np.flatnonzero((groups == group) & (splits == split))[None]
        labels = source.labels[rows]
        ids = source.ids[rows[0]].astype(str)
        series.append(Series(group, group, rows, labels, class_of(labels), split=split, ids=ids))
    return BagSet(source.name, source.read(np.arange(len(source))), tuple(series), source.classes)


def is_sweep(path: Path) -> bool:
    """Whether it is a finished bag file."""
    if path.suffix not in (".h5", ".hdf5") or not (is_there(path) and path.is_file()):
        return False
    try:
        with open_bags(path):
            return True
    except UserError:
        return False


def read_sweep(path: Path) -> BagSet:
    """A bag file as bags in versions: as they were found, then each mix from the lowest on.

    Raises:
        UserError: it is no finished bag file.
    """
    with open_bags(path) as bags:
        sources = int(bags.read("instance/source").max()) + 1
        edits = len(bags.read("edit/used"))
        contents = np.concatenate(
            [bags.images("source", np.arange(sources)), bags.images("counterfactual", np.arange(edits))]
        )
        names = tuple(bags.settings.get("classes", ("negative", "positive")))
        series = tuple(_series(bags, b, sources) for b in range(len(bags.read("bag/name"))))
        models = dict(bags.attrs.get("models", {}))
    return BagSet(path.name, contents, series, (names[0], names[1]), named_models(models))


def _series(bags: Bags, b: int, sources: int) -> Series:
    start, stop = bags.read("bag/offset", slice(b, b + 2)).tolist()
    place = bags.read("instance/source", slice(start, stop))
    name = str(bags.read("bag/name", slice(b, b + 1))[0])
    rows, labels = [place], [bags.read("instance/label", slice(start, stop))]
    mixes = np.flatnonzero(bags.read("mix/bag") == b)
    for j in mixes[np.argsort(bags.read("mix/requested")[mixes], kind="stable")].tolist():
        where = bags.rows(j)
        edit = bags.read("row/edit", where)
        shown = bags.read("row/instance", where) - start
        version, label = place.copy(), labels[0].copy()
        version[shown] = np.where(edit >= 0, sources + edit, place[shown])
        label[shown] = bags.read("row/label", where)
        rows.append(version)
        labels.append(label)
    told = np.stack(labels).astype(np.int8)
    ids = bags.read("instance/id", slice(start, stop)).astype(str)
    return Series(name, name, np.stack(rows), told, class_of(told), ids=ids)


def open_mixes(paths: Sequence[Path], real: BagSet) -> BagSet:
    """Bags at several mixes: bag files of `cfdiff bag --sweep`, or folders of their --export.

    Raises:
        UserError: there is none, its instances are of another kind, size or encoder than those of `real`, nothing says
            whose they are, or two were made by other models.
    """
    found: BagSet | None = None
    for path in paths:
        if is_bag_folder(path):
            one = as_mixes(_of_groups(read_folder(path, None, None, None)))
        elif is_sweep(path):
            one = read_sweep(path)
        else:
            raise UserError(
                f"{path.name} holds no bags at several mixes: give a file of cfdiff bag --sweep or the folder of its "
                "--export."
            )
        empty = replace(real, contents=real.contents[:0], series=())
        if found is not None and found.models and one.models and found.models != one.models:
            raise UserError(
                f"{one.name} and {found.name} were edited by other models, so their edits are not of one kind: make "
                "both with the same --weights."
            )
        empty.joined(one)  # says what does not fit
        found = one if found is None else found.joined(one)
    assert found is not None
    return found
