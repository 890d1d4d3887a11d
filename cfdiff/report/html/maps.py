"""Bags of tiles drawn back onto their slide: a picture of the tiles where they lie, with the edited ones marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cfdiff.data.fit import Fit
from cfdiff.figures.panel import shown
from cfdiff.report.html.cards import value_window
from cfdiff.report.html.pictures import grey_or_rgb
from cfdiff.store.bags import Bags

LONGEST, LARGEST = 720, 48
"""Pixels of the longer side of a map, and of a tile in it, at most."""
FRAMED = 8
"""Pixels of a tile from which on an edited one has a frame; a smaller one is all colour."""
UP, DOWN = np.array([178, 24, 43]) / 255, np.array([33, 102, 172]) / 255
"""To positive and to negative, as the frames of the gallery."""
EMPTY = 0.92


@dataclass(frozen=True)
class SlideMap:
    """The picture of a bag at a mix: base64 PNG of width x height pixels, and what it shows in words."""

    png: str
    width: int
    height: int
    title: str
    words: str


def slide_maps(bags: Bags, chosen: Sequence[int]) -> list[SlideMap]:
    """A map for each of the bags and mixes `chosen` whose instances have a place in one slide."""
    return [one for j in chosen if (one := _map(bags, j)) is not None]


def _map(bags: Bags, j: int) -> SlideMap | None:
    places = bags.places(j)
    if places is None:
        return None
    columns, rows = (int(n) for n in places.grid.max(axis=0) + 1)
    cell = int(np.clip(LONGEST // max(columns, rows), 1, LARGEST))
    step = -(-max(columns, rows) // LONGEST)  # tiles a pixel, in a bag that is wider than the map
    view = bags[j]
    low, high = value_window(view.image)
    seen = [shown(image, low, high) for image in view.image]
    images = np.stack([Fit(cell).image(one if one.ndim == 3 else one[..., None]) for one in seen])
    picture = np.full((-(-rows // step) * cell, -(-columns // step) * cell, images.shape[3]), EMPTY)
    if images.shape[3] == 1:
        picture = np.repeat(picture, 3, axis=2)
    for k, (column, row) in enumerate((places.grid // step).tolist()):
        tile = np.broadcast_to(images[k], (cell, cell, 3)).copy()
        if view.edited[k]:
            width = max(1, cell // 12) if cell >= FRAMED else cell
            inside = np.zeros((cell, cell), bool)
            inside[width : cell - width, width : cell - width] = True
            tile[~inside] = UP if view.label[k] == 1 else DOWN
        picture[row * cell : (row + 1) * cell, column * cell : (column + 1) * cell] = tile
    where = f" on {places.slide}" if places.slide else ""
    return SlideMap(
        png=grey_or_rgb(np.clip(picture, 0, 1)),
        width=picture.shape[1],
        height=picture.shape[0],
        title=f"{view.name}{where}, mix {view.requested:.3g}",
        words=f"{int(view.edited.sum())} of {len(view.edited)} edited",
    )
