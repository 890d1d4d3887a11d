"""The figures of the study from its lines: paired differences over patients, the claim, the forest plot, the power."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from mil_study_arms import ARMS, RIVALS, SHARES, TRANSLATED

from cfdiff.figures.panel import save
from cfdiff.metrics.intervals import bootstrap_rows

BASE = "real only"
DETECTED = 2.8
"""z(.975) + z(.8): a difference of so many standard errors is seen in 80 % of studies at 5 %, two-sided."""
MEASURES = {
    "auroc": "AUROC, infected against healthy patients",
    "within": "share of patients whose bag scores higher with its positives than without",
    "mae": "mean |fraction - true|",
}


def power(healthy: int, infected: int, auroc: float = 0.8, correlation: float = 0.7) -> dict[str, float]:
    """What difference of two AUROCs could be seen with so many patients, by Hanley & McNeil (1982, 1983)."""
    q1, q2, a = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc), auroc
    variance = (a * (1 - a) + (infected - 1) * (q1 - a * a) + (healthy - 1) * (q2 - a * a)) / (infected * healthy)
    error = math.sqrt(variance * 2 * (1 - correlation))
    within = math.sqrt(a * (1 - a) / infected * 2 * (1 - correlation))
    return {
        "healthy": healthy, "infected": infected, "assumed_auroc": auroc, "assumed_correlation": correlation,
        "auroc_difference_seen_in_80_percent": DETECTED * error, "within_difference_at_most": DETECTED * within,
    }  # fmt: skip


class Study:
    """The lines of a study, as statistics of patients.

    Only folds and seeds that every arm there is has at a size count, so that all arms are compared on the same.
    """

    def __init__(self, lines: list[dict[str, Any]], infected: np.ndarray, fraction: np.ndarray) -> None:
        self.infected, self.fraction, self.patients = infected, fraction, len(infected)
        runs: dict[tuple[str, int], dict[str, dict[tuple[int, int], np.ndarray]]] = defaultdict(
            lambda: defaultdict(dict)
        )
        for one in lines:
            runs[one["target"], one["n"]][one["arm"]][one["fold"], one["seed"]] = np.array(one["scores"])
        self.runs: dict[tuple[str, int], dict[str, np.ndarray]] = {}
        self.counts: dict[str, dict[int, int]] = {"label": {}, "fraction": {}}
        there = {one["arm"] for one in lines}
        self.arms = [arm for arm in ARMS if arm in there]
        for (target, n), of_arm in sorted(runs.items()):
            common = sorted(set.intersection(*(set(of_arm.get(arm, {})) for arm in self.arms)))
            if common:
                self.runs[target, n] = {arm: np.stack([of_arm[arm][key] for key in common]) for arm in self.arms}
                self.counts[target][n] = len(common)
        self.made = {
            key: {arm: self._made(key[0], scores) for arm, scores in of_arm.items()}
            for key, of_arm in self.runs.items()
        }

    def _made(self, target: str, scores: np.ndarray) -> dict[str, np.ndarray]:
        """From scores (runs, P, S, DRAWS) what a statistic of patients is a mean of."""
        if target == "fraction":
            error = np.abs(1 / (1 + np.exp(-scores[:, :, 0])) - self.fraction)
            return {"mae": error.mean((0, 2))}
        sick, well = scores[:, self.infected], scores[:, ~self.infected, 0]
        above = [_above(sick[:, :, s], well) for s in range(1, scores.shape[2])]
        within = [_higher(sick[:, :, s], sick[:, :, 0]).mean((0, 2)) for s in range(1, scores.shape[2])]
        return {"auroc": np.stack(above), "within": np.stack(within)}

    def sizes(self, measure: str) -> list[int]:
        """Numbers of training patients that there are figures of."""
        return sorted(self.counts["fraction" if measure == "mae" else "label"])

    def value(self, arm: str, measure: str, rows: np.ndarray, sizes: list[int], shares: list[int]) -> float:
        """A measure over some patients, the mean over sizes and shares; NaN where one class is lacking."""
        if measure == "mae":
            return float(np.mean([self.made["fraction", n][arm]["mae"][rows].mean() for n in sizes]))
        place = np.cumsum(self.infected) - 1, np.cumsum(~self.infected) - 1
        sick, well = place[0][rows[self.infected[rows]]], place[1][rows[~self.infected[rows]]]
        if not len(sick) or not len(well):
            return float("nan")
        found = []
        for n in sizes:
            made = self.made["label", n][arm][measure][shares]
            found.append(made[:, sick].mean() if measure == "within" else made[:, sick][:, :, well].mean())
        return float(np.mean(found))

    def figure(
        self, arm: str, measure: str, sizes: list[int], shares: list[int], less: str | None = None
    ) -> dict[str, Any]:
        """A value, or the paired difference to the arm `less`, with its 95 % interval over patients."""

        def statistic(rows: np.ndarray) -> float:
            other = 0.0 if less is None else self.value(less, measure, rows, sizes, shares)
            return self.value(arm, measure, rows, sizes, shares) - other

        every = np.arange(self.patients)
        names = [str(p) for p in every]
        within = (0.0, 1.0) if less is None else (-1.0, 1.0)
        return {"value": statistic(every), "95": bootstrap_rows(self.patients, names, statistic, 1000, within=within)}

    def report(self) -> dict[str, Any]:
        """All figures, and the claim."""
        every = list(range(len(SHARES)))
        rows = []
        for measure in MEASURES:
            sizes = self.sizes(measure)
            cells: list[tuple[list[int], list[int]]] = [(sizes, every)] if sizes else []
            cells += [([n], every) for n in sizes] if len(sizes) > 1 else []
            cells += [(sizes, [s]) for s in every] if measure != "mae" and sizes else []
            for arm in self.arms:
                for some, shares in cells:
                    row: dict[str, Any] = {"arm": arm, "measure": measure, "patients": some}
                    row["most_positives"] = [SHARES[s] for s in shares] if measure != "mae" else None
                    row |= self.figure(arm, measure, some, shares)
                    if arm != BASE:
                        row["less_real_only"] = self.figure(arm, measure, some, shares, BASE)
                    rows.append(row)
        claims = {m: self.claim(m) for m in MEASURES if self.sizes(m)}
        return {"runs": self.counts, "rows": rows, "claims": claims}

    def claim(self, measure: str) -> dict[str, Any]:
        """Whether both translated arms are above the best rival, by the whole of their interval; None: not all ran."""
        sizes, every = self.sizes(measure), list(range(len(SHARES)))
        whole = np.arange(self.patients)
        sign = -1 if measure == "mae" else 1
        rivals = [arm for arm in RIVALS if arm in self.arms]
        best = max(rivals, key=lambda arm: sign * self.value(arm, measure, whole, sizes, every))
        ours = [arm for arm in TRANSLATED if arm in self.arms]
        gaps = {r: {arm: self.figure(arm, measure, sizes, every, r) for arm in ours} for r in rivals}
        above = all(min(sign * end for end in gap["95"]) > 0 for gap in gaps[best].values())
        helps = above if len(ours) == len(TRANSLATED) or not above else None
        return {"best_rival": best, "less_rivals": gaps, "translation_helps": helps}


def _higher(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a > b) + 0.5 * (a == b)


def _above(sick: np.ndarray, well: np.ndarray) -> np.ndarray:
    """(I, H) how often an infected patient's bags (runs, I, D) score above a healthy one's (runs, H, D)."""
    return _higher(sick[:, :, None, :, None], well[:, None, :, None, :]).mean((0, 3, 4))


def forest(report: dict[str, Any], out: Path) -> Path:
    """Differences to real bags only, an arm a line, a measure a panel; right of the line is better in all three."""
    measures = [m for m in MEASURES if m in report["claims"]]
    there = {row["arm"] for row in report["rows"]}
    arms = [arm for arm in ARMS if arm != BASE and arm in there]
    figure = Figure(figsize=(3.2 + 3.0 * len(measures), 0.32 * len(arms) + 1.4), dpi=170, layout="constrained")
    FigureCanvasAgg(figure)
    axes = np.atleast_1d(figure.subplots(1, len(measures), sharey=True))
    for ax, measure in zip(axes, measures, strict=True):
        sign = -1 if measure == "mae" else 1
        sizes = max((r["patients"] for r in report["rows"] if r["measure"] == measure), key=len)
        for y, arm in enumerate(arms):
            row = next(
                r for r in report["rows"]
                if r["arm"] == arm and r["measure"] == measure and r["patients"] == sizes
                and (measure == "mae" or len(r["most_positives"]) == len(SHARES))
            )  # fmt: skip
            low, high = sorted(sign * end for end in row["less_real_only"]["95"])
            value = sign * row["less_real_only"]["value"]
            colour = "#d1560f" if arm in TRANSLATED else "#2a5c99" if arm in RIVALS else "0.45"
            ax.plot([low, high], [y, y], "-", color=colour, lw=1.4)
            ax.plot([value], [y], "s", color=colour, ms=4.5)
        ax.axvline(0, color="0.3", lw=0.8)
        ax.set_title(
            {"auroc": "AUROC", "within": "with above without positives"}.get(measure, "less error of the fraction"),
            fontsize=9,
        )
        ax.set_xlabel("gain over real bags only", fontsize=8)
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.tick_params(labelsize=7)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(range(len(arms)), arms, fontsize=8)
    axes[0].invert_yaxis()
    return save(figure, out)


def markdown(report: dict[str, Any]) -> str:
    """The table of the docs."""
    gain = "less real only"
    lines = [f"| arm | AUROC | {gain} | with above without | {gain} | error of the fraction | {gain} |"]
    lines.append("|" + "---|" * 7)
    there = {row["arm"] for row in report["rows"]}
    for arm in (arm for arm in ARMS if arm in there):
        cells = [arm]
        for measure in MEASURES:
            sizes = max((r["patients"] for r in report["rows"] if r["measure"] == measure), key=len, default=[])
            row = next(
                (r for r in report["rows"] if r["arm"] == arm and r["measure"] == measure and r["patients"] == sizes),
                None,
            )
            cells += ["", ""] if row is None else [_told(row), _told(row["less_real_only"], "+") if arm != BASE else ""]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _told(row: dict[str, Any], sign: str = "") -> str:
    low, high = row["95"]
    return f"{row['value']:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"
