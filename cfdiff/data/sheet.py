"""A contact sheet: what both classes of a source look like."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure

from cfdiff.data.lettering import lettered, make_legible
from cfdiff.data.source import NEGATIVE, POSITIVE, Source, random_subset
from cfdiff.files import atomic

INCH = 0.82  # side of one image
LONGEST_CAPTION = 15


@lettered
def contact_sheet(source: Source, out: Path, per_class: int = 48, columns: int = 8, seed: int = 0) -> Path:
    """Write a PNG with up to `per_class` random images of either class side by side, spread over groups.

    Under each image stands its group, or else its id. Gray images of 8 or 16 bits are shown from black to
    full scale, as a network sees them.
    """
    picked = [_pick(source, label, per_class, seed) for label in (NEGATIVE, POSITIVE)]
    rows = max(1, *(-(-len(part) // columns) for part in picked))
    per_row = INCH * source.shape[0] / source.shape[1] + 0.16
    figure = Figure(figsize=(2 * columns * INCH + 0.6, rows * per_row + 0.75), dpi=200, facecolor="white")
    FigureCanvasAgg(figure)
    height, width, channels = source.shape
    kind = "gray" if channels == 1 else "RGB"
    figure.text(
        0.5,
        1 - 0.1 / figure.get_figheight(),
        f"{source.name}: {len(source):,} images, {height}x{width}, {kind}, {source.dtype}",
        ha="center",
        va="top",
        fontsize=9,
        color="0.35",
    )
    body = figure.subfigures(1, 2, wspace=0.02, squeeze=False)
    for label, part, half in zip((NEGATIVE, POSITIVE), picked, body[0], strict=True):
        _half(half, part, source, label, rows, columns)
    make_legible(figure)
    with atomic(out) as scratch:
        figure.savefig(scratch, format="png")
    return out


def _pick(source: Source, label: int, limit: int, seed: int) -> Source:
    part = source.select(np.flatnonzero(source.labels == label))
    return random_subset(part, limit, seed) if len(part) else part


def _half(half: SubFigure, part: Source, source: Source, label: int, rows: int, columns: int) -> None:
    """One class: a heading and a grid of images."""
    total = int(np.sum(source.labels == label))
    sign = "negative" if label == NEGATIVE else "positive"
    top = 1 - 0.62 / half.figure.get_figheight()
    name = source.classes[label]
    title = name if name.lower() == sign else f"{name} ({sign})"
    half.text(
        0.5,
        1 - 0.42 / half.figure.get_figheight(),
        f"{title}, {total:,}",
        ha="center",
        va="center",
        fontsize=11,
        fontweight="bold",
    )
    axes = half.subplots(
        rows,
        columns,
        squeeze=False,
        gridspec_kw={
            "left": 0.015,
            "right": 0.985,
            "top": top,
            "bottom": 0.02,
            "wspace": 0.06,
            "hspace": 0.2,
        },
    )
    full = np.iinfo(source.dtype).max if source.dtype.kind == "u" else 1
    images = part.read(np.arange(len(part))) / full if len(part) else np.empty((0, *part.shape))
    captions = part.ids if part.groups is None else part.groups
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, image, caption in zip(axes.flat, images, captions, strict=False):
        picture = image[..., 0] if image.shape[2] == 1 else image
        axis.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(_short(str(caption)), fontsize=5, color="0.35", y=-0.02, va="top", pad=0)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_CAPTION else "..." + text[3 - LONGEST_CAPTION :]
