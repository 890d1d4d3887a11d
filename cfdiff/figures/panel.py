"""Figures for a paper: source, counterfactual, difference and probabilities, several samples a row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import shorten
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from cfdiff.data.lettering import lettered, make_legible
from cfdiff.errors import UserError
from cfdiff.figures.colour import chroma_range, chroma_view, colour_change, is_colour
from cfdiff.files import atomic

FORMATS = (".png", ".pdf", ".svg")
_COLOURS = "RdBu_r"
_TOLD = "difference = counterfactual \N{MINUS SIGN} source, in fractions of full range"
_GREY = "0.45"
# Inches. Two text columns of a journal are 7 wide, one is 3.3.
_PAGE, _COLUMN, _EDGE, _GAP, _BETWEEN = 7.0, 3.4, 0.06, 0.03, 0.16
_LARGEST, _HEAD, _LINE, _TITLE, _BAR = 1.2, 0.16, 0.115, 0.22, 0.54
_LETTERS = 17  # an inch, of the words below the title


@lettered
def panel(
    source: np.ndarray,
    counterfactual: np.ndarray,
    difference: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    *,
    classes: tuple[str, str],
    out: str | Path,
    ids: Sequence[str] | None = None,
    flipped: Sequence[bool] | np.ndarray | None = None,
    title: str | None = None,
    subtitle: str | None = None,
    judged_by: str = "judge",
    per_row: int = 3,
) -> Path:
    """Draw N samples, `per_row` a row, to `out` (.png, .pdf or .svg); 24 fit one page.

    `source` and `counterfactual` are (N, H, W, C) with C = 1 or 3, uint8, uint16 or float32 in [0, 1];
    `difference` is the same shape, signed, in [0, 1] units. Of colour images three maps are shown (figures/colour.py):
    the mean |difference| over the channels, the signed change of lightness, and where the colour went. `before`
    and `after` are (N,), the probability that the classifier named `judged_by` gives `classes[1]`. Samples
    that are not `flipped` (by default: `before` and `after` lie on one side of 1/2) are marked.

    All differences share one symmetric range, so that they compare by eye: zero is neutral, and the range
    holds 99.9 % of the pixels. 8-bit values are shown from 0 to 255, others in the range of the sources.
    `subtitle`, the words of an edit by words, stands below the title, as far as the page is wide.
    Raises UserError for another ending of `out` or a folder that cannot be written.
    """
    out = Path(out)
    if out.suffix.lower() not in FORMATS:
        raise UserError(f"Cannot draw {out.name}: end its name in {', '.join(FORMATS)}.")
    n, height, width = source.shape[:3]
    low, high = window(source)
    maps, limit, told = (_colour_maps if is_colour(source.shape) else _grey_maps)(source, counterfactual, difference)
    tiles = 2 + len(maps)
    per_row = max(1, round(per_row * 3 / tiles))
    if flipped is None:
        flipped = (np.asarray(before) >= 0.5) != (np.asarray(after) >= 0.5)

    columns = min(per_row, n)
    rows = math.ceil(n / columns)
    page = _PAGE if columns > 1 else _COLUMN
    free = page - 2 * _EDGE - (columns - 1) * _BETWEEN - columns * (tiles - 1) * _GAP
    side = min(free / (tiles * columns), _LARGEST)
    tall = side * height / width
    block = tiles * side + (tiles - 1) * _GAP
    left = (page - columns * block - (columns - 1) * _BETWEEN) / 2
    row = tall + _LINE * (2 if ids is not None else 1) + 0.06
    top = _HEAD + (_TITLE if title else 0) + (_LINE if title and subtitle else 0)
    total = top + rows * row + _BAR

    figure = Figure(figsize=(page, total), dpi=300)
    FigureCanvasAgg(figure)

    def axes(x: float, y: float, w: float, h: float) -> Axes:
        """Axes at (x, y) inches from the upper left corner."""
        return figure.add_axes((x / page, 1 - (y + h) / total, w / page, h / total))

    def text(x: float, y: float, words: str, size: float, **style: Any) -> None:
        """Words centred at (x, y) inches from the upper left corner."""
        figure.text(x / page, 1 - y / total, words, ha="center", va="center", fontsize=size, **style)

    if title:
        text(page / 2, _TITLE / 2 + 0.02, title, 8, weight="bold")
    if title and subtitle:
        text(page / 2, _TITLE + _LINE / 2 - 0.02, shorten(subtitle, int(_LETTERS * page), placeholder=" …"), 6.5)
    for index in range(n):
        x0 = left + (index % columns) * (block + _BETWEEN)
        y0 = top + (index // columns) * row
        photographs = [("source", source), ("counterfactual", counterfactual)]
        images = [_Map(name, shown(stage[index], low, high)) for name, stage in photographs]
        images += [replace(one, image=one.image[index]) for one in maps]
        for place, one in enumerate(images):
            x = x0 + place * (side + _GAP)
            _draw(axes(x, y0, side, tall), one.image, one.colours, one.limits)
            if index < columns:
                text(x + side / 2, y0 - _HEAD / 2 + 0.01, one.head, 6.5)
        verdict = "" if flipped[index] else "  not flipped"
        line = y0 + tall + _LINE / 2 + 0.015
        words = f"{before[index]:.2f} \N{RIGHTWARDS ARROW} {after[index]:.2f}{verdict}"
        text(x0 + block / 2, line, words, 6.5, color="black" if flipped[index] else _GREY)
        if ids is not None:
            text(x0 + block / 2, line + _LINE, _short(str(ids[index]), block), 4.8, color=_GREY)

    start = top + rows * row + 0.06
    bar = axes(page / 2 - 0.9, start, 1.8, 0.07)
    scale = figure.colorbar(
        ScalarMappable(Normalize(-limit, limit), _COLOURS),
        cax=bar,
        orientation="horizontal",
        ticks=[-limit, 0, limit],
        format=lambda value, _: f"{value:+g}".replace("-", "\N{MINUS SIGN}") if value else "0",
    )
    scale.outline.set_linewidth(0.4)
    bar.tick_params(labelsize=6, length=2, width=0.4, pad=1.5)
    numbers = f"numbers: probability of {classes[1]} before \N{RIGHTWARDS ARROW} after ({judged_by})"
    text(page / 2, start + 0.27, told, 6)
    text(page / 2, start + 0.275 + 0.105, numbers, 6)
    return save(figure, out)


@dataclass(frozen=True, eq=False)
class _Map:
    """A picture of a panel: its head, its values (or those of all samples), and the colours from limit to limit."""

    head: str
    image: np.ndarray
    colours: str = "gray"
    limits: tuple[float, float] = (0.0, 1.0)


def _grey_maps(source: np.ndarray, counterfactual: np.ndarray, difference: np.ndarray) -> tuple[list[_Map], float, str]:
    """The maps of all samples, the limit of the signed one, and what stands under its bar."""
    change = change_map(difference)
    limit = colour_range(change)
    return [_Map("difference", change, _COLOURS, (-limit, limit))], limit, _TOLD


def _colour_maps(
    source: np.ndarray, counterfactual: np.ndarray, difference: np.ndarray
) -> tuple[list[_Map], float, str]:
    change = colour_change(source, counterfactual)
    limit, most, full = colour_range(change.lightness), colour_range(change.absolute), chroma_range(change.chroma)
    told = (
        f"bar: lightness L*, white = 1;  |difference|: white is {most:g} of full range;  colour: grey where it stayed, "
        f"else the hue it went to, full at {full:.0f} of a*, b*"
    )
    maps = [
        _Map("|difference|", change.absolute, limits=(0.0, most)),
        _Map("lightness", change.lightness, _COLOURS, (-limit, limit)),
        _Map("colour", chroma_view(change.chroma, full)),
    ]
    return maps, limit, told


def _draw(ax: Axes, image: np.ndarray, colours: str, limits: tuple[float, float]) -> None:
    ax.imshow(image, cmap=colours, vmin=limits[0], vmax=limits[1], interpolation="nearest", aspect="auto")
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_linewidth(0.3)
        spine.set_color("0.6")


def window(source: np.ndarray) -> tuple[float, float]:
    """The values shown as black and as white."""
    if source.dtype == np.uint8:
        return 0.0, 255.0
    low, high = np.quantile(source.astype(np.float64), (0.002, 0.998))
    return float(low), float(max(high, low + 1e-6))


def change_map(difference: np.ndarray) -> np.ndarray:
    """(..., H, W) float32 of (..., H, W, C): the signed mean over the channels."""
    return difference.astype(np.float32).mean(axis=-1)


def colour_range(change: np.ndarray) -> float:
    """The |difference| of full colour: a round number that holds 99.9 % of the pixels, at least 0.005."""
    return nice(max(float(np.quantile(np.abs(change), 0.999)), 0.005))


def shown(image: np.ndarray, low: float, high: float) -> np.ndarray:
    """(H, W) or (H, W, 3), 0 black and 1 white."""
    grey = np.clip((image.astype(np.float64) - low) / (high - low), 0, 1)
    return grey if grey.shape[-1] == 3 else grey.mean(axis=-1)


def nice(value: float) -> float:
    """The next of 1, 2, 3, 5 times a power of ten at or above a positive value."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(round(step * power, 10) for step in (1, 2, 3, 5, 10) if step * power >= value * (1 - 1e-9))


def _short(name: str, inches: float) -> str:
    """The end of a name, which tells images apart, cut to about `inches` of small print."""
    most = int(inches / 0.04)
    return name if len(name) <= most else "\N{HORIZONTAL ELLIPSIS}" + name[1 - most :]


def save(figure: Figure, out: Path) -> Path:
    """Write the figure whole or not at all, with no date in it, and with fonts that journals accept."""
    suffix = out.suffix.lower()
    dateless = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}.get(suffix)
    make_legible(figure)
    with matplotlib.rc_context({"pdf.fonttype": 42, "svg.hashsalt": "cfdiff"}), atomic(out) as scratch:
        figure.savefig(scratch, format=suffix[1:], metadata=dateless)
    return out
