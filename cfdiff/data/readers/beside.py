"""Masks that lie beside their images in a folder: `a.png` and `a_mask.png` (a second one of it is
`a_mask_1.png`), or `mask_a.png`."""

from __future__ import annotations

import re
from pathlib import Path

from cfdiff.data.names import fold
from cfdiff.data.readers.tree import Tree, readable
from cfdiff.errors import UserError

MASK_NAME = re.compile(r"(.+?)[ _.-]+(?:masks?|seg|segmentation|gt|ground_?truth|annotation)(?:[ _.-]*\d+)?")
MASK_FIRST = re.compile(r"(?:masks?|seg|segmentation|gt|ground_?truth)[ _.-]+(.+)")
"""How the name of a mask follows from that of its image, folded and without the suffix."""


def masks_beside(tree: Tree, shown: str) -> dict[Path, tuple[Path, ...]]:
    """Image -> its masks, in order; they are taken out of `tree.files`. Empty where no image has one beside it.

    What is called as a mask is one only where some image lies beside its mask: a whole folder may be called so.

    Raises:
        UserError: there are such pairs, and a mask without an image.
    """
    stems = {path: (path.parent, _stem(path)) for _, path in tree.files}
    images: dict[tuple[Path, str], list[Path]] = {}
    for path, place in stems.items():
        images.setdefault(place, []).append(path)
    found: dict[Path, tuple[Path, ...]] = {}
    masks, alone = set[Path](), list[Path]()
    for _, path in tree.files:
        folder, stem = stems[path]
        called = MASK_NAME.fullmatch(stem) or MASK_FIRST.fullmatch(stem)
        if called is None:
            continue
        if (folder, called[1]) not in images:
            alone.append(path)
            continue
        masks.add(path)
        for image in images[folder, called[1]]:
            found[image] = (*found.get(image, ()), path)
    if masks and alone:
        raise UserError(
            f"{shown} has masks beside their images, and {readable(alone[0].name)!r}, which is called as a mask and "
            "has no image: name masks as NAME_mask.png beside NAME.png, or list both in a .csv with path,label,mask."
        )
    tree.files[:] = [(folders, path) for folders, path in tree.files if path not in masks]
    return found


def _stem(path: Path) -> str:
    name = fold(path.name)
    return name.removesuffix(".nii.gz") if name.endswith(".nii.gz") else fold(path.stem)
