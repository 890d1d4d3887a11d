"""Slides of pathology by OpenSlide (or tiffslide): tiles of a size and resolution where there is tissue.

Nothing is read of the label and the overview that many slides hold beside, on which names of patients stand.
"""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from cfdiff.data.readers.held import FileKind, Held, said_of, stamp
from cfdiff.data.readers.reading import Reading
from cfdiff.data.readers.shown import named
from cfdiff.data.readers.slide_tiff import refuse_misread
from cfdiff.data.readers.slide_tissue import WINDOWS, tissue_of
from cfdiff.data.readers.tiff import SUFFIXES as TIFF
from cfdiff.errors import UserError

SUFFIXES = (".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".svslide")
TILE, UM, TISSUE = 256, 0.5, 0.5
"""What is read where `--reading` says nothing: 256 pixels of 0.5 um (20x), at least half of them tissue."""
STRIP = 16
"""Lines of an overview that are read at a time."""
COARSEST = 50
"""Micrometres a pixel beyond which a resolution is what programs write by default: 72 or 96 dots an inch."""
NEAR = 0.02
"""Relative difference of two resolutions up to which one is taken for the other, so that pixels stay as scanned."""


@dataclass(frozen=True)
class Plan:
    """How tiles are cut.

    Attributes:
        tile: pixels of a side; `side`: the same in pixels of the finest level.
        level: the level that is read, and `size`: how many pixels of it are a side.
        left, top, columns, rows: the grid, in pixels of the finest level and in tiles.
    """

    tile: int
    side: float
    level: int
    size: int
    left: int
    top: int
    columns: int
    rows: int

    def at(self, column: int, row: int) -> tuple[int, int]:
        """x and y of a tile's upper left corner in pixels of the finest level."""
        return self.left + round(column * self.side), self.top + round(row * self.side)


def recognises(path: Path, reading: Reading) -> bool:
    """By its name; a .tif is a slide where `--reading` speaks of tiles, as it may as well be a picture."""
    suffix = path.suffix.lower()
    return suffix in SUFFIXES or (suffix in TIFF and not {"tile", "um", "tissue"}.isdisjoint(reading.said))


def hold(path: Path, shown: str, reading: Reading) -> Held | None:
    """The tiles of a slide with tissue, row by row; None where it has none.

    Columns: `slide` (its name without the ending), `x` and `y` of the upper left corner and the length `side` of a
    tile, all in pixels of the finest level.
    """
    with _sentences(path, shown):
        refuse_misread(path, shown)
        slide = _opened(path, shown)
        plan = _plan(slide, shown, reading)
        if plan.columns * plan.rows == 0:
            raise UserError(
                f"{shown} is smaller than one tile of {plan.tile} pixels at that resolution: say a smaller tile or um."
            )
        share = _tissue(slide, plan)
        colours = getattr(slide, "color_profile", None)
        profile = None if colours is None else named(colours.tobytes())
    least = TISSUE if reading.tissue is None else reading.tissue
    places = [(column, row) for row, column in zip(*np.nonzero(share >= least), strict=True)]
    if not places:
        return None
    corners = [plan.at(int(column), int(row)) for column, row in places]
    n = len(corners)
    return Held(
        shape=(plan.tile, plan.tile, 3),
        dtype=np.dtype(np.uint8),
        parts=[f"#x{x}y{y}" for x, y in corners],
        read=partial(_read, path, shown, plan, corners),
        columns={
            "slide": [path.stem] * n,
            "x": [str(x) for x, _ in corners],
            "y": [str(y) for _, y in corners],
            "side": [f"{plan.side:.6g}"] * n,
        },
        group="slide",
        notes=(
            f"{{files}} read in tiles of {plan.tile} pixels "
            f"({'as scanned' if reading.um == 0 else f'{UM if reading.um is None else reading.um:g} um a pixel'}), at "
            f"least {least:.0%} tissue.",
        ),
        profile=profile,
    )


def _read(path: Path, shown: str, plan: Plan, corners: list[tuple[int, int]], places: Sequence[int]) -> np.ndarray:
    with _sentences(path, shown):
        slide = _opened(path, shown)
        return np.stack([np.asarray(_tile(slide, plan, corners[place])) for place in places])


def _tile(slide: Any, plan: Plan, corner: tuple[int, int]) -> Image.Image:
    image = on_white(slide.read_region(corner, plan.level, (plan.size, plan.size)))
    if plan.size != plan.tile:
        image = image.resize((plan.tile, plan.tile), Image.Resampling.LANCZOS)
    return image


def on_white(image: Image.Image) -> Image.Image:
    """RGB of an image with transparency: places that were not scanned are white, as glass is."""
    if image.mode != "RGBA":
        return image.convert("RGB")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _plan(slide: Any, shown: str, reading: Reading) -> Plan:
    """Raises UserError where the slide does not say its resolution, or is not that fine."""
    tile, um = reading.tile or TILE, UM if reading.um is None else reading.um
    scale = 1.0
    if um:
        mpp = _um_a_pixel(slide, shown)
        scale = um / mpp
        if abs(scale - 1) <= NEAR:
            scale = 1.0
        if scale < 1:
            raise UserError(
                f"{shown} was scanned at {mpp:.4g} um a pixel, and um={um:g} would invent what is not there: say a "
                "larger um, or native."
            )
    fits = [k for k, down in enumerate(slide.level_downsamples) if down <= scale * (1 + NEAR)]
    level = max(fits, key=lambda k: slide.level_downsamples[k], default=0)
    rest = scale / slide.level_downsamples[level]
    size = tile if abs(rest - 1) <= NEAR else max(1, round(tile * rest))
    left, top, width, height = _bounds(slide)
    side = tile * scale
    return Plan(tile, side, level, size, left, top, math.floor(width / side), math.floor(height / side))


def _um_a_pixel(slide: Any, shown: str) -> float:
    said = []
    for axis in "xy":
        value = slide.properties.get(f"openslide.mpp-{axis}") or slide.properties.get(f"tiffslide.mpp-{axis}")
        try:
            said.append(float(value))
        except (TypeError, ValueError):
            said.append(math.nan)
    mpp = sum(said) / 2
    if not (min(said) > 0 and mpp < math.inf):  # so of NaN, too
        raise UserError(f"{shown} does not say how many um a pixel are: read it as scanned, with --reading um=native.")
    if mpp > COARSEST:
        raise UserError(
            f"{shown} says that its pixels are {mpp:.4g} um, as those of a screen are and of no scanner: read it as "
            "scanned, with --reading um=native."
        )
    if max(said) > min(said) * (1 + NEAR):
        raise UserError(
            f"{shown} has pixels of {said[0]:.4g} x {said[1]:.4g} um, which are not square: save it with square ones, "
            "or read it as scanned, with --reading um=native."
        )
    return mpp


def _bounds(slide: Any) -> tuple[int, int, int, int]:
    """Left, top, width and height of what was scanned, in pixels of the finest level."""
    width, height = slide.dimensions
    said = [slide.properties.get(f"openslide.bounds-{key}") for key in ("x", "y", "width", "height")]
    return (0, 0, width, height) if None in said else tuple(map(int, said))  # type: ignore[return-value]


def _tissue(slide: Any, plan: Plan) -> np.ndarray:
    """(rows, columns) share of each tile that is tissue, from a picture of WINDOWS x WINDOWS points a tile.

    A row of tiles is read at a time, from the coarsest level that has as many pixels.
    """
    point = plan.side / WINDOWS
    level = slide.get_best_level_for_downsample(max(1.0, point))
    span, size = (plan.columns * plan.side, plan.side), (plan.columns * WINDOWS, WINDOWS)
    strips = [_shrunk(slide, plan.at(0, row), level, span, size) for row in range(plan.rows)]
    mask = tissue_of(np.concatenate(strips))
    return mask.reshape(plan.rows, WINDOWS, plan.columns, WINDOWS).mean(axis=(1, 3))


def _shrunk(
    slide: Any, corner: tuple[int, int], level: int, span: tuple[float, float], size: tuple[int, int]
) -> np.ndarray:
    """RGB of a rectangle, `span` wide and high in pixels of the finest level, read from `level`, shrunk to `size`."""
    down = slide.level_downsamples[level]
    there = max(1, round(span[0] / down)), max(1, round(span[1] / down))
    return np.asarray(on_white(slide.read_region(corner, level, there)).resize(size, Image.Resampling.BOX))


class Overview(NamedTuple):
    """All of a slide that was scanned, small.

    Attributes:
        image: (h, w, 3) uint8.
        left, top: its corner, in pixels of the finest level; `down`: how many of these are one of its pixels.
    """

    image: np.ndarray
    left: int
    top: int
    down: float


def overview(path: Path, shown: str, longest: int) -> Overview:
    """A slide with no side longer than `longest`, from the pixels of its levels; strip by strip, as a slide may have no
    coarse one.

    Raises:
        UserError: it cannot be read.
    """
    with _sentences(path, shown):
        slide = _opened(path, shown)
        left, top, width, height = _bounds(slide)
        down = max(1.0, max(width, height) / longest)
        level = slide.get_best_level_for_downsample(down)
        across, lines = max(1, round(width / down)), max(1, round(height / down))
        strips = []
        for first in range(0, lines, STRIP):
            count = min(STRIP, lines - first)
            corner, span = (left, top + round(first * down)), (across * down, count * down)
            strips.append(_shrunk(slide, corner, level, span, (across, count)))
    return Overview(np.concatenate(strips), left, top, down)


def _opened(path: Path, shown: str) -> Any:
    return _kept(path, stamp(path), os.getpid(), shown)


@lru_cache(maxsize=8)
def _kept(path: Path, when: int, process: int, shown: str) -> Any:
    """An open slide, of this process alone: its handle cannot be shared with a child."""
    for module, name in (("openslide", "OpenSlide"), ("tiffslide", "TiffSlide")):
        try:
            return getattr(importlib.import_module(module), name)(str(path))
        except ImportError:
            continue
    raise UserError(f"{shown} is a slide, which cfdiff reads after pip install 'cfdiff[wsi]'.")


_sentences = partial(
    said_of,
    kind="a slide",
    hint="it may be truncated, or of a scanner that OpenSlide does not know; copy it again, or save it as a tiled TIFF",
)
"""Whatever OpenSlide says of a file is a UserError."""


KIND = FileKind(recognises, hold, ("tile", "um", "tissue"))
