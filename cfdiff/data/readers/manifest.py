"""Reader for a CSV manifest: one row an image, paths relative to the CSV file."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from cfdiff.data.columns import Columns, class_names
from cfdiff.data.fit import Fit
from cfdiff.data.raw import Format, Raw, files_of
from cfdiff.data.readers.foreign import TEXT, in_truth
from cfdiff.data.readers.held import PLACES, HeldFiles, any_held, check_heeded, kind_of
from cfdiff.data.readers.held_masks import HeldMasks
from cfdiff.data.readers.images import ImageFiles
from cfdiff.data.readers.listed import Listed, OneEach
from cfdiff.data.readers.masks import MaskFiles
from cfdiff.data.readers.reading import AS_IT_SAYS, Reading
from cfdiff.data.readers.table import read_columns
from cfdiff.data.readers.tree import counted
from cfdiff.errors import UserError

GROUP_KEYS = ("group", "patient")


def read_manifest(
    path: Path,
    name: str,
    fit: Fit | None = None,
    unlabelled: bool = False,
    layout: str | None = None,
    reading: Reading = AS_IT_SAYS,
) -> Raw:
    """The images that a CSV lists in `path` and `label`; `split`, `mask`, `id` and any group column if given.

    Where it may be `unlabelled`, `label` may be empty or not there. An empty `mask` stands for an empty mask.
    Without `id`, the path relative to the CSV is the id. A row whose file holds several images (`registry.FILES`) is
    as many, or the one that its `frame` or `slice` names, read as `reading` says.
    """
    table = read_columns(path, name)
    columns: Mapping[str, np.ndarray] = table
    if unlabelled and "path" in columns and "label" not in columns:
        columns = {**columns, "label": np.full(len(columns["path"]), "")}
    for needed in ("path", "label"):
        if needed not in columns:
            if (truth := in_truth(path)) is not None and not truth.startswith(TEXT):
                raise UserError(f"{name} is no CSV but {truth}.")
            raise UserError(
                f"{name} has no column {needed!r} but {', '.join(columns) or 'none'}: "
                f"its first line must name at least path,label."
            )
        if (blank := columns[needed] == "").any() and not (unlabelled and needed == "label"):
            line = table.numbers[blank.argmax()]
            raise UserError(f"{name} has no {needed} in row {line}: fill it in or remove the row.")
    if len(columns["path"]) == 0:
        raise UserError(f"{name} is empty: it lists no images.")
    files = Listed(path.parent, columns["path"])
    _check_there(files, table.numbers, name, "file")
    if "mask" in columns:
        _check_there(Listed(path.parent, columns["mask"]), table.numbers, name, "mask")
    ids = files.ids()
    check_heeded(reading, [kind_of(file, reading) for file in files] if reading.said else [])
    if any_held(files, reading):
        return read_held(columns, path, name, files, columns.get("id", ids), fit, reading, unlabelled)
    images = ImageFiles(files, ids, fit)
    masks = None
    if "mask" in columns:
        masks = MaskFiles(OneEach(Listed(path.parent, columns["mask"])), images.shape, fit)
    return Raw(
        name=name,
        ids=columns.get("id", ids),
        labels=class_names(columns["label"], None, name, unlabelled),
        splits=columns.get("split"),
        shape=images.shape,
        dtype=images.dtype,
        reader=images.read,
        mask_reader=None if masks is None else masks.read,
        digest=images.digest if masks is None else lambda rows: f"{images.digest(rows)} {masks.digest(rows)}",
        files=files_of(images, masks),
        columns=columns,
        default_group=next((key for key in GROUP_KEYS if key in columns), None),
        notes=images.notes,
    )


def _check_there(files: Listed, numbers: np.ndarray, name: str, what: str) -> None:
    """Raise UserError, with what may be the reason, where files that are listed are not there; "" is none."""
    missing = files.missing()
    if not len(missing):
        return
    folder, entry = files.folder, str(files.entries[missing[0]])
    forms = {unicodedata.normalize(form, entry) for form in ("NFC", "NFD")} - {entry}
    hint = "paths are taken relative to the folder of the CSV"
    if "://" in entry:
        hint = "addresses are not fetched, give paths of files that are here"
    elif "\\" in entry and (folder / entry.replace("\\", "/")).is_file():
        hint = "write / between folders, not \\"
    elif any((folder / form).is_file() for form in forms):
        hint = "there is one whose accents are stored in another form of Unicode, so rename it or write it so"
    n = len(missing)
    raise UserError(
        f"{name} lists {n} {what}{'s that do' if n > 1 else ' that does'} not exist, the first is {entry!r} in row "
        f"{numbers[missing[0]]}: {hint}."
    )


def read_held(
    columns: Mapping[str, np.ndarray],
    path: Path,
    name: str,
    files: Sequence[Path],
    ids: np.ndarray,
    fit: Fit | None,
    reading: Reading,
    unlabelled: bool,
) -> Raw:
    """The rows of `columns`, of which some hold several images; what the CSV says goes before what the files say."""
    places = {key.lower(): key for key in sorted(columns) if key.lower() in PLACES}  # small letters sort last, and win
    chosen = [{place: str(columns[key][i]) for place, key in places.items()} for i in range(len(files))]
    names = [Path(os.path.relpath(file, path.parent)).as_posix() for file in files]
    images = HeldFiles(files, ids, fit, reading, chosen, names)
    if images.empty:
        raise UserError(f"{name} lists {counted(images.empty)}: take them off the list.")
    said = {key: partial(lambda key: columns[key][images.of], key) for key in columns if key.lower() not in PLACES}
    every = Columns(images.columns, images.asked).and_also(said)
    masks = None
    if "mask" in columns:
        paths = [path.parent / entry if entry else None for entry in columns["mask"].tolist()]
        masks = HeldMasks(paths, images)
    return Raw(
        name=name,
        ids=images.ids,
        labels=class_names(every["label"], None, name, unlabelled),
        splits=every["split"] if "split" in columns else None,
        shape=images.shape,
        dtype=images.dtype,
        reader=images.read,
        mask_reader=None if masks is None else masks.read,
        digest=images.digest if masks is None else lambda rows: f"{images.digest(rows)} {masks.digest(rows)}",
        columns=every,
        default_group=next((key for key in GROUP_KEYS if key in columns), images.group),
        notes=images.notes,
    )


FORMAT = Format(lambda path: path.is_file() and path.suffix.lower() == ".csv", read_manifest, None, read_manifest)
