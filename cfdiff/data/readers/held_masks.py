"""Masks of the images of files that hold several: a volume of the same slices, or a file an image."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from cfdiff.data.raw import file_sha256
from cfdiff.data.readers.held import HeldFiles, kind_of, stamp
from cfdiff.data.readers.masks import decode_mask
from cfdiff.data.readers.reading import Reading
from cfdiff.errors import UserError
from cfdiff.registry import FILES


class HeldMasks:
    """One mask file for each file of `images`; None stands for empty masks."""

    def __init__(self, paths: Sequence[Path | None], images: HeldFiles) -> None:
        self.paths, self.images = paths, images

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Masks (B, H, W) bool.

        Raises:
            UserError: one cannot be read, is of another size, lies elsewhere, or has not the slices of its image.
        """
        return np.stack([self._one(int(row)) for row in rows])

    def digest(self, rows: np.ndarray) -> str:
        """sha256 over the content of the files of some rows."""
        h = hashlib.sha256()
        for file in np.unique(self.images.of[rows]).tolist():
            path = self.paths[file]
            try:
                h.update(("none" if path is None else file_sha256(path)).encode() + b"\n")
            except OSError as error:
                assert path is not None
                raise UserError(f"The mask {path.name} cannot be read ({error.strerror}): restore it.") from error
        return h.hexdigest()

    def _one(self, row: int) -> np.ndarray:
        images = self.images
        file, place = int(images.of[row]), int(images.places[row])
        path, held = self.paths[file], images.held[file]
        assert held is not None
        if path is None:
            return np.zeros(images.shape[:2], bool)
        several = _volume(path, images.reading, stamp(path))
        if several is not None and len(several) != len(held.parts):
            raise UserError(
                f"The mask {path.name} has {len(several)} slices but its image {len(held.parts)}: give the mask of "
                "that image."
            )
        if several is None and int((images.of == file).sum()) > 1:
            raise UserError(
                f"The mask {path.name} is one picture but its file holds {len(held.parts)}: give a volume of as many "
                "slices, or a row for each image."
            )
        mask = decode_mask(path) if several is None else several[place]
        if mask.shape != held.shape[:2]:
            raise UserError(
                f"The mask {path.name} is {mask.shape[0]}x{mask.shape[1]} but its image is "
                f"{held.shape[0]}x{held.shape[1]}: they must have the same size."
            )
        if several is not None and not _same_place(images.paths[file], path, images.reading, stamp(path)):
            raise UserError(
                f"The mask {path.name} lies elsewhere in the body than its image {images.paths[file].name}, by their "
                "affines: give the mask of that image, or save it with the affine of that."
            )
        return images.fit.mask(mask)


@lru_cache(maxsize=64)
def _same_place(image: Path, mask: Path, reading: Reading, when: int) -> bool:
    """False where both say where they lie, and it is not one place."""
    kind = kind_of(image, reading)
    if kind is None or kind != kind_of(mask, reading):
        return True
    same = FILES[kind].same_place
    return same is None or same(image, mask)


@lru_cache(maxsize=2)
def _volume(path: Path, reading: Reading, when: int) -> np.ndarray | None:
    """The masks (N, H, W) bool of a file that holds several; None for an ordinary picture."""
    kind = kind_of(path, reading)
    if kind is None:
        return None
    masks = FILES[kind].masks
    found = None if masks is None else masks(path, f"The mask {path.name}", reading)
    if found is None:
        raise UserError(f"The mask {path.name} is a {kind} file, which can be no mask: save masks as PNG or NIfTI.")
    return found
