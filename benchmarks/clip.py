"""What do words add? An image-text model of the cells, what it knows of new patients, and what it does as a guide.

    python benchmarks/clip.py --out runs/clip-benchmark --json benchmarks/results/clip.json
    python benchmarks/clip.py --out /tmp/clip --steps 4 --limit 2 --zero-shot 40           to see whether it runs

Captions of our own (`cfdiff data captions`), `cfdiff train-clip` with configs/malaria-cells/clip.toml, then retrieval
between images and captions of test patients (`cfdiff zero-shot`). The first --limit test cells of each class are
translated to the other by --guides, with the defaults of the weights in all else: flips by the judge and change, and
the difference from the first of the guides image by image. The checker accepts, whoever leads. Intervals are over
patients. What is trained stays in --out and is not trained again; rows that --json holds stay there.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rows import Rows

import cfdiff
from cfdiff.data.attributes import BUNDLED_WORDS, describe
from cfdiff.data.captions import write_captions
from cfdiff.data.open import open_source
from cfdiff.metrics.intervals import mean_interval
from cfdiff.store import open_result

WEIGHTS = "malaria-cells"
CONFIG = Path(__file__).parents[1] / "configs" / "malaria-cells" / "clip.toml"
GUIDES = ("noisy+clean", "noisy+clean+clip", "clip")
STARTS = ("negative", "positive")


def main() -> None:
    options = _parser().parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    told = {key: getattr(options, key) for key in ("data", "minutes", "steps", "limit", "zero_shot", "seed")}
    told["data"] = Path(told["data"]).name
    report = Rows(options.json, {"benchmark": "clip", **told}, ["what", "guides", "from"])
    captions = captioned(options)
    model = trained(captions, options)
    report.put({"what": "training", **model.figures()})
    if options.zero_shot:
        known = cfdiff.zero_shot(
            model=model.model,
            data=options.data,
            captions=captions,
            split="test",
            limit=options.zero_shot,
            seed=options.seed,
            threads=options.threads,
            device=options.device,
        )
        report.put({"what": "zero-shot", **known.as_json()})
    for start in STARTS:
        first: dict[str, np.ndarray] | None = None
        for guides in options.guides:
            row, edits = edited(guides, start, model.model, options)
            first = first or edits
            for name, values in edits.items():
                if name != "group":
                    against = values - first[name]
                    interval = mean_interval(against, edits["group"], (-1, 1))
                    row[f"{name}_against_first"] = {"value": float(against.mean()), "interval": interval}
            report.put({"what": "guide", "guides": guides, "from": start, **row, "first": options.guides[0]})
    for shown in tables(report.rows):
        Console(width=150).print(shown)


def captioned(options: argparse.Namespace) -> Path:
    """The captions of all images, as `cfdiff data captions` makes them."""
    path: Path = options.out / "captions.csv"
    if not path.exists():
        source, words = open_source(options.data), BUNDLED_WORDS[WEIGHTS]
        said, found = describe(source, options.data, words.noun, words.spot)
        write_captions(source, said, found, path)
    return path


def trained(captions: Path, options: argparse.Namespace) -> Any:
    """The image-text model."""
    told: dict[str, Any] = {"steps": options.steps} if options.steps else {}
    return cfdiff.train_clip(
        config=CONFIG,
        data=options.data,
        captions=captions,
        out=options.out / "clip",
        max_minutes=options.minutes,
        texts=options.texts,
        seed=options.seed,
        threads=options.threads,
        device=options.device,
        **told,
    )


def edited(
    guides: str, start: str, model: Path, options: argparse.Namespace
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What a translation came to; and of each image flip and change, and its group."""
    out = options.out / f"{guides.replace('+', '-')}-{start}.h5"
    summary = cfdiff.translate(
        data=options.data,
        weights=WEIGHTS,
        guides=guides,
        image_text=model if "clip" in guides else None,
        from_=start,
        split="test",
        limit=options.limit,
        seed=options.seed,
        threads=options.threads,
        device=options.device,
        out=out,
        preview=out.with_suffix(".png"),
        force=True,
    )
    with open_result(out) as run:
        source, edit = (run[name][:].astype(np.float64) / 255 for name in ("source", "counterfactual"))
        flips = run["prob/judge"][:][:, 1].argmax(1) == run["target"][:]
        groups = run["group"][:] if "group" in run else run["id"][:]
    change = np.abs(edit - source).mean((1, 2, 3))
    return dict(summary.as_json()), {"flip": flips.astype(float), "change": change, "group": groups}


def tables(rows: list[dict[str, Any]]) -> list[Table]:
    """What it knows, and what it does."""
    shown = []
    for row in rows:
        if row["what"] == "zero-shot":
            known = Table(
                "", "right", "chance", "commonest", title=f"{row['images']} cells of {row['groups']} patients"
            )
            for name, rate in row["rates"].items():
                common = "" if rate["commonest"] is None else f"{rate['commonest']:.1%}"
                known.add_row(name, between(rate, "{:.1%}"), f"{rate['chance']:.1%}", common)
            shown.append(known)
    edits = Table("guides", "from", "n", "judge", "against the first", "change", "against the first", "calls")
    for row in rows:
        if row["what"] != "guide":
            continue
        low, high = row["flipped_judge_95"]
        edits.add_row(
            row["guides"],
            row["from"],
            str(row["images"]),
            f"{row['flipped_judge']:.1%} ({low:.1%}-{high:.1%})",
            between(row["flip_against_first"], "{:+.3f}"),
            f"{row['mean_abs_difference']:.4f}",
            between(row["change_against_first"], "{:+.4f}"),
            f"{row['network_calls']:.0f} + {row['guide_calls']:.0f}",
        )
    return [*shown, edits]


def between(figure: dict[str, Any], form: str) -> str:
    """A number and its interval."""
    low, high = figure["interval"] or (float("nan"),) * 2
    return f"{form.format(figure['value'])} ({form.format(low)} to {form.format(high)})"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="malaria-cells", help="these cells, or all of them as a file with splits")
    parser.add_argument("--out", type=Path, default=Path("runs/clip-benchmark"), help="folder for model and results")
    parser.add_argument("--minutes", type=float, default=12.0, help="of the training at most")
    parser.add_argument("--steps", type=int, help="of the training [default: as the config says]")
    parser.add_argument("--texts", default="an uninfected cell|a parasitized cell")
    parser.add_argument("--zero-shot", type=int, default=1937, metavar="N", help="test images of it; 0: not")
    parser.add_argument("--guides", nargs="+", default=list(GUIDES))
    parser.add_argument("--limit", type=int, default=48, help="test images a direction")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="write all figures here")
    return parser


if __name__ == "__main__":
    main()
