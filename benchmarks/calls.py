"""What do fewer network calls cost? Flips by the judge and size of the change for every solver and number of steps.

    python benchmarks/calls.py --json benchmarks/results/calls.json --picture docs/images/calls.png
    python benchmarks/calls.py --student STUDENT.safetensors --json benchmarks/results/calls.json      and distilled
    python benchmarks/calls.py --table --json benchmarks/results/calls.json           the table, and nothing is run

Bundled cells of the validation patients, the recipe of the weights in all else. Calls are of the diffusion network, a
mean over images; those of which the checkers are not sure climb the ladder and have more. Settings that the file holds
are not run again. Intervals are 95 %, over patients.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from cfdiff.settings import resolve
from cfdiff.store import open_result
from cfdiff.translate.run import translate
from cfdiff.translate.settings import TranslateSettings
from cfdiff.version import __version__

STEPS = {"dpm++": (3, 4, 5, 6, 7, 8), "ddim": (3, 4, 5, 6, 15), "unipc": (4, 6), "heun": (3, 4)}
STUDENT = {"dpm++": (3, 4), "ddim": (3, 4)}
"""Of a student of `train-diffusion --distil`, where --student gives one."""
VARIANTS: dict[str, dict[str, Any]] = {
    f"{solver}, {steps} steps": {"solver": solver, "steps": steps, "settle": 1}
    for solver, of in STEPS.items()
    for steps in of
} | {f"dpm++, {steps} steps, the whole ladder": {"solver": "dpm++", "steps": steps, "settle": 4} for steps in (5, 6, 8)}
VARIANTS |= {
    f"{solver}, {steps} steps, distilled": {"solver": solver, "steps": steps, "settle": 1, "distilled": True}
    for solver, of in STUDENT.items()
    for steps in of
}
VARIANTS |= {  # encode at two levels for each step of decode
    f"dpm++, {2 * steps} up and {steps} down": {"solver": "dpm++", "steps": steps, "settle": 1, "encode_per_step": 2}
    for steps in (3, 4)
}
VARIANTS = {name: {**given, "early": False} for name, given in VARIANTS.items()}
VARIANTS |= {  # a walk ends where the image would be accepted as it stands
    f"{solver}, {steps} steps, early{'' if settle else ', one try'}": {
        "solver": solver,
        "steps": steps,
        "settle": settle,
        "early": True,
    }
    for solver, steps in (("dpm++", 5), ("dpm++", 6), ("dpm++", 7), ("ddim", 4), ("ddim", 5), ("ddim", 6))
    for settle in (1, 0)
}
STARTS = ("negative", "positive")


def run(name: str, start: str, options: argparse.Namespace) -> dict[str, Any]:
    """One setting, one direction."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "run.h5"
        given = {"from": start, "split": options.split, "limit": options.limit, "seed": options.seed}
        given |= {"threads": options.threads, "out": out, **VARIANTS[name]}
        if given.pop("distilled", False):
            given["diffusion"] = options.student
        summary = translate(resolve(TranslateSettings, None, given))
        with open_result(out) as result:
            retries = np.bincount(result["guidance/retries"][:]).tolist()
    return {"variant": name, "from": start, "settings": VARIANTS[name], "rungs": retries, **summary.as_json()}


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Markdown, a row a setting, both directions."""
    lines = [
        "| setting | to positive: judge, change, calls | to negative: judge, change, calls | n |",
        "|---|---|---|---|",
    ]
    for name in dict.fromkeys(row["variant"] for row in rows):
        cells = []
        for start in STARTS:
            row = next((row for row in rows if (row["variant"], row["from"]) == (name, start)), None)
            cells.append("" if row is None else _cell(row))
        n = " and ".join(sorted({str(row["images"]) for row in rows if row["variant"] == name}))
        lines.append(f"| {name} | {' | '.join(cells)} | {n} |")
    return lines


def _cell(row: dict[str, Any]) -> str:
    low, high = row["flipped_judge_95"]
    share = f"{row['flipped_judge']:.1%} ({low:.0%}-{high:.0%})"
    return f"{share}, {row['mean_abs_difference']:.4f}, {row['network_calls']:.1f}"


LOOKS = {
    "": {"linestyle": "-", "marker": "o"},
    "distilled": {"linestyle": ":", "marker": "s"},
    "early": {"linestyle": "--", "marker": "^"},
    "early, one try": {"linestyle": "-.", "marker": "v"},
}
"""Of the lines of the picture, by kind of setting."""


def _kind(settings: dict[str, Any]) -> str | None:
    """The kind of line in the picture that a setting is a point of; None for one that is none."""
    if "encode_per_step" in settings or settings["settle"] > 1:
        return None
    if settings.get("early"):
        return "early" if settings["settle"] else "early, one try"
    return "distilled" if settings.get("distilled") else ""


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Flips and change over calls, a line a solver, a column a direction; lines join settings of one solver."""
    figure, axes = plt.subplots(2, 2, figsize=(9, 6), sharex=True, sharey="row", constrained_layout=True)
    for column, start in enumerate(STARTS):
        whole = [row for row in rows if row["from"] == start and row["settings"]["settle"] > 1]
        for line, (key, scale) in enumerate((("flipped_judge", 100), ("mean_abs_difference", 1))):
            points = [row["network_calls"] for row in whole], [scale * row[key] for row in whole]
            axes[line, column].plot(*points, "kx", label="dpm++, the whole ladder" if whole else None)
        for number, (solver, kind) in enumerate((solver, kind) for kind in LOOKS for solver in STEPS):
            here = [row for row in rows if row["from"] == start and row["settings"]["solver"] == solver]
            here = [row for row in here if _kind(row["settings"]) == kind]
            here.sort(key=lambda row: row["settings"]["steps"])
            look: dict[str, Any] = {**LOOKS[kind], "color": f"C{list(STEPS).index(solver)}", "markersize": 4}
            look |= {"label": solver + (kind and f", {kind}")} if here else {}
            calls = [row["network_calls"] for row in here]
            for line, (key, scale) in enumerate((("flipped_judge", 100), ("mean_abs_difference", 1))):
                axes[line, column].plot(calls, [scale * row[key] for row in here], **look)
            for row in (*here, *(() if number else whole)):
                place = (row["network_calls"], row["mean_abs_difference"])
                axes[1, column].annotate(
                    str(row["settings"]["steps"]), place, (3, 3), textcoords="offset points", size=7
                )
        axes[0, column].set_title(
            ("negative \N{RIGHTWARDS ARROW} positive", "positive \N{RIGHTWARDS ARROW} negative")[column]
        )
        axes[1, column].set_xlabel("network calls an image (the numbers are steps)")
    axes[0, 0].set_ylabel("flipped, by the judge (%)")
    axes[1, 0].set_ylabel("mean |difference|")
    axes[0, 0].legend(frameon=False)
    for axis in axes.flat:
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[1, 0].set_ylim(bottom=0)
    figure.savefig(path, dpi=110)


def main() -> None:
    options = _parser().parse_args()
    report: dict[str, Any] = {"benchmark": "calls", "cfdiff": __version__, "split": options.split, "rows": []}
    report["seed"] = options.seed
    if options.json and options.json.exists():
        report = json.loads(options.json.read_text())
    rows = report["rows"]
    wanted = [name for name in VARIANTS if not options.only or any(part in name for part in options.only)]
    wanted = [name for name in wanted if options.student or "distilled" not in VARIANTS[name]]
    for name in [] if options.table else wanted:
        for start in options.directions:
            if any((row["variant"], row["from"]) == (name, start) for row in rows):
                continue
            rows.append(run(name, start, options))
            print(f"{name}, from {start}: {_cell(rows[-1])}, rungs {rows[-1]['rungs']}", flush=True)
            if options.json:
                options.json.write_text(json.dumps(report, indent=1) + "\n")
    print("\n".join(table(rows)))
    if options.picture:
        draw(rows, options.picture)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", help="settings whose name contains one of these")
    parser.add_argument("--directions", nargs="*", default=list(STARTS), help="classes to start from")
    parser.add_argument("--limit", type=int, default=48, help="images a direction")
    parser.add_argument("--split", default="val")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--student", type=Path, help="model of train-diffusion --distil: measure it too")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="print what the file holds; run nothing")
    parser.add_argument("--json", type=Path, help="write all figures here, and go on from what it holds")
    parser.add_argument("--picture", type=Path, help="draw it here")
    return parser


if __name__ == "__main__":
    main()
