"""The parts of a translation, as any process computes them: read, edit, judge, write."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from cfdiff.data.source import Source
from cfdiff.edit.cast import Cast
from cfdiff.edit.control import controlled
from cfdiff.edit.memory import in_halves
from cfdiff.edit.roles import load_cast
from cfdiff.edit.sight import Sight
from cfdiff.edit.tiling import ImageEditor, editor_of, tiles_of
from cfdiff.edit.verdicts import edit_arrays
from cfdiff.edit.words import told_words
from cfdiff.engine.tiles import Tiles
from cfdiff.store.part_files import PartFiles, Range
from cfdiff.translate.select import select_images
from cfdiff.translate.settings import TranslateSettings


class PartWriter:
    """Computes parts of a translation, each into its file."""

    def __init__(
        self, editor: ImageEditor, s: TranslateSettings, source: Source, target: int, files: PartFiles
    ) -> None:
        self.editor, self.s, self.source, self.target, self.files = editor, s, source, target, files

    def __call__(self, piece: Range) -> None:
        """Write a part, unless whoever was to do it before died after it was there."""
        start, stop = piece
        self.files.fill(start, lambda: in_halves(self._edited, range(start, stop)))

    def begin(self, piece: Range) -> Callable[[], None]:
        """Compute a part; what is given back packs and writes it (workers.here.InTwo)."""
        start, stop = piece
        return self.files.begin(start, lambda: in_halves(self._edited, range(start, stop)))

    def _edited(self, rows: Sequence[int]) -> dict[str, np.ndarray]:
        return translate_batch(self.editor, self.s, self.source, np.array(rows), self.target)


def part_writer(s: TranslateSettings, files: PartFiles, seen: Sight) -> PartWriter:
    """A `PartWriter` in a process of its own, which opens data and models.

    Raises:
        UserError: they cannot be opened there, or are others than the owner of the run sees.
    """
    source, target, _ = select_images(s)
    tiles = tiles_of(s)
    cast = cast_of(s, source, target, tiles)
    seen.check(source, cast)
    return PartWriter(editor_of(cast, s, tiles, s.every_tile), s, source, target, files)


def cast_of(s: TranslateSettings, source: Source, target: int, tiles: Tiles | None) -> Cast:
    """The models of a translation to class `target`, told its words and with its control branch.

    Raises:
        UserError: as `load_cast`, `told_words` and `controlled`.
    """
    return controlled(told_words(load_cast(s, s.data, source, tiles), s, target), s, s.data)


def translate_batch(
    editor: ImageEditor, s: TranslateSettings, source: Source, rows: np.ndarray, target: int
) -> dict[str, np.ndarray]:
    """The arrays of one part (store.schema.SCHEMA)."""
    cast = editor.cast
    images = source.read(rows)
    ids = [str(i) for i in source.ids[rows]]
    masks = source.read_masks(rows) if s.mask == "data" or s.control == "mask" else None
    edits = editor.edit(images, ids, target, masks)
    arrays = edit_arrays(cast, images, ids, source.labels[rows], target, edits)
    if source.groups is not None:
        arrays["group"] = source.groups[rows].astype(str)
    if source.pairs is not None:
        arrays["pair"] = source.pairs[rows]
    if edits.mask is not None:
        arrays["mask"] = edits.mask
    if s.factual:
        arrays["factual"], _ = editor.reconstruct(images, ids, source.labels[rows])
    return arrays
