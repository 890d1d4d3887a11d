"""cfdiff export: counterfactuals and difference maps as DICOM or NIfTI, beside the files that a run was made of."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cfdiff.data.readers.held import kind_of
from cfdiff.data.readers.reading import Reading, parse_reading
from cfdiff.errors import UserError
from cfdiff.export.dicom import write_captures
from cfdiff.export.nifti import write_difference
from cfdiff.export.original import Original
from cfdiff.export.settings import ExportSettings
from cfdiff.registry import FILES
from cfdiff.store import Result, open_result
from cfdiff.store.output import own_folder

WRITERS: dict[str, Callable[..., list[Path]]] = {"DICOM": write_captures, "NIfTI": write_difference}
"""Kind of file -> what writes the result of one."""


@dataclass(frozen=True)
class ExportResult:
    """The folder, what was written into it, and how many images of the run came from other kinds of files."""

    folder: Path
    files: tuple[Path, ...]
    passed_over: int


def export(s: ExportSettings) -> ExportResult:
    """Write the files.

    Raises:
        UserError: the run cannot be read, --data is not what it was made of, holds no DICOM or NIfTI, or the folder
            cannot be written.
    """
    folder = s.out or s.run.parent / f"{s.run.stem}-files"
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not s.force):
        raise UserError(f"{folder} is there and holds something: name another --out, or use --force.")
    with open_result(s.run) as result:
        reading = parse_reading(result.settings.get("reading"))
        originals, others = _originals(result, s.data, reading)
        if not originals:
            raise UserError(
                f"{s.run.name} holds no image of a DICOM or NIfTI file: cfdiff show and report draw the others."
            )
        _check_targets([original for original, _ in originals])
        for original, kind in originals:
            _check_same(result, original, kind)
        own_folder(folder)
        written = [path for original, kind in originals for path in WRITERS[kind](result, original, folder, s.names)]
    return ExportResult(folder, tuple(written), others)


def _originals(result: Result, data: Path, reading: Reading) -> tuple[list[tuple[Original, str]], int]:
    """The files behind the images of a result, each with its kind, and how many images are of none that is written."""
    root = data if data.is_dir() else data.parent
    rows: dict[str, list[int]] = defaultdict(list)
    marks: dict[str, list[str]] = defaultdict(list)
    for row, sample_id in enumerate(result["id"][:].tolist()):
        name, mark = sample_id, ""
        if not (root / name).is_file():  # an image of many in a file, a tile of a slide
            name, mark = re.fullmatch(r"(.*?)(#\d+|#x\d+y\d+)?", name, re.DOTALL).groups()  # type: ignore[union-attr]
        rows[name].append(row)
        marks[name].append(mark or "")
    found, others = [], 0
    for name in rows:
        path = root / name
        if not path.is_file():
            raise UserError(
                f"There is no {name} in {root.name or root}, of which {result.path.name} has an image: give the run's "
                "own --data, where ids are paths."
            )
        kind = kind_of(path, reading)
        if kind not in WRITERS:
            others += len(rows[name])
            continue
        held = FILES[kind].hold(path, name, reading)
        parts = [] if held is None else held.parts
        if wrong := [mark for mark in marks[name] if mark not in parts]:
            raise UserError(f"{name} has no image {wrong[0] or 'by itself'}: give the run's own --data.")
        found.append((Original(path, name, reading, rows[name], [parts.index(m) for m in marks[name]]), kind))
    return found, others


def _check_targets(originals: list[Original]) -> None:
    """Raise UserError where the results of two files would have one name."""
    seen: dict[str, str] = {}
    for original in originals:
        stem = original.target.removesuffix(".gz").rpartition(".")[0] or original.target
        if stem in seen:
            raise UserError(
                f"{seen[stem]} and {original.name} would be written to the same file: export them from two runs, or "
                "rename one."
            )
        seen[stem] = original.name


def _check_same(result: Result, original: Original, kind: str) -> None:
    """Raise UserError unless the pixels of the file are those of the run."""
    held: Any = FILES[kind].hold(original.path, original.name, original.reading)
    images = held.read(original.places)
    for row, image in zip(original.rows, images, strict=True):
        if not np.array_equal(result.source[row], image):
            raise UserError(
                f"{original.name} is not the image that {result.path.name} was made of, or of another size: give the "
                "run's own --data, as it was before cfdiff data convert."
            )
