"""Reader for a folder per class, `root/CLASS/*.png`, or per split and class, `root/SPLIT/CLASS/*.png`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cfdiff.data.fit import Fit
from cfdiff.data.raw import Format, Raw
from cfdiff.data.readers.images import SUFFIXES, ImageFiles
from cfdiff.errors import UserError


def read_folder(root: Path, name: str, fit: Fit | None = None, unlabelled: bool = False) -> Raw:
    """All images below `root`; ids are paths relative to it.

    A folder that holds images is a class. Where no folder in `root` holds images itself, these are splits. Images in
    `root` itself are read where they may be `unlabelled`, with the class "".
    """
    folders = _folders(root)
    with_splits = bool(folders) and not any(_images(folder) for folder in folders)
    class_folders = [c for split in folders for c in _folders(split)] if with_splits else folders
    files = [(folder, path) for folder in class_folders for path in _images(folder)]
    flat = [(root, path) for path in _images(root)] if unlabelled and not with_splits else []
    files = flat + files
    if not files:
        hint = "its images are not in folders" if _images(root) else "it holds no images"
        raise UserError(
            f"{name} has no folder of images per class ({hint}): lay it out as {name}/CLASS/image.png or "
            f"{name}/SPLIT/CLASS/image.png with {', '.join(s[1:] for s in SUFFIXES)} files."
        )
    ids = np.array([path.relative_to(root).as_posix() for _, path in files])
    images = ImageFiles([path for _, path in files], ids, fit)
    return Raw(
        name=name,
        ids=ids,
        labels=np.array(["" if folder == root else folder.name for folder, _ in files]),
        splits=np.array([folder.parent.name for folder, _ in files]) if with_splits else None,
        shape=images.shape,
        dtype=images.dtype,
        reader=images.read,
        digest=images.digest,
    )


def _folders(root: Path) -> list[Path]:
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    return sorted(
        p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file()
    )


FORMAT = Format(Path.is_dir, read_folder)
