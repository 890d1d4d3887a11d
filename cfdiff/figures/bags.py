"""Figures of bags: a contact sheet before and after, and the dose-response plot of a sweep."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from cfdiff.data.lettering import lettered
from cfdiff.figures.panel import save, shown, window
from cfdiff.store.bags import Bags, BagView

TO_POSITIVE, TO_NEGATIVE, SHAM = "#e6550d", "#3182bd", "#31a354"
_ARROW = "\N{RIGHTWARDS ARROW}"
_MOST = 400  # instances on a sheet: beyond, they are too small to see
_WIDTH, _EDGE, _GAP, _TOP, _FOOT = 7.0, 0.08, 0.12, 0.62, 0.24


def contact_sheets(bags: Bags, classes: tuple[str, ...], folder: Path) -> list[Path]:
    """Draw every bag at every mix into `folder`, one PNG each; their paths."""
    names = file_names(bags)
    return [contact_sheet(bags[j], classes, folder / f"{name}.png") for j, name in enumerate(names)]


def file_names(bags: Bags) -> list[str]:
    """A file name without ending for each bag and mix, unique and safe on any system."""
    clean, of = bag_names(bags), bags.read("mix/bag")
    requested = bags.read("mix/requested").tolist()
    return [f"{clean[b]}_mix-{mix:.10g}" for b, mix in zip(of.tolist(), requested, strict=True)]


def bag_names(bags: Bags) -> list[str]:
    """What the names of a bag's files begin with, for each bag: unique and safe on any system."""
    clean = [_cut(re.sub(r"[^\w.-]+", "_", name)) for name in bags.read("bag/name").tolist()]
    twice = len({name.lower() for name in clean}) < len(clean)
    return [f"{i:04d}_{name}" for i, name in enumerate(clean)] if twice else clean


def _cut(name: str) -> str:
    """So much of a name as the name of a file can hold beside what is added to it: 255 bytes in all."""
    return name.encode("utf-8", "replace")[:150].decode("utf-8", "ignore")


@lettered
def contact_sheet(view: BagView, classes: tuple[str, ...], out: Path) -> Path:
    """One bag: all its instances before (left) and after (right), edited ones framed, the ratios in the title.

    Beyond 400 instances the edited ones come first, and the rest as far as they fit.
    """
    which = np.arange(len(view.ids))
    if len(which) > _MOST:
        which = np.sort(np.lexsort((which, ~view.edited))[:_MOST])
    columns = math.ceil(math.sqrt(len(which)))
    rows = math.ceil(len(which) / columns)
    height, width = view.source.shape[1:3]
    side = (_WIDTH - 2 * _EDGE - _GAP) / 2
    tall = side * rows * (height + 1) / (columns * (width + 1))
    total = _TOP + tall + _FOOT
    figure = Figure(figsize=(_WIDTH, total), dpi=300)
    FigureCanvasAgg(figure)
    low, high = window(view.source)
    for k, images in enumerate((view.source, view.image)):
        left = _EDGE + k * (side + _GAP)
        ax = figure.add_axes((left / _WIDTH, _FOOT / total, side / _WIDTH, tall / total))
        mosaic(ax, [shown(images[i], low, high) for i in which.tolist()], columns, rows)
        for place, i in enumerate(which.tolist()):
            if view.edited[i] or view.sham[i]:
                colour = SHAM if view.sham[i] else TO_POSITIVE if view.label[i] else TO_NEGATIVE
                x, y = place % columns * (width + 1), place // columns * (height + 1)
                ax.add_patch(
                    Rectangle(
                        (x - 0.5, y - 0.5), width, height, fill=False, ec=colour, lw=_line(side, columns), clip_on=False
                    )
                )
        x = (left + side / 2) / _WIDTH
        figure.text(x, 1 - 0.53 / total, ("before", "after")[k], ha="center", va="center", fontsize=7)
    for y, words, size, weight in (
        (0.14, f"bag {view.name}", 9.0, "bold"),
        (0.34, _ratios(view, classes), 7.5, "normal"),
    ):
        line = figure.text(0.5, 1 - y / total, words, ha="center", va="center", fontsize=size, weight=weight)
        _fit(line, _WIDTH - 2 * _EDGE)
    _legend(figure, view, classes, len(which), total)
    return save(figure, out)


def mosaic(ax: Axes, images: list[np.ndarray], columns: int, rows: int) -> None:
    """Images (H, W) or (H, W, 3) in [0, 1] side by side, a white pixel between them."""
    height, width = images[0].shape[:2]
    sheet = np.ones((rows * (height + 1), columns * (width + 1), *images[0].shape[2:]))
    for place, image in enumerate(images):
        y, x = place // columns * (height + 1), place % columns * (width + 1)
        sheet[y : y + height, x : x + width] = image
    ax.imshow(sheet, cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
    ax.axis("off")


def _ratios(view: BagView, classes: tuple[str, ...]) -> str:
    """The mix before, and the three ratios that are never mixed up."""
    n = len(view.ids)
    achieved = "" if view.achieved is None else f", achieved {view.achieved:.3f} (judge)"
    return (
        f"fraction {classes[1]}: {view.before:.3f} before {_ARROW} requested {view.requested:.3g}, "
        f"planned {view.wanted}/{n} = {view.planned:.3f}{achieved}"
    )


def _legend(figure: Figure, view: BagView, classes: tuple[str, ...], drawn: int, total: float) -> None:
    up, down = int((view.edited & (view.label == 1)).sum()), int((view.edited & (view.label == 0)).sum())
    entries = [
        (up, TO_POSITIVE, f"{up} {classes[0]} {_ARROW} {classes[1]}"),
        (down, TO_NEGATIVE, f"{down} {classes[1]} {_ARROW} {classes[0]}"),
        (int(view.sham.sum()), SHAM, f"{int(view.sham.sum())} sham"),
    ]
    words = [(colour, text) for count, colour, text in entries if count]
    if drawn < len(view.ids):
        words.append(("0.4", f"{drawn} of {len(view.ids)} instances shown"))
    words = words or [("0.4", "nothing edited")]
    drawn_words = [figure.text(0, _FOOT / 2 / total, text, va="center", fontsize=7, color=c) for c, text in words]
    space = (_WIDTH - 2 * _EDGE) / len(words)
    widths = [_fit(line, space - 0.1) for line in drawn_words]
    gap = (_WIDTH - sum(widths)) / (len(words) + 1)
    for k, line in enumerate(drawn_words):
        line.set_x((gap * (k + 1) + sum(widths[:k])) / _WIDTH)


def _fit(line: Text, room: float) -> float:
    """Make a line smaller until it is no wider than `room` inches, and cut it where it would be too small to read."""
    size, text = float(line.get_fontsize()), line.get_text()
    for smaller in np.arange(size, 0.7 * size, -0.5):
        line.set_fontsize(float(smaller))
        if _inches(line) <= room:
            break
    while _inches(line) > room and len(text) > 8:
        text = text[: len(text) - 4]
        line.set_text(text + "\N{HORIZONTAL ELLIPSIS}")
    return _inches(line)


def _inches(line: Text) -> float:
    figure = line.get_figure()
    assert figure is not None
    return float(line.get_window_extent(figure.canvas.get_renderer()).width / figure.dpi)  # type: ignore[attr-defined]


def _line(side: float, columns: int) -> float:
    """Width of a frame in points: a fortieth of a cell, to be seen but not to cover it."""
    return min(1.5, max(0.5, side / columns * 72 / 25))


@lettered
def dose_response(
    requested: np.ndarray, achieved: np.ndarray, probability: np.ndarray, *, positive: str, out: Path
) -> Path:
    """Requested mix against the achieved one and the judge's mean probability, a dot a bag, (J,) each.

    The line joins the means over the bags; the diagonal is what was asked for.
    """
    figure = Figure(figsize=(7.0, 3.5), dpi=300, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    names = (f"achieved fraction of {positive} (judge)", f"mean probability of {positive} (judge)")
    points = np.unique(requested)
    for ax, values, name in zip(axes, (achieved, probability), names, strict=True):
        ax.plot([0, 1], [0, 1], color="0.6", lw=0.8, ls="--", label="as requested")
        ax.plot(requested, values, "o", ms=3, mew=0, alpha=0.45, color=TO_NEGATIVE, label="one bag")
        if 1 < len(points) < len(requested):  # mixes drawn from a distribution never repeat: no means to join
            means = [values[requested == point].mean() for point in points]
            ax.plot(points, means, "-", lw=1.2, color=TO_POSITIVE, label="mean of the bags")
        ax.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
        ax.set_xlabel("requested mix", fontsize=8)
        ax.set_ylabel(name, fontsize=8)
        ax.tick_params(labelsize=7)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].legend(fontsize=7, frameon=False)
    return save(figure, out)
