"""How good are the counterfactuals? Flips by the independent judge against the size of the change.

    python benchmarks/quality.py                       default settings, both directions, all test images
    python benchmarks/quality.py --ablation --limit 256
    python benchmarks/quality.py --curve --limit 128   trade-off over ratio, depth and steps

Every figure is over all samples, from the images as saved, on patients that none of the models saw. Intervals are 95 %,
over patients (cfdiff.metrics.intervals).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from cfdiff.settings import resolve
from cfdiff.translate.run import translate
from cfdiff.translate.settings import TranslateSettings
from cfdiff.version import __version__

DEFAULT: dict[str, dict[str, Any]] = {"default": {}}
ABLATION: dict[str, dict[str, Any]] = {
    "default (anchored, closed loop, ladder)": {},
    "plain decode": {"anchored": False},
    "fixed-point inversion, plain decode": {"inversion": "fixed-point", "anchored": False},
    "fixed-point inversion, anchored": {"inversion": "fixed-point"},
    "noise instead of inversion, anchored": {"inversion": "noise"},
    "noise instead of inversion, plain (SDEdit)": {"inversion": "noise", "anchored": False},
    "open loop": {"closed_loop": False},
    "no ladder": {"retries": 0},
    "open loop, no ladder": {"closed_loop": False, "retries": 0},
    "automatic mask": {"mask": "auto"},
    "noisy guide alone": {"guides": "noisy"},
    "clean guide alone": {"guides": "clean"},
    "DPM-Solver++(2M)": {"solver": "dpm++"},
}
CURVE: dict[str, dict[str, Any]] = {
    f"ratio {ratio}, depth {depth}, {steps} steps, no ladder": {
        "ratio": ratio, "depth": depth, "steps": steps, "retries": 0,
    }
    for depth in (0.3, 0.45, 0.6)
    for steps in (15, 30)
    for ratio in (0.2, 0.4, 0.8)
}  # fmt: skip
COLUMNS = ("direction", "n", "judge", "checker", "mean |difference|", "U-Net calls", "s / image")


def main() -> None:
    options = _parser().parse_args()
    variants = {**DEFAULT}
    if options.ablation:
        variants = ABLATION
    if options.curve:
        variants = CURVE
    if options.only:
        variants = {name: v for name, v in variants.items() if any(part in name for part in options.only)}
    given = {k: json.loads(v) for k, _, v in (item.partition("=") for item in options.set)}
    rows = []
    console = Console(width=150)
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for name, variant in variants.items():
            for start in options.directions:
                out = Path(options.keep or scratch) / f"{len(rows):03d}-{start}.h5"
                values = {**given, **variant, "from": start, "out": out, "force": True, "seed": options.seed}
                if options.limit:
                    values["limit"] = options.limit
                if options.preview:
                    values["preview"] = out.with_suffix(".png")
                summary = translate(resolve(TranslateSettings, None, values))
                rows.append({"variant": name, "settings": {**given, **variant}, **summary.as_json()})
                console.print(json.dumps(_line(rows[-1])), style="dim", highlight=False)
                if options.json:
                    options.json.write_text(json.dumps(_report(options, rows), indent=1) + "\n")
    console.print(_table(rows, options))
    if options.markdown:
        print("\n".join(_markdown(rows)))


def _line(row: dict[str, Any]) -> dict[str, Any]:
    keys = ("variant", "direction", "images", "flipped_judge", "flipped_checker", "mean_abs_difference")
    return {k: row.get(k) for k in keys}


def _report(options: argparse.Namespace, rows: list[dict[str, Any]]) -> dict[str, Any]:
    facts = {"cfdiff": __version__, "torch": torch.__version__, "threads": torch.get_num_threads()}
    return {"benchmark": "quality", "seed": options.seed, **facts, "rows": rows}


def _table(rows: list[dict[str, Any]], options: argparse.Namespace) -> Table:
    table = Table("variant", *COLUMNS, title=f"quality, seed {options.seed}, 95 % intervals", title_justify="left")
    for row in rows:
        seconds = row["seconds_per_image"]
        low, high = row["mean_abs_difference_95"] or (float("nan"),) * 2
        table.add_row(
            row["variant"],
            row["direction"].split(" ")[0] + " \N{RIGHTWARDS ARROW}",
            str(row["images"]),
            _share(row, "judge"),
            _share(row, "checker"),
            f"{row['mean_abs_difference']:.4f} ({low:.4f}-{high:.4f})",
            f"{row['network_calls']:.0f}",
            "-" if seconds is None else f"{seconds:.2f}",
        )
    return table


def _markdown(rows: list[dict[str, Any]]) -> list[str]:
    """The table as markdown."""
    lines = ["| " + " | ".join(("setting", *COLUMNS)) + " |", "|" + "---|" * (len(COLUMNS) + 1)]
    for row in rows:
        low, high = row["mean_abs_difference_95"] or (float("nan"),) * 2
        cells = (
            row["variant"],
            "negative \N{RIGHTWARDS ARROW} positive"
            if row["direction"].startswith("negative")
            else "positive \N{RIGHTWARDS ARROW} negative",
            str(row["images"]),
            _share(row, "judge"),
            _share(row, "checker"),
            f"{row['mean_abs_difference']:.4f} ({low:.4f}-{high:.4f})",
            f"{row['network_calls']:.0f}",
            "-" if row["seconds_per_image"] is None else f"{row['seconds_per_image']:.2f}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _share(row: dict[str, Any], who: str) -> str:
    low, high = row[f"flipped_{who}_95"]
    return f"{row[f'flipped_{who}']:.1%} ({low:.1%}-{high:.1%})"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ablation", action="store_true", help="the parts of the method, one left out at a time")
    parser.add_argument("--curve", action="store_true", help="the trade-off over ratio, depth and steps")
    parser.add_argument("--only", nargs="*", help="variants whose name contains one of these")
    parser.add_argument("--limit", type=int, help="images a direction [default: all of the test split]")
    parser.add_argument("--directions", nargs="*", default=["negative", "positive"])
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=JSON", help="settings for every variant")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the result files [default: none are kept]")
    parser.add_argument("--preview", action="store_true", help="a picture beside each result that is kept")
    parser.add_argument("--markdown", action="store_true", help="print the table as markdown too")
    parser.add_argument("--json", type=Path, help="write all figures here")
    return parser


if __name__ == "__main__":
    main()
