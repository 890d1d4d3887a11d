"""Which 95 % interval covers, where images come in groups? Simulated coverage of the candidates.

    python benchmarks/intervals.py --json benchmarks/results/intervals.json      about 3 minutes on one core

Shares: the share of each group is drawn from a beta distribution with the wanted mean and intraclass correlation (ICC),
its images independently of that share. Means: a group's effect and an image's own are normal with the ICC between them;
"skewed" values are exp(0.6 x) of those. Groups have 20 images each, or geometrically distributed sizes of mean 20 from
2 to 100, or such and one that holds five images of seven. The product's own functions (`cfdiff.metrics.intervals`) are
called; the other candidates stand here.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

from cfdiff.metrics.intervals import Z, mean_interval, share_interval

GROUPS = (3, 5, 10, 18, 50)
ICC = (0.0, 0.1, 0.3)
SHARES = (0.02, 0.1, 0.5, 0.98)
SIZES = ("equal", "unequal", "one large")
DRAWS = 1000
GOAL, FROM = 0.93, 5
"""The coverage to reach, and the number of groups from which on."""
CHOSEN = "cfdiff"

Ends = tuple[np.ndarray, np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=2000, help="of each cell")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    rows = [*share_rows(rng, options.simulations), *mean_rows(rng, options.simulations)]
    report = {
        "benchmark": "intervals",
        "seed": options.seed,
        "simulations": options.simulations,
        "goal": f"coverage of at least {GOAL:.0%} from {FROM} groups on",
        "summary": {kind: summary([row for row in rows if row["kind"] == kind]) for kind in ("share", "mean")},
        "rows": rows,
    }
    for kind in ("share", "mean"):
        Console(width=150).print(table(kind, report["summary"][kind]))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


def share_rows(rng: np.random.Generator, simulations: int) -> list[dict[str, Any]]:
    """Coverage and mean width of every candidate for shares, a row a cell."""
    rows = []
    for sizes in SIZES:
        for g in GROUPS:
            for icc in ICC:
                for share in SHARES:
                    n = group_sizes(rng, simulations, g, sizes)
                    beta = (1 - icc) / icc if icc else None
                    theta = share if beta is None else rng.beta(share * beta, (1 - share) * beta, n.shape)
                    hits = rng.binomial(n, theta)
                    found = {name: make(hits, n, rng) for name, make in SHARE.items()}
                    cell = {"kind": "share", "sizes": sizes, "groups": g, "icc": icc, "true": share}
                    rows.append({**cell, "candidates": {k: score(e, share, (0, 1)) for k, e in found.items()}})
    return rows


def mean_rows(rng: np.random.Generator, simulations: int) -> list[dict[str, Any]]:
    """The same for means; true is 0 or, of skewed values, exp(0.18)."""
    rows = []
    for sizes in SIZES:
        for g in GROUPS:
            for icc in ICC:
                for skewed in (False, True):
                    n = group_sizes(rng, simulations, g, sizes)
                    values = [some_values(rng, size, icc, skewed) for size in n]
                    true = float(np.exp(0.18)) if skewed else 0.0
                    found = {name: make(values, n, rng) for name, make in MEAN.items()}
                    shape = "skewed" if skewed else "normal"
                    cell = {"kind": "mean", "sizes": sizes, "groups": g, "icc": icc, "values": shape}
                    rows.append({**cell, "candidates": {k: score(e, true) for k, e in found.items()}})
    return rows


def group_sizes(rng: np.random.Generator, simulations: int, g: int, sizes: str) -> np.ndarray:
    """(simulations, g) images of each group."""
    if sizes == "equal":
        return np.full((simulations, g), 20)
    n = np.clip(rng.geometric(1 / 20, (simulations, g)), 2, 100)
    if sizes == "one large":  # as in the bundled cells, where one patient has 501 of 697 parasitized ones
        n[:, 0] = 2.5 * np.maximum(10, n[:, 1:].sum(1))
    return n


def some_values(rng: np.random.Generator, size: np.ndarray, icc: float, skewed: bool) -> np.ndarray:
    """(N,) values of groups of these sizes, one group after the other."""
    effect = np.repeat(rng.normal(size=len(size)), size)
    x = np.sqrt(icc) * effect + np.sqrt(1 - icc) * rng.normal(size=len(effect))
    return np.exp(0.6 * x) if skewed else x


def score(ends: Ends, true: float, within: tuple[float, float] = (-np.inf, np.inf)) -> dict[str, float]:
    low, high = (np.clip(end, *within) for end in ends)
    covered = (low <= true + 1e-12) & (true <= high + 1e-12)
    return {"coverage": float(covered.mean()), "width": round(float((high - low).mean()), 5)}


# Candidates. Sums (S, g) of hits or values by group and n (S, g) images of each group: the ends (S,) of S intervals.


def bootstrap(sums: np.ndarray, n: np.ndarray, rng: np.random.Generator) -> Ends:
    """Percentile bootstrap over groups; the same draws for all simulations."""
    weights = rng.multinomial(sums.shape[1], np.full(sums.shape[1], 1 / sums.shape[1]), DRAWS)
    low, high = np.quantile((weights @ sums.T) / (weights @ n.T), [0.025, 0.975], axis=0)
    return low, high


def widened(sums: np.ndarray, n: np.ndarray, rng: np.random.Generator) -> Ends:
    """The same, moved away from the estimate by t / z sqrt(g / (g - 1))."""
    low, high = bootstrap(sums, n, rng)
    g, centre = sums.shape[1], sums.sum(1) / n.sum(1)
    factor = stats.t.ppf(0.975, g - 1) / Z * np.sqrt(g / (g - 1))
    return centre - factor * (centre - low), centre + factor * (high - centre)


def variance(sums: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the ratio of sums: CR1, linearised; and the ratio."""
    g, centre = sums.shape[1], sums.sum(1) / n.sum(1)
    return g / (g - 1) * ((sums - centre[:, None] * n) ** 2).sum(1) / n.sum(1) ** 2, centre


def cluster_robust(sums: np.ndarray, n: np.ndarray, rng: np.random.Generator) -> Ends:
    """CR1 with Student's t of g - 1 degrees of freedom."""
    v, centre = variance(sums, n)
    half = stats.t.ppf(0.975, sums.shape[1] - 1) * np.sqrt(v)
    return centre - half, centre + half


def cluster_robust_logit(hits: np.ndarray, n: np.ndarray, rng: np.random.Generator) -> Ends:
    """The same on the logit scale; a share of 0 or 1 keeps an interval without width."""
    v, p = variance(hits, n)
    inside = (p > 0) & (p < 1)
    q = np.where(inside, p, 0.5)
    half = stats.t.ppf(0.975, hits.shape[1] - 1) * np.sqrt(v) / (q * (1 - q))
    ends = (1 / (1 + np.exp(-(np.log(q / (1 - q)) + sign * half))) for sign in (-1, 1))
    low, high = (np.where(inside, end, p) for end in ends)
    return low, high


def effective(hits: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images over the design effect, which is at least 1; and the share."""
    v, p = variance(hits, n)
    free = p * (1 - p) / n.sum(1)
    return n.sum(1) / np.maximum(1, np.where(free > 0, v / np.where(free > 0, free, 1), 0)), p


def wilson_ends(p: np.ndarray, n: np.ndarray, z: Any) -> Ends:
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return centre - half, centre + half


def wilson_images(hits: np.ndarray, n: np.ndarray, rng: np.random.Generator) -> Ends:
    return wilson_ends(hits.sum(1) / n.sum(1), n.sum(1), Z)


def wilson_effective(hits: np.ndarray, n: np.ndarray, rng: np.random.Generator) -> Ends:
    """Wilson of the effective sample size, with t of g - 1."""
    size, p = effective(hits, n)
    return wilson_ends(p, size, stats.t.ppf(0.975, hits.shape[1] - 1))


def korn_graubard(hits: np.ndarray, n: np.ndarray, rng: np.random.Generator) -> Ends:
    """Clopper-Pearson of the effective sample size times (z / t)^2 (Korn and Graubard 1998)."""
    size, p = effective(hits, n)
    size = size * (Z / stats.t.ppf(0.975, hits.shape[1] - 1)) ** 2
    x = p * size
    low = np.where(x > 1e-9, stats.beta.ppf(0.025, np.maximum(x, 1e-9), size - x + 1), 0)
    high = np.where(size - x > 1e-9, stats.beta.ppf(0.975, x + 1, np.maximum(size - x, 1e-9)), 1)
    return low, high


def wider(*makers: Callable[..., Ends]) -> Callable[..., Ends]:
    """Whichever reaches further on each side."""

    def make(sums: np.ndarray, n: np.ndarray, rng: np.random.Generator) -> Ends:
        lows, highs = zip(*(m(sums, n, rng) for m in makers), strict=True)
        return np.minimum.reduce(lows), np.maximum.reduce(highs)

    return make


def product_share(hits: np.ndarray, n: np.ndarray, rng: np.random.Generator) -> Ends:
    ends = []
    for k, size in zip(hits, n, strict=True):
        rows = np.repeat(np.tile([1.0, 0.0], len(k)), np.stack([k, size - k], axis=1).ravel())
        ends.append(share_interval(rows, np.repeat(np.arange(len(size)), size)))
    low, high = np.array(ends).T
    return low, high


def product_mean(values: list[np.ndarray], n: np.ndarray, rng: np.random.Generator) -> Ends:
    ends = [mean_interval(v, np.repeat(np.arange(len(s)), s)) for v, s in zip(values, n, strict=True)]
    low, high = np.array(ends).T
    return low, high


def student_images(values: list[np.ndarray], n: np.ndarray, rng: np.random.Generator) -> Ends:
    low, high = np.array([mean_interval(v) for v in values]).T
    return low, high


def by_sums(make: Callable[..., Ends]) -> Callable[..., Ends]:
    """A candidate of sums by group for the values of images."""

    def of(values: list[np.ndarray], n: np.ndarray, rng: np.random.Generator) -> Ends:
        starts = [np.concatenate([[0], np.cumsum(size)[:-1]]) for size in n]
        return make(np.array([np.add.reduceat(v, s) for v, s in zip(values, starts, strict=True)]), n, rng)

    return of


SHARE: dict[str, Callable[..., Ends]] = {
    "Wilson over images": wilson_images,
    "bootstrap over groups": bootstrap,
    "wider of Wilson and bootstrap (0.1.0)": wider(wilson_images, bootstrap),
    "bootstrap, widened": widened,
    "wider of Wilson and widened bootstrap": wider(wilson_images, widened),
    "cluster-robust, t": cluster_robust,
    "cluster-robust, t, logit": cluster_robust_logit,
    "Wilson, design effect, t": wilson_effective,
    "Korn-Graubard": korn_graubard,
    CHOSEN: product_share,
}
MEAN: dict[str, Callable[..., Ends]] = {
    "Student over images": student_images,
    "bootstrap over groups": by_sums(bootstrap),
    "bootstrap, widened": by_sums(widened),
    "cluster-robust, t": by_sums(cluster_robust),
    CHOSEN: product_mean,
}


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Of each candidate: its lowest coverage by number of groups, and in how many cells it misses the goal."""
    found: dict[str, Any] = {}
    for name in rows[0]["candidates"]:
        lowest = {g: min(r["candidates"][name]["coverage"] for r in rows if r["groups"] == g) for g in GROUPS}
        enough = [r["candidates"][name] for r in rows if r["groups"] >= FROM]
        found[name] = {
            "lowest_coverage": {str(g): value for g, value in lowest.items()},
            "cells_below_goal": sum(cell["coverage"] < GOAL for cell in enough),
            "cells": len(enough),
            "mean_width": round(float(np.mean([cell["width"] for cell in enough])), 4),
        }
    return found


def table(kind: str, found: dict[str, Any]) -> Table:
    shown = Table("interval", *(f"{g} groups" for g in GROUPS), f"below {GOAL:.0%} from {FROM} on", "mean width there")
    shown.title = f"lowest coverage, {kind}s"
    for name, of in found.items():
        cells = [f"{value:.1%}" for value in of["lowest_coverage"].values()]
        shown.add_row(name, *cells, f"{of['cells_below_goal']} of {of['cells']}", f"{of['mean_width']:.3f}")
    return shown


if __name__ == "__main__":
    main()
