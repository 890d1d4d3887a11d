"""Images larger than the models take: an editor edits their tiles, and the changes are put together without a seam.

An image is positive where one of its tiles is, negative where all are (models.tiled). So to negative all tiles are
edited that are not, and to positive the one that is nearest to it: the only ones that the gradient of what a classifier
says of the image, a maximum over tiles, reaches. The others are not computed. The editor knows nothing of this.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from cfdiff.data.values import to_model
from cfdiff.edit.cast import Cast, probabilities
from cfdiff.edit.editor import Editor
from cfdiff.edit.kept import Edits
from cfdiff.edit.picture import Picture, blended
from cfdiff.edit.settings import EditSettings
from cfdiff.edit.tile_settings import TileSettings
from cfdiff.engine.tiles import Grid, Tiles

ROUNDS = 3
"""Times at most that tiles are edited: where two meet an edit fades, and may have to be made again; and where the tile
that is nearest to positive cannot be made so, the next is tried."""

Pair = tuple[int, int]
"""An image of the batch, and a tile of it."""


class ImageEditor(Protocol):
    """What edits a batch of images: an `Editor`, or one by tiles; cast and s are the models and the settings."""

    cast: Cast
    s: EditSettings

    def edit(self, images: np.ndarray, ids: Sequence[str], target: int, masks: np.ndarray | None = None) -> Edits:
        """See `Editor.edit`."""
        ...

    def reconstruct(
        self, images: np.ndarray, ids: Sequence[str], labels: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Editor.reconstruct`."""
        ...


def editor_of(cast: Cast, s: EditSettings, tiles: Tiles | None, every: bool = False) -> ImageEditor:
    """The editor of whole images, or with `tiles` of larger ones: of `every` tile, or of as many as an image needs."""
    editor = Editor(cast, s)
    return editor if tiles is None else TiledEditor(editor, tiles, every)


def tiles_of(told: TileSettings) -> Tiles | None:
    """How settings say that larger images are cut; None where they are not."""
    return None if told.tile is None else Tiles(told.tile, told.tile_overlap)


class TiledEditor:
    """Edits images (B, H, W, C) by their tiles; those that are no larger than a tile as the editor does."""

    def __init__(self, editor: Editor, tiles: Tiles, every: bool = False) -> None:
        self.editor, self.tiles, self.every = editor, tiles, every
        self.acceptance = editor.acceptance
        self.cast, self.s = editor.cast, editor.s

    def reconstruct(
        self, images: np.ndarray, ids: Sequence[str], labels: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Editor.reconstruct`; an image is finite where all its tiles are."""
        grid = self.tiles.grid(*images.shape[1:3])
        if len(grid) == 1:
            return self.editor.reconstruct(images, ids, labels)
        done, finite = images.copy(), np.ones(len(images), bool)
        for i in range(len(images)):
            some = cut(images, ids, grid, [(i, k) for k in range(len(grid))])
            parts = []
            for part in some.parts(self.s.batch):
                own = None if labels is None else np.repeat(labels[i], len(part.ids))
                parts.append(self.editor.reconstruct(part.images, part.ids, own))
            done[i] = blended(images[i], grid, range(len(grid)), np.concatenate([back for back, _ in parts]))
            finite[i] = all(good.all() for _, good in parts)
        return done, finite

    def edit(self, images: np.ndarray, ids: Sequence[str], target: int, masks: np.ndarray | None = None) -> Edits:
        """See `Editor.edit`. A tile in which nothing may change, or that needs no edit, stays, byte for byte, uncalled.

        An image is accepted by what is said of its tiles together. Its calls are those of all its tiles; ratio, depth,
        retries and way of editing are those of the tile that was tried most often.
        """
        if (own := self.editor.towards(target)) is not self.editor:
            return TiledEditor(own, self.tiles, self.every).edit(images, ids, target, masks)
        grid = self.tiles.grid(*images.shape[1:3])
        if len(grid) == 1:
            return self.editor.edit(images, ids, target, masks)
        within = self.editor.where(images, masks)  # of an object, whose ground no tile may show
        pictures = [
            Picture(image, _touched(grid, None if within is None else within[i]), target, self.every)
            for i, image in enumerate(images)
        ]
        for name, picture in zip(ids, pictures, strict=True):
            picture.hit = self._hit(picture.source, name, target, grid)
        for k in range(ROUNDS if self.cast.accepting is not None else 1):
            # Without a closed loop an image is edited though it may be of the class already, as a sham is.
            leave = self.s.closed_loop or k > 0
            pairs = [(i, k) for i, picture in enumerate(pictures) for k in picture.needed(self.acceptance.least, leave)]
            if not pairs:
                break
            self._round(pictures, ids, target, grid, pairs, masks, within)
        return self._edits(images, pictures)

    def _round(
        self,
        pictures: list[Picture],
        ids: Sequence[str],
        target: int,
        grid: Grid,
        pairs: list[Pair],
        masks: np.ndarray | None,
        within: np.ndarray | None,
    ) -> None:
        """Edit these tiles, and give each image its own."""
        now = [picture.now.image for picture in pictures]
        done = []
        for part in cut(now, ids, grid, pairs, masks, within).parts(self.s.batch):
            done.append(self.editor.edit(part.images, part.ids, target, part.masks, part.within))
        for i in sorted({i for i, _ in pairs}):
            rows = [row for row, (of, _) in enumerate(pairs) if of == i]
            edits, tiles, picture = joined(done, rows), [pairs[row][1] for row in rows], pictures[i]
            picture.calls += int(edits.network_calls.sum())
            picture.guided += int(edits.guide_calls.sum())
            after = picture.now.after(grid, tiles, edits)
            hit = self._hit(after.image, ids[i], target, grid)
            if hit is None:
                picture.best = after
                continue
            names = [name_of(ids[i], grid, tile) for tile in tiles]
            convinced = self.acceptance.asked(edits.counterfactual, names, target)[1] >= self.acceptance.least
            picture.take(after, tiles, convinced, hit, self.acceptance.least)

    def _hit(self, image: np.ndarray, name: str, target: int, grid: Grid) -> np.ndarray | None:
        """(tiles,) how sure who accepts is of the class asked for; None where there is nobody."""
        if self.cast.accepting is None:
            return None
        tiles = [image[box] for box in grid.boxes]
        names = [name_of(name, grid, tile) for tile in range(len(grid))]
        size = max(64, self.s.batch)
        parts = [
            self.acceptance.asked(np.stack(tiles[k : k + size]), names[k : k + size], target)[1]
            for k in range(0, len(tiles), size)
        ]
        return np.concatenate(parts)

    def _edits(self, images: np.ndarray, pictures: list[Picture]) -> Edits:
        """The best of each image, as an editor of whole images gives it."""
        accepting, found = self.cast.accepting, Edits.none(images, False, self.editor.ways)
        found.mask = np.stack([picture.best.mask for picture in pictures])
        if self.editor.looks:
            found.saliency = np.stack([picture.best.saliency for picture in pictures])
        for i, picture in enumerate(pictures):
            best = picture.best
            found.counterfactual[i] = best.image if best.finite else images[i]
            found.quarantined[i] = not best.finite
            found.network_calls[i], found.guide_calls[i] = picture.calls, picture.guided
            found.ratio[i], found.depth[i], found.retries[i] = best.ratio, best.depth, max(0, best.retries)
            found.edit[i] = best.edit or self.editor.ways[0]
        if accepting is not None:
            found.accepting = probabilities(accepting, to_model(found.counterfactual).to(self.cast.device)).numpy()
        return found


@dataclass(frozen=True, eq=False)
class Cut:
    """Tiles (K, h, w, C), with names of their own, masks of theirs, and where they may change, (K, h, w) bool."""

    images: np.ndarray
    ids: list[str]
    masks: np.ndarray | None
    within: np.ndarray | None

    def parts(self, size: int) -> Iterator[Cut]:
        """`size` at a time."""
        for k in range(0, len(self.ids), size):
            here = slice(k, k + size)
            masks, within = (None if held is None else held[here] for held in (self.masks, self.within))
            yield Cut(self.images[here], self.ids[here], masks, within)


def cut(
    images: Sequence[np.ndarray] | np.ndarray,
    ids: Sequence[str],
    grid: Grid,
    pairs: Sequence[Pair],
    masks: np.ndarray | None = None,
    within: np.ndarray | None = None,
) -> Cut:
    """Some tiles of images (H, W, C)."""

    def tiles(whole: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
        return np.stack([whole[i][grid.boxes[k]] for i, k in pairs])

    return Cut(
        tiles(images),
        [name_of(ids[i], grid, k) for i, k in pairs],
        None if masks is None else tiles(masks),
        None if within is None else tiles(within),
    )


def _touched(grid: Grid, within: np.ndarray | None) -> np.ndarray:
    """(tiles,) bool, those that may change at all."""
    return np.array([within is None or bool(within[box].any()) for box in grid.boxes])


def name_of(image: str, grid: Grid, tile: int) -> str:
    """The id of a tile, which seeds its noise: that of its image, and where it begins."""
    rows, columns = grid.boxes[tile]
    return f"{image}/tile/{rows.start}/{columns.start}"


def joined(edits: Sequence[Edits], rows: Sequence[int]) -> Edits:
    """Some rows of several edits, as if they were of one batch."""
    columns: list[Any] = [  # a column that one has not, none of the same settings has
        None if any(part is None for part in column) else np.concatenate(column)[list(rows)]
        for column in zip(*(vars(part).values() for part in edits), strict=True)
    ]
    return Edits(*columns)
