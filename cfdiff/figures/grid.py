"""Pictures of generated images: a grid, a row for each number of steps, and quality against calls below."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cfdiff.figures.bags import mosaic
from cfdiff.figures.panel import save, shown, window

_PAGE, _EDGE, _TITLE, _LABEL, _CURVE, _LARGEST = 7.0, 0.08, 0.26, 0.62, 2.3, 0.9
_COLUMNS = 12
_LINE, _REAL = "#3182bd", "0.45"


@dataclass(frozen=True, eq=False)
class Strip:
    """A row of images (n, H, W, C) and what stands before it; "" for nothing."""

    label: str
    images: np.ndarray


@dataclass(frozen=True, eq=False)
class Curve:
    """A figure (n,) over network calls (n,), its interval (n, 2), and the same of real images (value, low, high)."""

    name: str
    calls: np.ndarray
    value: np.ndarray
    interval: np.ndarray
    real: tuple[float, float, float]


def grid(images: np.ndarray, out: Path, title: str = "") -> Path:
    """Draw N images (N, H, W, C), uint8, uint16 or float32 in [0, 1], a dozen a row at most, to .png, .pdf or .svg."""
    wanted = 1.5 * math.sqrt(len(images))  # wide, as a screen is, with few empty places
    choices = range(math.ceil(math.sqrt(len(images))), _COLUMNS + 1)
    columns = min(choices, key=lambda c: (-len(images) % c, abs(c - wanted)), default=_COLUMNS)
    return strips([Strip("", images[i : i + columns]) for i in range(0, len(images), columns)], out, title)


def strips(rows: Sequence[Strip], out: Path, title: str = "", curves: Sequence[Curve] = ()) -> Path:
    """Draw rows of images one below the other, their labels to the left, and the curves below, to `out`."""
    most = max(len(row.images) for row in rows)
    label = _LABEL if any(row.label for row in rows) else 0.0
    height, width = rows[0].images.shape[1:3]
    side = min(_LARGEST, (_PAGE - 2 * _EDGE - label) / most)
    tall = side * (height + 1) / (width + 1)
    below = _CURVE if curves else 0.0
    page = _PAGE if curves else max(2 * _EDGE + label + side * most, 2.6)
    total = _TITLE + len(rows) * tall + below + _EDGE
    figure = Figure(figsize=(page, total), dpi=300)
    FigureCanvasAgg(figure)
    low, high = window(np.concatenate([row.images for row in rows]))
    if title:
        figure.text(0.5, 1 - _TITLE / 2 / total, title, ha="center", va="center", fontsize=7, parse_math=False)
    for k, row in enumerate(rows):
        top, wide = _TITLE + (k + 1) * tall, side * len(row.images)
        ax = figure.add_axes(((_EDGE + label) / page, 1 - top / total, wide / page, tall / total))
        mosaic(ax, [shown(image, low, high) for image in row.images], len(row.images), 1)
        figure.text(
            (_EDGE + label - 0.05) / page, 1 - (top - tall / 2) / total, row.label,
            ha="right", va="center", fontsize=6, parse_math=False,
        )  # fmt: skip
    for k, curve in enumerate(curves):
        room = (page - 2 * _EDGE) / len(curves)
        box = ((_EDGE + k * room + 0.55) / page, 0.42 / total, (room - 0.7) / page, (_CURVE - 0.75) / total)
        _curve(figure.add_axes(box), curve)
    return save(figure, out)


def _curve(ax: Axes, curve: Curve) -> None:
    """Quality against calls; the band is where real images lie among themselves at the same n."""
    value, low, high = curve.real
    ax.axhspan(low, high, color=_REAL, alpha=0.15, lw=0)
    ax.axhline(value, color=_REAL, lw=0.8, ls="--", label="real against real")
    reach = np.abs(curve.interval.T - curve.value)
    ax.errorbar(curve.calls, curve.value, reach, fmt="o-", ms=3, lw=1, capsize=2, color=_LINE, label="generated")
    ax.set_xlabel("network calls an image", fontsize=7)
    ax.set_ylabel(curve.name, fontsize=7, parse_math=False)
    ax.tick_params(labelsize=6)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(fontsize=6, frameon=False)
