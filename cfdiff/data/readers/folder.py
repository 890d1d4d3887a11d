"""Reader for folders of images: `root/CLASS/*.png`, also with splits and groups (patients, slides) as folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cfdiff.data.columns import Columns
from cfdiff.data.fit import Fit
from cfdiff.data.raw import Format, Raw, files_of
from cfdiff.data.readers.beside import masks_beside
from cfdiff.data.readers.datasets import list_datasets
from cfdiff.data.readers.hdf5 import refuse_features
from cfdiff.data.readers.held import HeldFiles, any_held, check_heeded, kind_of
from cfdiff.data.readers.images import SUFFIXES, ImageFiles
from cfdiff.data.readers.masks import MaskFiles
from cfdiff.data.readers.reading import AS_IT_SAYS, Reading
from cfdiff.data.readers.tree import ELSEWHERE, LAYOUTS, counted, layout_of, readable, splits_of, unwrapped, walk
from cfdiff.errors import UserError


def read_folder(
    root: Path,
    name: str,
    fit: Fit | None = None,
    unlabelled: bool = False,
    layout: str | None = None,
    reading: Reading = AS_IT_SAYS,
) -> Raw:
    """The images below `root`, as most of them lie there; ids are paths relative to it.

    What the folders stand for is `layout` (`tree.LAYOUTS`), or found by `tree.layout_of`. Images elsewhere are not
    read, and counted in the notes; images in `root` itself are read where they may be `unlabelled`, with the class "".
    What lies beside an image and is called as its mask is its mask (`beside`). A file that holds several images
    (`registry.FILES`) is as many rows, read as `reading` says.
    """
    tree = walk(root, SUFFIXES, name, lambda path: kind_of(path, reading) is not None)
    beside = masks_beside(tree, name)
    flat = tree.at(0)
    if not tree.files or (len(flat) == len(tree.files) and not unlabelled):
        if not flat and (found := next(root.rglob("*.h5"), None)) is not None:
            shown = f"{name}/{readable(found.relative_to(root).as_posix())}"
            refuse_features(list_datasets(found, shown), shown)
        hint = "its images are not in folders" if flat else "it holds no images"
        instead = f", but {counted(tree.others)}" if tree.others and not flat else ""
        raise UserError(
            f"{name} has no folder of images per class ({hint}{instead}): lay it out as {name}/CLASS/image.png or "
            f"{name}/SPLIT/CLASS/image.png with {', '.join(s[1:] for s in SUFFIXES)} files."
        )
    around: list[str] = []
    if layout is None and len(flat) < len(tree.files):
        tree, around = unwrapped(tree)
        flat = tree.at(0)
    if len(flat) < len(tree.files):
        chosen, why = layout_of(tree, name, layout)
        files = tree.at(len(LAYOUTS[chosen]))
    else:
        chosen, why, files = "class", "", []
    files = (flat if unlabelled and chosen == "class" else []) + files
    elsewhere = len(tree.files) - len(files)
    of = {
        part: np.array([readable(folders[place]) if folders else "" for folders, _ in files])
        for place, part in enumerate(LAYOUTS[chosen])
    }
    if "split" in of and (called := splits_of(set(of["split"].tolist()))):
        of["split"] = np.array([called[name] for name in of["split"].tolist()])
    ids = np.array([readable(path.relative_to(root).as_posix()) for _, path in files])
    paths = [path for _, path in files]
    images = HeldFiles(paths, ids, fit, reading) if any_held(paths, reading) else ImageFiles(paths, ids, fit)
    check_heeded(reading, [] if isinstance(images, ImageFiles) else images.kinds)
    masks, mask_note = _masks(images, paths, beside, name, fit)
    others = Counter(tree.others)
    columns = Columns({})
    if isinstance(images, HeldFiles):
        of = {part: values[images.of] for part, values in of.items()}
        others += images.empty
        columns = Columns(images.columns, images.asked)
    if elsewhere:
        others[ELSEWHERE] += elsewhere
    notes = [] if not why or (chosen == "class" and not elsewhere) else [f"Read as {chosen}/image: {why}."]
    if around:
        lone, several = " and ".join(map(repr, around)), len(around) > 1
        notes.append(
            f"The folder{'s' if several else ''} {lone}, in which all lie, stand{'' if several else 's'} for nothing."
        )
    if others:
        notes.append(f"Not read: {counted(others)}.")
    groups = of.get("group")
    if groups is not None:
        columns = columns.and_also({"group": lambda: groups})
    return Raw(
        name=name,
        ids=images.ids,
        labels=of["class"],
        splits=of.get("split"),
        shape=images.shape,
        dtype=images.dtype,
        reader=images.read,
        mask_reader=None if masks is None else masks.read,
        digest=images.digest if masks is None else lambda rows: f"{images.digest(rows)} {masks.digest(rows)}",
        files=files_of(images, masks),
        columns=columns,
        default_group="group" if groups is not None else images.group if isinstance(images, HeldFiles) else None,
        notes=(*notes, *mask_note, *images.notes),
    )


def _masks(
    images: ImageFiles | HeldFiles,
    paths: list[Path],
    beside: Mapping[Path, tuple[Path, ...]],
    name: str,
    fit: Fit | None,
) -> tuple[MaskFiles | None, tuple[str, ...]]:
    """The masks that lie beside the images, and a note on them; None where none does."""
    of = [beside.get(path, ()) for path in paths]
    if not any(of):
        return None, ()
    if isinstance(images, HeldFiles):
        first = next(path for path in paths if path in beside)
        raise UserError(
            f"{name} has {readable(first.name)!r} and {readable(beside[first][0].name)!r}, which is called as its "
            "mask, beside files that hold several images: list images and masks in a .csv with path,label,mask."
        )
    n = sum(map(bool, of))
    rest = _empty(len(of) - n)
    return MaskFiles(of, images.shape, fit), (
        f"Read as masks: what is called {readable(next(filter(None, of))[0].name)!r} and alike, beside {n:,} "
        f"image{'s' if n > 1 else ''}{rest}.",
    )


def _empty(n: int) -> str:
    if n == 0:
        return ""
    return ", and the mask of one other is empty" if n == 1 else f", and the masks of {n:,} others are empty"


FORMAT = Format(Path.is_dir, read_folder, read_folder, read_folder)
