"""The figure of a search: flips against change, a point for each setting that was tried."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cfdiff.figures.panel import save

_COLOURS = "cividis"  # made to look the same with and without colour blindness
_START, _CHOSEN, _FRONT = "#d55e00", "#cc79a7", "0.35"  # Okabe & Ito 2008


def trade_off(
    flip: np.ndarray,
    change: np.ndarray,
    depth: np.ndarray,
    calls: np.ndarray,
    complete: np.ndarray,
    *,
    front: np.ndarray,
    chosen: int,
    goal: float,
    start_name: str,
    out: Path,
) -> Path:
    """Draw N trials, (N,) each, to `out` (.png, .pdf or .svg); trial 0 is the start.

    Args:
        flip, change: share of flips and mean |difference| in [0, 1] units, in the worse direction.
        depth: colour; calls: network calls an image, the size of the point.
        complete: bool; trials that were given up after some of the images are small crosses.
        front: indices of the trials that nothing beats in both, in order.
        goal: the share of flips that was wanted.
        start_name: what the starting settings are called in the legend.
    """
    figure = Figure(figsize=(7.0, 4.4), dpi=200, layout="constrained")
    FigureCanvasAgg(figure)
    ax = figure.add_subplot()
    limits = float(depth.min()), float(max(depth.max(), depth.min() + 1e-6))
    style: dict[str, Any] = {"cmap": _COLOURS, "vmin": limits[0], "vmax": limits[1]}
    ax.plot(100 * flip[front], change[front], "-", color=_FRONT, lw=1, zorder=1)
    given_up = ~complete
    ax.scatter(100 * flip[given_up], change[given_up], 16, depth[given_up], marker="x", lw=0.8, zorder=2, **style)
    size = 150 * calls / calls.max()
    points = ax.scatter(
        100 * flip[complete], change[complete], size[complete], depth[complete], ec="0.2", lw=0.5, zorder=3, **style
    )
    ax.axvline(100 * goal, color="0.6", lw=0.8, ls="--", zorder=0)
    ax.plot(100 * flip[0], change[0], "s", ms=15, mfc="none", mec=_START, mew=1.6, zorder=4)
    ax.plot(100 * flip[chosen], change[chosen], "o", ms=17, mfc="none", mec=_CHOSEN, mew=2.2, zorder=4)
    ax.set_xlabel("flipped by the checker, worse direction (%)", fontsize=8)
    ax.set_ylabel("mean |difference|, worse direction", fontsize=8)
    ax.set_ylim(0, None)
    ax.tick_params(labelsize=7)
    ax.spines[["top", "right"]].set_visible(False)
    bar = figure.colorbar(points, ax=ax, pad=0.02, aspect=30)
    bar.set_label("depth (fraction of T)", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    marks = [
        _mark("s", f"{start_name} settings", mfc="none", mec=_START, ms=8, mew=1.5),
        _mark("o", "chosen", mfc="none", mec=_CHOSEN, ms=8, mew=2),
        _mark("o", f"tried on all images; area: calls (largest {calls[complete].max():.0f})", color="0.5", ms=6),
        _mark("x", "given up after some of the images", color="0.5", ms=5),
        Line2D([], [], color=_FRONT, lw=1, label="not beaten in both"),
        Line2D([], [], color="0.6", lw=0.8, ls="--", label=f"goal: {goal:.1%}"),
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=3, fontsize=7, frameon=False)
    return save(figure, out)


def _mark(shape: str, label: str, **style: Any) -> Line2D:
    return Line2D([], [], ls="none", marker=shape, label=label, **style)
