"""Are the edits real on data that nobody tuned for? `cfdiff fit` and its recipe on public sets, untouched by hand.

    python benchmarks/anyone.py ../shared/data --out runs/anyone --minutes 60 --json benchmarks/results/anyone-cpu.json
    python benchmarks/anyone.py ../shared/data --only deeppcb road          some of them; other rows stay as they are

Each set is fitted (`cfdiff fit`, which goes on where it was stopped), then at most --limit test images of each class
are translated with the recipe, and evaluated. All samples, images as saved, groups that no model learned from; the
judge's share stands beside its recall, what it says of real images of the class asked for. Intervals are over groups.
In the file, rows of other --threads stay.
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

import cfdiff
from cfdiff.evaluate.result import Evaluation
from cfdiff.progress import progress_bar


def colour_cells(folder: Path, out: Path) -> Path:
    """The malaria cells in colour at half their size, 64 px; the split by patient that they come with."""
    with np.load(folder / "malaria_rgb_128.npz") as z:
        arrays = {key: z[key] for key in z.files}
    n, side, _, channels = arrays["images"].shape
    halves = arrays["images"].reshape(n, side // 2, 2, side // 2, 2, channels).mean((2, 4))
    arrays["images"] = np.rint(halves).astype(np.uint8)
    np.savez(out, **arrays)
    return out


def tiles(folder: Path, out: Path) -> Path:
    """Magnetic tiles with the names of their classes."""
    with np.load(folder / "magnetic_tile_64.npz") as z:
        arrays = {key: z[key] for key in z.files}
    np.savez(out, **arrays, classes=np.array(["free", "defect"]), group=arrays["cluster"].astype(str))
    return out


Prepare = Callable[[Path, Path], Path]
SETS: dict[str, str | Prepare] = {
    "pneumonia": "pneumoniamnist.npz",
    "road": "road_damage_64.npz",
    "deeppcb": "deeppcb_64.npz",
    "tiles": tiles,
    "colour cells": colour_cells,
    "colour cells 128": "malaria_rgb_128.npz",
}


def prepared(name: str, folder: Path, out: Path) -> Path:
    """The file of a set, of those in a folder; what must be made of one is written to `out`."""
    where = SETS[name]
    return folder / where if isinstance(where, str) else where(folder, out)


def main() -> None:
    options = _parser().parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = json.loads(options.json.read_text())["rows"] if _goes_on(options) else []
    for name in options.only or SETS:
        others = [row for row in rows if (row["set"], row["threads"]) != (name, options.threads)]
        rows = others + measure(name, options)
        if options.json:
            report = {"benchmark": "anyone", "minutes": options.minutes, "seed": options.seed, "rows": rows}
            options.json.write_text(json.dumps(report, indent=1) + "\n")
    Console(width=170).print(table(rows))


def measure(name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each direction of a set."""
    folder = options.out / name.replace(" ", "-")
    data = prepared(name, options.data, folder.with_suffix(".npz"))
    common = {"threads": options.threads, "seed": options.seed, "device": options.device}
    with progress_bar(name) as progress:
        fitted = cfdiff.fit(data, out=folder, minutes=options.minutes, progress=progress, **common)
    rows = []
    for start, end in (("negative", "positive"), ("positive", "negative")):
        out = folder / f"test-{start}.h5"
        common_data = {"data": str(data), "splits": folder / "splits.csv"}
        with progress_bar(f"{name}: {start} to {end}") as progress:
            summary = cfdiff.translate(
                **common_data,
                weights=str(folder),
                from_=start,
                split="test",
                limit=options.limit,
                out=out,
                preview=out.with_suffix(".png"),
                force=True,
                progress=progress,
                **common,
            )
            measured = cfdiff.evaluate(
                out, **common_data, weights=str(folder), faithfulness=False, progress=progress, **common
            )
        rows.append(
            {
                "set": name,
                "minutes": fitted.minutes,
                "threads": options.threads,
                "recipe": fitted.recipe[start],
                "validation": fitted.accuracy,
                **summary.as_json(),
                **_figures(measured),
            }
        )
    return rows


def _figures(measured: Evaluation) -> dict[str, Any]:
    """The figures of evaluate that the table shows: value and ends."""
    wanted = {
        "realistic": ("moved", "moved_real", "kid"),
        "noise": ("high_frequency", "high_frequency_real"),
        "where": ("auprc", "auroc"),
        "pair": ("error_removed", "restored", "sound_changed", "twin_dice"),
    }
    found: dict[str, Any] = {}
    for section, names in wanted.items():
        figures = measured.sections[section].figures if section in measured.sections else {}
        for name, figure in figures.items():
            if any(name.startswith(part) for part in names):
                found[name] = {"value": figure.all.value, "interval": figure.all.interval}
    return found


def table(rows: list[dict[str, Any]]) -> Table:
    """A line a set and direction."""
    heads = (
        "set",
        "from",
        "n",
        "judge",
        "its recall",
        "verifier",
        "checker",
        "|difference|",
        "calls",
        "moved",
        "minutes",
        "threads",
    )
    shown = Table(*heads, title="fit on data that nobody tuned for", title_justify="left")
    for row in rows:
        recall = row.get("recall", {}).get("judge", {}).get("share")
        low, high = row["flipped_judge_95"]
        moved = row.get("moved", {}).get("value")
        shown.add_row(
            row["set"],
            row["direction"].split(" ")[0],
            str(row["images"]),
            f"{row['flipped_judge']:.1%} ({low:.0%}-{high:.0%})",
            "-" if recall is None else f"{recall:.1%}",
            f"{row['flipped_verifier']:.1%}",
            f"{row['flipped_checker']:.1%}",
            f"{row['mean_abs_difference']:.4f}",
            f"{row['network_calls']:.0f}",
            "-" if moved is None else f"{moved:.2f}",
            f"{row['minutes']:.0f}",
            str(row["threads"]),
        )
    return shown


def _goes_on(options: argparse.Namespace) -> bool:
    return options.json is not None and options.json.exists() and options.only is not None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with the data sets")
    parser.add_argument("--out", type=Path, default=Path("runs/anyone"), help="folder for fits and results")
    parser.add_argument("--only", nargs="*", choices=list(SETS))
    parser.add_argument("--minutes", type=float, default=60.0, help="of each fit")
    parser.add_argument("--limit", type=int, default=128, help="test images a direction")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write all figures here")
    return parser


if __name__ == "__main__":
    main()
