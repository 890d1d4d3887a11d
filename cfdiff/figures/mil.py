"""Pictures of a bag model: its answer over the mix, and its attention before and after instances changed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cfdiff.figures.bags import TO_NEGATIVE, TO_POSITIVE
from cfdiff.figures.panel import save, shown, window

KEPT, WAS = "0.65", "0.25"
_WAYS = (TO_POSITIVE, TO_NEGATIVE)
_MOST = 100
"""Instances that a picture shows: those of the highest attention."""


class Curve(NamedTuple):
    """Answers over the mix, all in [0, 1].

    Attributes:
        bags: mixes (V,) and answers (V,) of each bag.
        mean: mix and answer of each point of the mean over bags.
    """

    bags: Sequence[tuple[np.ndarray, np.ndarray]]
    mean: Sequence[tuple[float, float]]


def dose_curves(curves: Mapping[str, Curve], *, positive: str, diagonal: bool, out: Path) -> Path:
    """A panel a way: a thin line a bag, a thick one the mean over bags.

    `diagonal` is drawn for a model that says the fraction itself.
    """
    figure = Figure(figsize=(3.5 * len(curves), 3.4), dpi=200, layout="constrained")
    FigureCanvasAgg(figure)
    axes = np.atleast_1d(figure.subplots(1, len(curves), sharex=True, sharey=True))
    for ax, (name, (bags, mean)), colour in zip(axes, curves.items(), _WAYS, strict=False):
        if diagonal:
            ax.plot([0, 1], [0, 1], color="0.7", lw=0.8, ls="--")
        for mix, answer in bags:
            order = np.argsort(mix, kind="stable")
            ax.plot(mix[order], answer[order], "-", color=colour, lw=0.6, alpha=0.25)
        ax.plot(*np.transpose(mean), "o-", color=colour, lw=1.8, ms=3.5)
        ax.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
        ax.set_title(f"{name} ({len(bags)} bags)", fontsize=8)
        ax.set_xlabel(f"fraction {positive}", fontsize=8)
        _plain(ax)
    axes[0].set_ylabel("answer of the model", fontsize=8)
    return save(figure, out)


def attention_before_after(
    attention: np.ndarray, labels: np.ndarray, images: np.ndarray | None, *, title: str, out: Path
) -> Path:
    """Attention (2, n) and labels (2, n) of one bag before and after; with images (2, n, H, W, C) also the instances.

    Bars are times n, so that 1 is what each gets where all get the same; instances that became positive are orange,
    those that were are dark.
    """
    n = attention.shape[1]
    which = np.sort(np.argsort(-attention.max(0), kind="stable")[:_MOST])
    rows = 1 if images is None else 2
    figure = Figure(figsize=(7.0, 2.0 + 2.6 * (rows - 1)), dpi=200, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, 2, squeeze=False, height_ratios=[2.6, 1.6][-rows:], sharex="row", sharey="row")
    became = (labels[1] == 1) & (labels[0] != 1)
    for k, when in enumerate(("before", "after")):
        colours = np.where(became, TO_POSITIVE, np.where(labels[k] == 1, WAS, KEPT))[which]
        ax = axes[-1, k]
        ax.bar(np.arange(len(which)), n * attention[k][which], color=colours.tolist(), width=0.9)
        ax.axhline(1, color="0.5", lw=0.6, ls="--")
        ax.set_xlabel("instance", fontsize=8)
        _plain(ax)
        if images is None:
            ax.set_title(when, fontsize=8)
        else:
            _mosaic(axes[0, k], images[k][which], n * attention[k][which], colours.tolist(), window(images[0]))
            axes[0, k].set_title(when, fontsize=8)
    axes[-1, 0].set_ylabel("attention \N{MULTIPLICATION SIGN} n", fontsize=8)
    figure.suptitle(title, fontsize=9)
    return save(figure, out)


def _mosaic(
    ax: Axes, images: np.ndarray, attention: np.ndarray, colours: list[str], limits: tuple[float, float]
) -> None:
    """Instances side by side, each with a frame as thick as its attention."""
    n, height, width = images.shape[:3]
    columns = math.ceil(math.sqrt(n))
    sheet_rows, gap = math.ceil(n / columns), 4
    first = shown(images[0], *limits)
    sheet = np.ones((sheet_rows * (height + gap), columns * (width + gap), *first.shape[2:]))
    for place in range(n):
        y, x = place // columns * (height + gap), place % columns * (width + gap)
        sheet[y : y + height, x : x + width] = shown(images[place], *limits)
        thick = 2.5 * min(1.0, float(attention[place]) / max(1.0, float(attention.max())))
        ax.add_patch(Rectangle((x - 1, y - 1), width + 1, height + 1, fill=False, ec=colours[place], lw=0.3 + thick))
    ax.imshow(sheet, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.axis("off")


def _plain(ax: Axes) -> None:
    ax.tick_params(labelsize=7)
    ax.spines[["top", "right"]].set_visible(False)
