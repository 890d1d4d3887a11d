"""Where a result may be written, asked before it is computed."""

from __future__ import annotations

import os
from pathlib import Path

from cfdiff.errors import UserError
from cfdiff.files import try_writing
from cfdiff.hdf5 import format_of
from cfdiff.store import bag_schema, schema

FORMATS = (schema.FORMAT, bag_schema.FORMAT)
LONGEST_NAME = 255 - len(".parts.1234567-12345678.tmp")
"""Bytes of a name to which what lies beside an unfinished run adds its own."""


def parts_dir(out: Path) -> Path:
    """The folder beside `out` that holds the parts of an unfinished run."""
    return out.parent / f"{out.name}.parts"


def check_output(path: Path, force: bool = False, option: str = "--out", *, resumes: bool = False) -> None:
    """Raise UserError now, before hours of computation, if `path` could not be written at the end.

    A file that exists is refused unless `force`. Where a run `resumes`, and the file is a finished one of ours or parts
    lie beside it, RunParts decides instead, because it knows whether they are those of this very run: the same command
    again finds its own result, and is done. `option` is how the user named the path.
    """
    folder = path.parent
    if "\0" in str(path):
        raise UserError(f"{str(path)!r} can be no name of a file: change {option}.")
    if len(os.fsencode(path.name)) > LONGEST_NAME:
        raise UserError(f"The name {path.name[:40]!r}… is too long for a file: give {option} a shorter one.")
    if path.is_dir():
        raise UserError(f"{path} is a folder: give {option} the name of a file in it, such as {path / 'run.h5'}.")
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is no file that can be replaced: choose another {option}.")
    if not folder.is_dir():
        raise UserError(f"Cannot write {path}: {folder} is no existing folder; create it or change {option}.")
    if path.exists() and not force and not parts_dir(path).exists() and not (resumes and format_of(path) in FORMATS):
        raise UserError(f"{path} exists already: choose another {option}, or replace it with --force.")
    try:
        try_writing(folder)
    except OSError as error:
        raise UserError(f"Cannot write in {folder} ({error.strerror}): choose another {option}.") from error


def own_folder(folder: Path) -> None:
    """Make the folder that a long work writes many files to; UserError where it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try_writing(folder)
    except OSError as error:
        raise UserError(
            f"The folder {str(folder)!r} cannot be written ({error.strerror}): give another --out."
        ) from error


def make_folder(folder: Path) -> None:
    """Make the folder of a default output, where it is not there; UserError if that cannot be."""
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"Cannot make the folder {folder} here ({error.strerror}): choose another --out.") from error
