"""What does a control branch buy? Outlines kept by an edit with and without it, at equal flips by the judge.

    python benchmarks/control.py --control-model runs/control/model.safetensors --control outline --limit 96
    python benchmarks/control.py --data malaria-cells-rgb --control-model runs/control-rgb/model.safetensors --limit 48
    python benchmarks/control.py --data road_damage_64.npz --weights runs/road --control edges --control-model ...

Both edits are run at several strengths (--ratios; the scale rises with them, as on the ladder, for the smaller of the
two is the strength), without ladder and trim, which would hide what the edit itself moves. An
outline is kept by the intersection over union of its pixels, those of the source with those of the counterfactual,
each widened by one pixel. The two curves, outlines over flips, are compared where both are: at the flip rate in the
middle of what both reach. Intervals are 95 %, bootstrapped over groups. Rows of --json that are of other data, lines,
ways of editing (--edit) or directions stay there.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rows import Rows
from scipy import ndimage

from cfdiff.data.values import unit
from cfdiff.metrics.intervals import group_weights, widened
from cfdiff.registry import CONTROLS
from cfdiff.settings import resolve
from cfdiff.store import open_result
from cfdiff.translate.run import translate
from cfdiff.translate.settings import TranslateSettings
from cfdiff.version import __version__

WIDER = np.ones((3, 3), bool)


def main() -> None:
    options = _parser().parse_args()
    given = {key: json.loads(value) for key, _, value in (item.partition("=") for item in options.set)}
    rows = Rows(options.json, {"benchmark": "control"}, ["data", "control", "edit", "from"])
    for start in options.directions:
        runs: dict[str, list[dict[str, Any]]] = {"without": [], "with": []}
        for ratio in options.ratios:
            for name, of in runs.items():
                of.append(_run(options, {**given, "ratio": ratio, "from": start}, name == "with"))
                print(start, name, ratio, f"flips {of[-1]['flips'].mean():.3f}, outlines {of[-1]['kept'].mean():.4f}")
        row = {
            "data": Path(options.data).name,
            "control": options.control,
            "edit": runs["with"][0]["edit"],
            "from": start,
        }
        row |= {"cfdiff": __version__, "seed": options.seed, "limit": options.limit, "set": given}
        row |= compared(runs, options.ratios, options.seed)
        print(json.dumps(row, indent=1))
        rows.put(row)


def _run(options: argparse.Namespace, values: dict[str, Any], held: bool) -> dict[str, Any]:
    """Of each image: whether the judge sees the class asked for, and how well its outline is kept; and its group. Of
    all, the way of editing and the change."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "run.h5"
        values = {"data": options.data, "retries": 0, "trim": 0, **values, "out": out, "seed": options.seed}
        values |= {"limit": options.limit} if options.limit else {}
        values |= {"weights": options.weights} if options.weights else {}
        values |= {"edit": options.edit} if options.edit else {}
        values |= {"threads": options.threads}
        branch = {"control": options.control, "control_model": options.control_model}
        values |= {"mask": "none"} | (branch if held else {"control": "none"})  # whatever the recipe says
        if options.keep:
            options.keep.mkdir(parents=True, exist_ok=True)
            name = f"{values['from']}-{values['ratio']}-{'with' if held else 'without'}"
            values |= {"preview": options.keep / f"{name}.png"}
        usual = resolve(TranslateSettings, None, {k: v for k, v in values.items() if k != "ratio"})
        values = {"scale": usual.scale * values["ratio"] / (usual.ratio or 1.0), **values}
        translate(resolve(TranslateSettings, None, values))
        with open_result(out) as run:
            source, edited, target = run["source"][:], run["counterfactual"][:], run["target"][:]
            judge = run["prob/judge"][:][:, 1]
            groups = run["group"][:] if "group" in run else run["id"][:]
            edit = str(run.settings["edit"])
    change = np.abs(unit(edited) - unit(source)).mean((1, 2, 3))
    lines = [CONTROLS[options.control](images) > 0 for images in (source, edited)]
    kept = np.array([overlap(a, b) for a, b in zip(*lines, strict=True)])
    group = np.asarray(groups).astype(str)
    return {"flips": judge.argmax(1) == target, "kept": kept, "group": group, "change": change, "edit": edit}


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two sets of line pixels (H, W) bool, each widened by a pixel; 1 where both are
    empty."""
    a, b = (ndimage.binary_dilation(lines, WIDER) for lines in (a, b))
    union = (a | b).sum()
    return float((a & b).sum() / union) if union else 1.0


def compared(runs: dict[str, list[dict[str, Any]]], ratios: list[float], seed: int) -> dict[str, Any]:
    """The two curves, and their difference at one flip rate."""
    flips = {name: np.array([one["flips"] for one in of], float) for name, of in runs.items()}
    kept = {name: np.array([one["kept"] for one in of]) for name, of in runs.items()}
    groups = runs["with"][0]["group"]
    n = len(groups)
    low = max(of.mean(1).min() for of in flips.values())
    high = min(of.mean(1).max() for of in flips.values())
    at = (low + high) / 2

    def outlines(name: str, weights: np.ndarray) -> float:
        rate, value = flips[name] @ weights / weights.sum(), kept[name] @ weights / weights.sum()
        order = np.argsort(rate)
        return float(np.interp(at, rate[order], value[order]))

    draws = np.array([[outlines(name, w) for name in runs] for w in group_weights(n, groups, 1000, seed)])
    means = {name: outlines(name, np.ones(n)) for name in runs}
    difference = means["with"] - means["without"]
    interval = {name: widened(means[name], draws[:, i], n, groups) for i, name in enumerate(runs)}
    return {
        "images": n,
        "groups": len(np.unique(groups)),
        "ratios": list(ratios),
        "flips": {name: of.mean(1).tolist() for name, of in flips.items()},
        "outlines": {name: of.mean(1).tolist() for name, of in kept.items()},
        "change": {name: [float(one["change"].mean()) for one in of] for name, of in runs.items()},
        "at_flips": at,
        "outline_iou": {name: {"value": means[name], "interval": interval[name]} for name in runs},
        "difference": {
            "value": difference,
            "interval": widened(difference, draws[:, 1] - draws[:, 0], n, groups),
        },
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="malaria-cells")
    parser.add_argument("--weights")
    parser.add_argument("--control", default="outline", choices=list(CONTROLS))
    parser.add_argument("--control-model", type=Path, required=True)
    parser.add_argument("--directions", nargs="+", default=["negative", "positive"])
    parser.add_argument("--ratios", nargs="+", type=float, default=[0.1, 0.2, 0.3, 0.5])
    parser.add_argument("--edit", help="anchored, regenerate, ... [default: as the recipe of the weights has it]")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=JSON", help="further settings of translate")
    parser.add_argument("--keep", type=Path, help="folder for a preview of each run")
    parser.add_argument("--json", type=Path)
    return parser


if __name__ == "__main__":
    main()
