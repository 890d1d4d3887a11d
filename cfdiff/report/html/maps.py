"""Bags of tiles drawn back onto their slide: the tiles where they lie, with the edited ones marked; on an overview of
the slide where that is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cfdiff.data.fit import Fit
from cfdiff.data.readers.slide import SUFFIXES, TIFF, overview
from cfdiff.figures.panel import shown
from cfdiff.remote import is_url
from cfdiff.report.html.cards import value_window
from cfdiff.report.html.pictures import grey_or_rgb
from cfdiff.store.bags import Bags, BagView, SlidePlaces

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


def slide_maps(bags: Bags, chosen: Sequence[int], data: str | None = None) -> list[SlideMap]:
    """A map for each of the bags and mixes `chosen` whose instances have a place in one slide; on an overview of those
    slides that `data` is, or that lie in it.

    Raises:
        UserError: a slide is there, and cannot be read.
    """
    slides = _slides(data)
    maps = []
    for j in chosen:
        places = bags.places(j)
        if places is not None:
            view, path = bags[j], slides.get(places.slide)
            picture = _grid(view, places) if path is None else _on_slide(view, places, path)
            maps.append(_framed(view, places, picture))
    return maps


def _slides(data: str | None) -> dict[str, Path]:
    """Name -> file of the slides of --data."""
    if not data or is_url(data):
        return {}
    path = Path(data)
    there = path.rglob("*") if path.is_dir() else [path]
    return {file.stem: file for file in there if file.suffix.lower() in (*SUFFIXES, *TIFF) and file.is_file()}


def _on_slide(view: BagView, places: SlidePlaces, path: Path) -> np.ndarray:
    """An overview (h, w, 3) with the tiles on it."""
    whole = overview(path, path.name, LONGEST)
    picture = whole.image / 255.0
    low, high = value_window(view.image)
    for k, (x, y) in enumerate(((places.corners - [whole.left, whole.top]) / whole.down).tolist()):
        size = max(1, round(float(places.side[k]) / whole.down))
        column, row = round(x), round(y)
        room = picture[max(row, 0) : row + size, max(column, 0) : column + size]
        room[:] = _tile(view, k, size, low, high)[: room.shape[0], : room.shape[1]]
    return picture


def _tile(view: BagView, k: int, size: int, low: float, high: float) -> np.ndarray:
    """An instance as (size, size, 3) in [0, 1], framed where it was edited; a small one is all frame."""
    seen = shown(view.image[k], low, high)
    image = Fit(size).image(seen if seen.ndim == 3 else seen[..., None])
    tile = np.broadcast_to(image, (size, size, 3)).copy()
    if view.edited[k]:
        width = max(1, size // 12) if size >= FRAMED else size
        inside = np.zeros((size, size), bool)
        inside[width : size - width, width : size - width] = True
        tile[~inside] = UP if view.label[k] == 1 else DOWN
    return tile


def _grid(view: BagView, places: SlidePlaces) -> np.ndarray:
    """The tiles (h, w, 3) on an empty ground."""
    columns, rows = (int(n) for n in places.grid.max(axis=0) + 1)
    cell = int(np.clip(LONGEST // max(columns, rows), 1, LARGEST))
    step = -(-max(columns, rows) // LONGEST)  # tiles a pixel, in a bag that is wider than the map
    low, high = value_window(view.image)
    picture = np.full((-(-rows // step) * cell, -(-columns // step) * cell, 3), EMPTY)
    for k, (column, row) in enumerate((places.grid // step).tolist()):
        tile = _tile(view, k, cell, low, high)
        picture[row * cell : (row + 1) * cell, column * cell : (column + 1) * cell] = tile
    return picture


def _framed(view: BagView, places: SlidePlaces, picture: np.ndarray) -> SlideMap:
    where = f" on {places.slide}" if places.slide else ""
    return SlideMap(
        png=grey_or_rgb(np.clip(picture, 0, 1)),
        width=picture.shape[1],
        height=picture.shape[0],
        title=f"{view.name}{where}, mix {view.requested:.3g}",
        words=f"{int(view.edited.sum())} of {len(view.edited)} edited",
    )
