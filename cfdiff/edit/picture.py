"""An image on its way through edits of its tiles: what it is now, which tiles are left, and the best that there was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cfdiff.data.values import mean_change
from cfdiff.edit.kept import Edits
from cfdiff.engine.tiles import Grid


@dataclass(frozen=True, eq=False)
class State:
    """What an image has become.

    Attributes:
        image: (H, W, C) as stored.
        mask: (H, W) bool, where it was allowed to change; saliency: (H, W) float32 in [0, 1].
        ratio, depth, retries, edit: of its most retried tile.
        finite: whether all its tiles were.
    """

    image: np.ndarray
    mask: np.ndarray
    saliency: np.ndarray
    ratio: float = 0.0
    depth: float = 0.0
    retries: int = -1
    edit: str = ""
    finite: bool = True

    @classmethod
    def of(cls, image: np.ndarray) -> State:
        """The image as read."""
        return cls(image, np.zeros(image.shape[:2], bool), np.zeros(image.shape[:2], np.float32))

    def after(self, grid: Grid, tiles: Sequence[int], edits: Edits) -> State:
        """With the edits of some of its tiles, one a row."""
        mask, saliency = self.mask.copy(), np.zeros(self.mask.shape)
        for row, tile in enumerate(tiles):
            box = grid.boxes[tile]
            mask[box] |= True if edits.mask is None else edits.mask[row]
            if edits.saliency is not None:
                saliency[box] += grid.window(tile) * edits.saliency[row]
        after = replace(
            self,
            image=blended(self.image, grid, tiles, edits.counterfactual),
            mask=mask,
            saliency=np.maximum(self.saliency, saliency.astype(np.float32)),
            finite=self.finite and not edits.quarantined.any(),
        )
        most = int(edits.retries.argmax())
        if edits.retries[most] < self.retries:
            return after
        return replace(
            after,
            ratio=float(edits.ratio[most]),
            depth=float(edits.depth[most]),
            retries=int(edits.retries[most]),
            edit=str(edits.edit[most]),
        )


def blended(image: np.ndarray, grid: Grid, tiles: Sequence[int], edited: np.ndarray) -> np.ndarray:
    """An image (H, W, C) with some of its tiles edited, (K, h, w, C), all in its type.

    The change of each is weighted by its window, so that where tiles overlap one goes over into the other, or into what
    was not edited. Pixels of which no tile says anything else stay, byte for byte.
    """
    change = np.zeros(image.shape)
    for tile, one in zip(tiles, edited, strict=True):
        box = grid.boxes[tile]
        change[box] += grid.window(tile)[..., None] * (one.astype(np.float64) - image[box])
    found = image + change
    return (np.rint(found) if image.dtype.kind == "u" else found).astype(image.dtype)


class Picture:
    """An image (H, W, C) that is edited tile by tile to class `target`.

    Attributes:
        best: the state that is kept.
        calls, guided: network calls and guided steps of all its tiles.
    """

    def __init__(self, image: np.ndarray, touched: np.ndarray, target: int, every: bool) -> None:
        self.source, self.touched, self.target, self.every = image, touched, target, every
        self.now = self.best = State.of(image)
        self.open = touched.copy()
        self.hit: np.ndarray | None = None
        self.score = (-1.0, 0.0)
        self.calls = self.guided = 0

    def needed(self, accept: float, leave: bool) -> list[int]:
        """The tiles to edit now; with `leave` none that are as they should be. Where nobody says how they are, all."""
        hit = self.hit
        if hit is None:
            return [int(k) for k in np.flatnonzero(self.open)]
        if self.target == 0 or self.every:
            return [int(k) for k in np.flatnonzero(self.open & (hit < accept if leave else True))]
        if not self.open.any() or (leave and hit.max() >= accept):
            return []
        return [int(np.where(self.open, hit, -np.inf).argmax())]

    def word(self, hit: np.ndarray) -> float:
        """How sure the image is of the class, by how sure its tiles (K,) are."""
        if self.target == 0:
            return float(hit.min())
        return float(hit[self.touched].min() if self.every else hit.max())

    def take(self, after: State, tiles: Sequence[int], convinced: np.ndarray, hit: np.ndarray, accept: float) -> None:
        """A try: its tiles and which of them convince by themselves (K,), and how sure all are now.

        As in `Editor`: what is accepted before what flips before the rest; of the first two the smaller change, of the
        last the closer. A tile that does not convince by itself is not tried again, and where one is enough, undone.
        """
        word = self.word(hit) if after.finite else -np.inf
        change = float(mean_change(self.source[None], after.image[None])[0])
        rank = 2.0 if word >= accept else float(word > 0.5)
        score = (rank, -change if rank else word)
        if score > self.score:
            self.score, self.best = score, after
        self.open[np.array(tiles)[~convinced]] = False
        if not after.finite:
            self.open[:] = False
        elif convinced.all() or self.target == 0 or self.every:
            self.now, self.hit = after, hit
