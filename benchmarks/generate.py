"""How good are generated images, for how many network calls? Every solver at 5 to 50 steps, of any class and of each.

    python benchmarks/generate.py --json benchmarks/results/generate.json --picture docs/images/generate.png
    python benchmarks/generate.py --images 8 --steps 2 4 --draws 5                      to see whether it runs
    python benchmarks/generate.py --data malaria-cells-rgb --guides cfg noisy noisy+cfg --json ...   what leads there

`cfdiff generate` with --images seeds, the same for every solver, steps and class. What leads to a class is each of
--guides, with the command's own strengths; a row says it as `led_by`. FID and KID are in the features of
the judge, against real images of the test patients, n on each side; KID is unbiased and over all n (Binkowski et al.
2018). *Real* is n real images against n others of the same patients: the best that can be had at this n. *Beyond* is
how much further than with the most steps of the same solver, draw by draw: what fewer calls cost. Intervals are
over patients: each of --draws takes patients with replacement and n of their images without, as a copy of an image
would be nearer than any image is; how the draws spread about their own mean is the interval, for fewer patients are
further from anything, which is no uncertainty. The generated images are the same in all draws. The judge's share has
Wilson's interval over images, which are independent. What was generated stays in --out, and rows in --json; neither is
made again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from rich.console import Console
from rich.table import Table
from rows import Rows

import cfdiff
from cfdiff.data.open import open_source
from cfdiff.data.source import Source
from cfdiff.edit.roles import load_role, pick_device
from cfdiff.generate.quality import features_of
from cfdiff.metrics.intervals import widened
from cfdiff.metrics.realism import fid, kid
from cfdiff.models.bundled import role_file, weights_folder
from cfdiff.models.features import judge_features
from cfdiff.store.samples import open_samples

SOLVERS = ("ddpm", "ddim", "dpm++", "unipc")
ANY = "any"
CLASSES = (ANY, "negative", "positive")
METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "fid": fid,
    "kid": lambda a, b: kid(a, b, subsets=1, subset_size=min(len(a), len(b)))[0],
}
LOWEST = {"fid": 0.0, "kid": -np.inf}
BATCH = 64


def main() -> None:
    options = _parser().parse_args()
    torch.set_num_threads(options.threads)
    told = {"split": options.split, "images": options.images, "draws": options.draws, "seed": options.seed}
    of_what = {"data": options.data, "weights": options.weights or options.data}
    report = Rows(options.json, {"benchmark": "generate", **told}, [*of_what, "class", "led_by", "solver", "steps"])
    ours = [row for row in report.rows if of_what.items() <= row.items()]
    real = None if options.table else Real(options)
    for kind, led_by in () if real is None else led(options):
        known = [row for row in ours if (row["class"], row["led_by"]) == (kind, led_by)]
        have = {(row["solver"], row["steps"]) for row in known}
        wanted = [name for name in options.solvers if not {(name, steps) for steps in options.steps} <= have]
        best = {f"{name}_real": of.told for name, of in real.against(kind, None, options).items()} if wanted else {}
        for solver in wanted:
            for row in generated(kind, led_by, solver, real, options):
                report.put({**of_what, **row, **best})
                print(line(row), flush=True)
    rows = [row for row in report.rows if of_what.items() <= row.items()]
    Console(width=190).print(table(rows))
    if options.picture and rows:
        draw(rows, options.picture)


def led(options: argparse.Namespace) -> list[tuple[str, str]]:
    """Classes, each with what leads there: nothing where none is asked for."""
    pairs = [(kind, "none" if kind == ANY else guides) for kind in options.classes for guides in options.guides]
    return list(dict.fromkeys(pairs))


class Real:
    """Features (N, D) of the real images, and who they are of."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.source: Source = open_source(options.data, split=options.split)
        file = role_file(weights_folder(options.weights or options.data), "judge")
        assert file is not None, "the weights have no judge"
        judge = load_role(file, "judge", pick_device("cpu"))
        self.extract, self.name = judge_features(judge, judge.device), judge.name
        rows = np.arange(len(self.source))
        parts = (self.source.read(rows[i : i + BATCH]) for i in range(0, len(rows), BATCH))
        self.features = features_of(self.extract, parts)
        self.groups = self.source.ids if self.source.groups is None else np.asarray(self.source.groups)

    def against(self, kind: str, drawn: np.ndarray | None, options: argparse.Namespace) -> dict[str, Distance]:
        """FID and KID of `drawn` (n, D), or of as many real images; the same draws of patients whatever is drawn."""
        own = np.ones(len(self.features), bool) if kind == ANY else self.source.labels == (kind == "positive")
        features, groups = self.features[own], self.groups[own]
        n = min(options.images if drawn is None else len(drawn), len(features) // 2)
        size = 2 * n if drawn is None else n
        found: dict[str, Distance] = {}
        for name, metric in METRICS.items():

            def once(rows: np.ndarray, g: np.random.Generator, metric: Any = metric) -> float:
                if drawn is None:
                    return float(metric(features[rows[:n]], features[rows[n:]]))
                return float(metric(features[rows], drawn[g.permutation(len(drawn))[:n]]))

            plain = [
                once(g.permutation(len(features))[:size], g)
                for g in (np.random.default_rng([options.seed, 0, i]) for i in range(options.repeats))
            ]
            spread = [
                np.mean([once(resampled(groups, size, g), g) for _ in range(2)])
                for g in (np.random.default_rng([options.seed, 1, i]) for i in range(options.draws))
            ]
            found[name] = Distance(float(np.mean(plain)), np.array(spread), n, groups, LOWEST[name])
        return found


@dataclass(frozen=True, eq=False)
class Distance:
    """A figure of n images on each side, and what it is in each of the draws of patients, `spread` (draws,)."""

    value: float
    spread: np.ndarray
    n: int
    groups: np.ndarray
    lowest: float

    def beyond(self, other: Distance) -> Distance:
        """How much larger than another figure, draw by draw."""
        return Distance(self.value - other.value, self.spread - other.spread, self.n, self.groups, -np.inf)

    @property
    def told(self) -> dict[str, Any]:
        """Value and interval."""
        drawn = self.value + self.spread - self.spread.mean()
        interval = widened(self.value, drawn, len(self.groups), self.groups, (self.lowest, np.inf))
        return {"value": self.value, "interval": interval, "n": self.n}


def resampled(groups: np.ndarray, size: int, g: np.random.Generator) -> np.ndarray:
    """(size,) different rows, of patients that are drawn with replacement: one drawn twice gives twice as many.

    A patient who has not so many gives all, and the others the rest.
    """
    names, member = np.unique(groups, return_inverse=True)
    times = np.bincount(g.integers(0, len(names), len(names)), minlength=len(names))
    weights = times[member].astype(float)
    if (weights > 0).sum() < size:  # few patients of few images: those who were not drawn fill up
        weights += 1e-9
    return g.choice(len(groups), size, replace=False, p=weights / weights.sum())


def generated(kind: str, led_by: str, solver: str, real: Real, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each number of steps."""
    counts = "-".join(map(str, options.steps))
    way = kind if led_by in ("none", "noisy") else f"{kind}-{led_by.replace('+', 'p')}"
    out = options.out / f"{options.data}-{way}-{solver.replace('+', 'p')}-{counts}-of-{options.images}.h5"
    out.parent.mkdir(parents=True, exist_ok=True)
    summary = cfdiff.generate(
        data=options.data,
        weights=options.weights,
        split=options.split,
        class_=None if kind == ANY else kind,
        guides="auto" if kind == ANY else led_by,
        images=options.images,
        solver=solver,
        steps=tuple(options.steps),
        seed=options.seed,
        compare=False,
        threads=options.threads,
        device="cpu",
        out=out,
    )
    rows, found = [], []
    with open_samples(out) as samples:
        for walk in summary.walks:
            chosen = np.flatnonzero((samples["steps"][:] == walk.steps) & (samples["status"][:].astype(str) == "ok"))
            images = samples.image[chosen]
            drawn = features_of(real.extract, (images[i : i + BATCH] for i in range(0, len(images), BATCH)))
            told = walk.as_json()
            del told["figures"]
            rows.append({"class": kind, "solver": solver, **told, "led_by": summary.led_by, "features": real.name})
            found.append(real.against(kind, drawn, options))
    for row, here in zip(rows, found, strict=True):
        row |= {name: of.told for name, of in here.items()}
        row |= {f"{name}_beyond": of.beyond(found[-1][name]).told for name, of in here.items()}
    return rows


def line(row: dict[str, Any]) -> str:
    """One row in words."""
    figures = ", ".join(f"{name.upper()} {row[name]['value']:.4g}" for name in METRICS)
    way = f"{row['class']}, led by {row['led_by']}, {row['solver']}, {row['steps']} steps"
    return f"{way}: {row['network_calls']:g} calls, {figures}"


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """A line a class, what leads there, solver and number of steps."""
    heads = ["class", "led by", "solver", "steps", "calls + guided", "judge"]
    shown = Table(*heads, *(head for name in METRICS for head in (name.upper(), "real", "beyond")))
    for row in rows:
        cells = [row["class"], row["led_by"], row["solver"], str(row["steps"])]
        cells += [f"{row['network_calls']:g} + {row['guide_calls']:.2g}", share(row["seen"])]
        for name in METRICS:
            cells += [figure(row[key]) for key in (name, f"{name}_real", f"{name}_beyond")]
        shown.add_row(*cells)
    return shown


def share(seen: dict[str, Any] | None) -> str:
    """The judge's, which of no class asked for is that of positives."""
    if seen is None:
        return "-"
    entry = seen["all"]
    return f"{entry['value']:.0%} ({entry['low']:.0%}-{entry['high']:.0%})"


def figure(of: dict[str, Any]) -> str:
    """A number and its interval."""
    low, high = of["interval"]
    return f"{of['value']:.3g} ({low:.3g} to {high:.3g})"


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """FID and KID over calls, a column a class and what leads there, a line a solver; the band is real against real."""
    pairs = dict.fromkeys((row["class"], row["led_by"]) for row in rows)
    kinds = sorted(pairs, key=lambda pair: CLASSES.index(pair[0]))  # what leads stays in the order of the file
    several = len({led_by for kind, led_by in kinds if kind != ANY}) > 1
    figure_, axes = plt.subplots(
        2, len(kinds), figsize=(3.4 * len(kinds) + 1, 6), sharex=True, squeeze=False, constrained_layout=True
    )
    for column, kind in enumerate(kinds):
        for line_, name in enumerate(METRICS):
            axis = axes[line_, column]
            mine = [row for row in rows if (row["class"], row["led_by"]) == kind]
            for number, solver in enumerate(SOLVERS):
                here = sorted((row for row in mine if row["solver"] == solver), key=lambda row: row["network_calls"])
                if not here:
                    continue
                calls, values = [row["network_calls"] for row in here], np.array([row[name]["value"] for row in here])
                ends = np.array([row[name]["interval"] for row in here]).T
                axis.errorbar(
                    np.array(calls) * 1.03 ** (number - 1.5),  # beside one another
                    values,
                    [np.maximum(0, values - ends[0]), np.maximum(0, ends[1] - values)],
                    marker="o",
                    markersize=4,
                    capsize=2,
                    linewidth=1,
                    label=solver,
                )
            axis.axhspan(*mine[0][f"{name}_real"]["interval"], color="0.85", label="real against real")
            axis.axhline(mine[0][f"{name}_real"]["value"], color="0.5", linewidth=1)
            axis.set_xscale("log")
            axis.set_yscale("log" if name == "fid" else "symlog", **({} if name == "fid" else {"linthresh": 0.01}))
            axis.grid(alpha=0.3)
            axis.spines[["top", "right"]].set_visible(False)
        axes[0, column].set_title("no class" if kind[0] == ANY else ", ".join(kind) if several else kind[0])
        ticks = sorted({round(row["network_calls"]) for row in rows})
        axes[1, column].set_xticks(ticks, [str(tick) for tick in ticks])
        axes[1, column].minorticks_off()
        axes[1, column].set_xlabel("network calls an image")
    for axis, name in zip(axes[:, 0], METRICS, strict=True):
        axis.set_ylabel(f"{name.upper()}, features of the judge")
    figure_.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=5, frameon=False)
    figure_.savefig(path, dpi=110)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="malaria-cells")
    parser.add_argument("--weights", help="bundled name or folder [default: as --data]")
    parser.add_argument("--split", default="test")
    parser.add_argument("--classes", nargs="+", choices=CLASSES, default=list(CLASSES))
    parser.add_argument("--guides", nargs="+", default=["noisy"], help="what leads to a class: noisy, cfg, noisy+cfg")
    parser.add_argument("--solvers", nargs="+", choices=SOLVERS, default=list(SOLVERS))
    parser.add_argument("--steps", nargs="+", type=int, default=[5, 10, 20, 50])
    parser.add_argument("--images", type=int, default=96, help="of each class, solver and number of steps")
    parser.add_argument("--draws", type=int, default=200, help="of patients, for the intervals")
    parser.add_argument("--repeats", type=int, default=10, help="sets of real images that a figure is the mean over")
    parser.add_argument("--out", type=Path, default=Path("runs/generate"), help="folder for what is generated")
    parser.add_argument("--table", action="store_true", help="show what the file holds, and run nothing")
    parser.add_argument("--picture", type=Path, help="curves over network calls")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write all figures here")
    return parser


if __name__ == "__main__":
    main()
