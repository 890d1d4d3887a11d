"""Small plots as shapes in a fixed box; templates/plots.html.j2 draws them as SVG in the colours of the page."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 268, 8, 150  # of a box of 280 x 190
_BINS = 20


@dataclass(frozen=True)
class Tick:
    """A label at `at` pixels along its axis."""

    at: float
    label: str


@dataclass(frozen=True)
class Bar:
    """A rectangle of a series, with the words of its tooltip."""

    x: float
    y: float
    width: float
    height: float
    series: str
    words: str


@dataclass(frozen=True)
class Dot:
    """A point of a scatter plot, with the words of its tooltip."""

    x: float
    y: float
    words: str


@dataclass(frozen=True)
class Plot:
    """Axes, and bars, lines (SVG paths of a series) or dots in them.

    `legend` pairs a series ("before", "after", "flipped", "failed", "bag", "mean", "wish") with its words.
    """

    title: str
    x_label: str
    y_label: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    legend: list[tuple[str, str]]
    bars: list[Bar]
    lines: list[tuple[str, str]]
    dots: list[Dot]
    box: tuple[int, int, int, int] = (_LEFT, _TOP, _RIGHT, _BOTTOM)


def before_after(title: str, prob: np.ndarray, target: str) -> Plot:
    """Histograms of p(target) (N, 2): after as bars, before as an outline over them."""
    edges = np.linspace(0, 1, _BINS + 1)
    before, after = (np.histogram(prob[:, stage], edges)[0] for stage in (0, 1))
    top, y_ticks = _counts(int(max(before.max(), after.max())))
    steps = [f"M{_x(0):.1f} {_BOTTOM}"]
    for k, count in enumerate(before.tolist()):
        steps.append(f"V{_y(count, top):.1f}H{_x(edges[k + 1]):.1f}")
    return Plot(
        title,
        f"probability of {target}",
        "images",
        [Tick(_x(v), f"{v:g}") for v in (0, 0.25, 0.5, 0.75, 1)],
        y_ticks,
        [("before", "before"), ("after", "after")],
        _bars(edges, after, np.zeros_like(after), top, "after", 1.0, "{:.2f} to {:.2f}"),
        [("before", "".join(steps) + f"V{_BOTTOM}")],
        [],
    )


def change_histogram(change: np.ndarray, flipped: np.ndarray | None) -> Plot:
    """Histogram of mean |difference| (N,), failures stacked on the flipped ones."""
    right, x_ticks = _axis(float(change.max()))
    edges = np.linspace(0, right, _BINS + 1)
    good = np.ones(len(change), bool) if flipped is None else flipped
    low, high = np.histogram(change[good], edges)[0], np.histogram(change[~good], edges)[0]
    top, y_ticks = _counts(int((low + high).max()))
    bars = _bars(edges, low, np.zeros_like(low), top, "flipped", right, "{:.4f} to {:.4f}")
    bars += _bars(edges, high, low, top, "failed", right, "{:.4f} to {:.4f}, not flipped")
    legend = [] if flipped is None else [("flipped", "flipped"), ("failed", "not flipped")]
    return Plot(
        "Size of the change", "mean |difference|, full range = 1", "images", x_ticks, y_ticks, legend, bars, [], []
    )


def retry_histogram(retries: np.ndarray, flipped: np.ndarray | None) -> Plot:
    """Images by rungs of the retry ladder (N,), failures stacked on the flipped ones."""
    rungs = max(int(retries.max()), 4) + 1
    good = np.ones(len(retries), bool) if flipped is None else flipped
    low, high = np.bincount(retries[good], minlength=rungs), np.bincount(retries[~good], minlength=rungs)
    top, y_ticks = _counts(int((low + high).max()))
    edges = np.arange(rungs + 1.0)
    bars = _bars(edges, low, np.zeros_like(low), top, "flipped", rungs, "{:.0f} retries")
    bars += _bars(edges, high, low, top, "failed", rungs, "{:.0f} retries, not flipped")
    every = -(-rungs // 10)
    x_ticks = [Tick(_x((k + 0.5) / rungs), str(k)) for k in range(0, rungs, every)]
    legend = [] if flipped is None else [("flipped", "flipped"), ("failed", "not flipped")]
    return Plot("Retries", "rungs climbed until the checker was sure", "images", x_ticks, y_ticks, legend, bars, [], [])


def dose_response(requested: np.ndarray, achieved: np.ndarray, names: list[str], positive: str, who: str) -> Plot:
    """Requested mix against the achieved one by `who`, (J,) each: a dot a bag; means where mixes repeat."""
    ticks = (0, 0.25, 0.5, 0.75, 1)
    points = np.unique(requested)
    means = [(float(p), float(achieved[requested == p].mean())) for p in points]
    lines = [("wish", f"M{_x(0):.1f} {_y(0, 1):.1f}L{_x(1):.1f} {_y(1, 1):.1f}")]
    legend = [("wish", "as requested"), ("bag", "one bag")]
    if 1 < len(points) < len(requested):
        lines.append(("mean", "M" + "L".join(f"{_x(p):.1f} {_y(m, 1):.1f}" for p, m in means)))
        legend.append(("mean", "mean of the bags"))
    dots = [
        Dot(round(_x(float(r)), 1), round(_y(float(a), 1), 1), f"{name}: requested {r:.3g}, achieved {a:.3f}")
        for r, a, name in zip(requested, achieved, names, strict=True)
    ]
    return Plot(
        "Dose and response",
        f"requested fraction of {positive}",
        f"achieved ({who})",
        [Tick(_x(v), f"{v:g}") for v in ticks],
        [Tick(_y(v, 1), f"{v:g}") for v in ticks],
        legend,
        [],
        lines,
        dots,
    )


def _x(share: float) -> float:
    return _LEFT + share * (_RIGHT - _LEFT)


def _y(value: float, top: float) -> float:
    return _BOTTOM - value / top * (_BOTTOM - _TOP)


def _bars(
    edges: np.ndarray, counts: np.ndarray, under: np.ndarray, top: float, series: str, right: float, words: str
) -> list[Bar]:
    """The bins that hold something, each on top of `under`; `words` formats a bin's edges for the tooltip."""
    bars = []
    for k in np.flatnonzero(counts).tolist():
        x0, x1 = _x(edges[k] / right) + 0.75, _x(edges[k + 1] / right) - 0.75
        y = _y(float(under[k] + counts[k]), top)
        height = float(counts[k]) / top * (_BOTTOM - _TOP)
        tip = f"{words.format(edges[k], edges[k + 1])}: {counts[k]}"
        bars.append(Bar(round(x0, 1), round(y, 1), round(x1 - x0, 1), round(height, 1), series, tip))
    return bars


def _counts(highest: int) -> tuple[float, list[Tick]]:
    """The top of a count axis and its ticks, at whole numbers."""
    step = max(1.0, _step(highest))
    top = step * max(1, -(-highest // step))
    return top, [Tick(_y(v, top), f"{v:,.0f}") for v in np.arange(0, top + step / 2, step)]


def _axis(highest: float) -> tuple[float, list[Tick]]:
    """The right end of a length axis and its ticks; 0.01 where nothing to speak of changed."""
    highest = highest if highest > 1e-6 else 0.01
    step = _step(highest)
    right = float(max(step * np.ceil(highest / step * (1 - 1e-9)), highest))
    return right, [Tick(_x(float(v / right)), f"{v:.4g}") for v in np.arange(0, right + step / 2, step)]


def _step(highest: float) -> float:
    """1, 2 or 5 times a power of ten, so that 3 to 6 steps reach `highest`."""
    power = 10.0 ** np.floor(np.log10(highest / 5))
    return float(next(step * power for step in (1, 2, 5, 10) if highest / (step * power) <= 5))
