"""The figure of a search: flips against change, a point for each setting that was tried, coloured by its calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cfdiff.data.lettering import lettered
from cfdiff.figures.panel import save

_COLOURS = "cividis"  # made to look the same with and without colour blindness
_START, _CHOSEN = "#d55e00", "#cc79a7"  # Okabe & Ito 2008


@lettered
def trade_off(
    flip: np.ndarray,
    change: np.ndarray,
    calls: np.ndarray,
    complete: np.ndarray,
    *,
    front: np.ndarray,
    chosen: int,
    goal: float,
    start_name: str,
    decided_by: str,
    out: Path,
) -> Path:
    """Draw N trials, (N,) each, to `out` (.png, .pdf or .svg); trial 0 is the start.

    Args:
        flip, change: share of flips and mean |difference| in [0, 1] units, in the worse direction.
        calls: network calls an image, the colour.
        complete: bool; trials that were given up after some of the images are small crosses.
        front: indices of the trials that nothing beats in flips, change and calls at once; they are numbered from 1.
        goal: the share of flips that was wanted.
        start_name: what the starting settings are called in the legend.
        decided_by: the role of the model that says what flipped.
    """
    figure = Figure(figsize=(7.0, 4.4), dpi=200, layout="constrained")
    FigureCanvasAgg(figure)
    ax = figure.add_subplot()
    style: dict[str, Any] = {"cmap": _COLOURS, "vmin": float(calls.min()), "vmax": float(calls.max() + 1e-6)}
    given_up, member = ~complete, np.isin(np.arange(len(flip)), front)
    ax.scatter(100 * flip[given_up], change[given_up], 16, calls[given_up], marker="x", lw=0.8, zorder=2, **style)
    for some, size, edge in ((complete & ~member, 26, "0.7"), (member, 60, "0.1")):
        points = ax.scatter(100 * flip[some], change[some], size, calls[some], ec=edge, lw=0.9, zorder=3, **style)
    for k, trial in enumerate(front.tolist(), 1):
        # Spread, as members with the same share of flips lie close to one another.
        away = (-26, 10 * (k - (len(front) + 1) / 2))
        line = {"arrowstyle": "-", "lw": 0.5, "color": "0.5"}
        at = (100 * flip[trial], change[trial])
        ax.annotate(str(k), at, away, textcoords="offset points", fontsize=7, arrowprops=line, va="center")
    ax.axvline(100 * goal, color="0.6", lw=0.8, ls="--", zorder=0)
    ax.plot(100 * flip[0], change[0], "s", ms=13, mfc="none", mec=_START, mew=1.6, zorder=4)
    ax.plot(100 * flip[chosen], change[chosen], "o", ms=15, mfc="none", mec=_CHOSEN, mew=2.2, zorder=4)
    ax.set_xlabel(f"flipped by the {decided_by}, worse direction (%)", fontsize=8)
    ax.set_ylabel("mean |difference|, worse direction", fontsize=8)
    ax.set_ylim(0, 1.1 * float(change.max()) or 1.0)  # 1 where nothing changes at all
    ax.tick_params(labelsize=7)
    ax.spines[["top", "right"]].set_visible(False)
    bar = figure.colorbar(points, ax=ax, pad=0.02, aspect=30)
    bar.set_label("network calls an image, worse direction", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    marks = [
        _mark("s", f"{start_name} settings", mfc="none", mec=_START, ms=8, mew=1.5),
        _mark("o", "chosen", mfc="none", mec=_CHOSEN, ms=8, mew=2),
        _mark("o", "Pareto front of flips, change and calls, numbered", color="0.5", mec="0.1", ms=7),
        _mark("o", "tried on all images", color="0.5", mec="0.7", ms=5),
        _mark("x", "given up after some of the images", color="0.5", ms=5),
        Line2D([], [], color="0.6", lw=0.8, ls="--", label=f"goal: {goal:.1%}"),
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=3, fontsize=7, frameon=False)
    return save(figure, out)


def _mark(shape: str, label: str, **style: Any) -> Line2D:
    return Line2D([], [], ls="none", marker=shape, label=label, **style)
