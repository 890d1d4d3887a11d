"""A new laboratory in a few images: a diffusion model that never saw a stain learns it from 5, 30 or 100 cells.

    python benchmarks/adapt.py ../shared/data --out runs/adapt --minutes 10 --json benchmarks/results/adapt.json

Colour cells (malaria_rgb_128.npz) at 32 px. Their smears are of two stains, a bluish and a pink one, told apart by the
patient's mean colour (two means); the rarer, bluish one is the new laboratory. Diffusion model (--minutes), guide and
checker (--classifier-minutes each) learn from the pink smears alone; the judge from smears of its own, of both. Then
`cfdiff adapt` with 5, 30 and 100 bluish training images, with and without prior preservation, and with all weights
instead of additions of low rank. Of each model: the error of eps on bluish and on pink test cells, and what it is
against the model before, cell by cell; flips by the judge and change of bluish test cells in both directions. Intervals
are over patients. What is trained stays in --out and is not trained again; rows that --json holds stay there, so that
--only adds to them.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from rows import Rows
from sklearn.cluster import KMeans

import cfdiff
from cfdiff.data.open import open_source
from cfdiff.data.source import random_subset
from cfdiff.data.values import to_model
from cfdiff.engine import NoiseSource
from cfdiff.engine.loss import l_simple
from cfdiff.fit.tuning import able
from cfdiff.metrics.intervals import mean_interval
from cfdiff.models.checkpoint import load_model
from cfdiff.train.result import TrainResult

SIDE = 32
DEPTHS = (0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8)
"""Noise levels of the error of eps, fractions of T; the mean over them is shown."""
STEERS, JUDGES = "ese_vovnet19b_slim", "resnet14t"
NAMES = ("before", "5", "30", "100", "30 without prior", "100 without prior", "30, all weights", "30, all, no prior")


def main() -> None:
    options = _parser().parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.classifier_minutes is None:
        options.classifier_minutes = options.minutes
    told = {key: getattr(options, key) for key in ("minutes", "classifier_minutes", "steps", "limit", "val", "seed")}
    report = Rows(options.json, {"benchmark": "adapt", **told}, ["images"])
    old, new, both = stains(options.data / "malaria_rgb_128.npz", options.out)
    models = trained(old, both, options)
    reference = {stain: errors(models["diffusion"], data, options)[0] for stain, data in (("new", new), ("old", old))}
    for name in options.only or NAMES:
        diffusion = models["diffusion"] if name == "before" else adapted(name, old, new, models["diffusion"], options)
        row: dict[str, Any] = {"images": name}
        for stain, data in (("new", new), ("old", old)):
            error, groups = errors(diffusion, data, options)
            against = error - reference[stain]
            row[f"eps_{stain}"] = {"value": float(error.mean()), "interval": mean_interval(error, groups)}
            row[f"eps_{stain}_against_before"] = {
                "value": float(against.mean()),
                "interval": mean_interval(against, groups),
            }
        for start in ("negative", "positive"):
            row[start] = edited(start, diffusion, new, models, name, options)
        report.put(row)
    Console(width=170).print(table(report.rows))


def stains(path: Path, out: Path) -> tuple[Path, Path, Path]:
    """The cells at `SIDE` px of the commoner stain, of the rarer one, and of both, as files."""
    with np.load(path) as z:
        arrays = {key: z[key] for key in z.files}
    n, side, _, channels = arrays["images"].shape
    k = side // SIDE
    small = arrays["images"].reshape(n, SIDE, k, SIDE, k, channels).mean((2, 4))
    patients, whose = np.unique(arrays["patient"], return_inverse=True)
    inside = (small.sum(3) > 30)[..., None]  # the corners are black
    colour = (small * inside).sum((1, 2)) / inside.sum((1, 2))
    colour /= colour.sum(1, keepdims=True)
    means = np.stack([np.median(colour[whose == p], axis=0) for p in range(len(patients))])
    found = KMeans(2, n_init=10, random_state=0).fit(means).labels_
    rare = found == np.argmin(np.bincount(found))
    arrays["images"] = np.rint(small).astype(np.uint8)
    paths = []
    for name, kept in (("pink", ~rare[whose]), ("blue", rare[whose]), ("both", np.ones(n, bool))):
        paths.append(out / f"{name}.npz")
        np.savez(paths[-1], **{key: a if key == "classes" else a[kept] for key, a in arrays.items()})
    return paths[0], paths[1], paths[2]


def trained(old: Path, both: Path, options: argparse.Namespace) -> dict[str, Path]:
    """The models of the old laboratory, and the judge."""
    common = {"val_split": "val", "threads": options.threads, "device": options.device}
    common |= {"group_key": "patient", "augment": "dihedral"}
    steering = {**common, "data": str(old), "split": "train-guide", "seed": options.seed}
    seen = {"upsample": 2, "max_minutes": options.classifier_minutes}
    found = {
        "diffusion": cfdiff.train_diffusion(
            out=options.out / "diffusion",
            width=48,
            batch_size=16,
            condition="class",
            max_minutes=options.minutes,
            **steering,
        ),
        "guide": cfdiff.train_classifier(out=options.out / "guide", arch=STEERS, **seen, **steering),
        "checker": cfdiff.train_classifier(out=options.out / "checker", arch=STEERS, noisy=False, **seen, **steering),
        "judge": cfdiff.train_classifier(
            **{**common, "data": str(both), "split": "train-judge", "seed": options.seed + 1},
            out=options.out / "judge",
            arch=JUDGES,
            noisy=False,
            **seen,
        ),
    }
    return {role: result.model for role, result in found.items()}


def adapted(name: str, old: Path, new: Path, diffusion: Path, options: argparse.Namespace) -> Path:
    """The model of one row."""
    told: dict[str, Any] = {"images": int(name.replace(",", " ").split()[0]), "steps": options.steps}
    if "no prior" in name or "without prior" in name:
        told["prior"] = 0.0
    if "all" in name:
        told |= {"low_rank": False, "lr": 1e-4}
    result = cfdiff.adapt(
        data=str(new),
        old=str(old),
        diffusion=diffusion,
        out=options.out / name.replace(",", "").replace(" ", "-"),
        split="train-guide",
        val_split="val",
        group_key="patient",
        seed=options.seed,
        threads=options.threads,
        device=options.device,
        **told,
    )
    return result.model


@torch.no_grad()
def errors(diffusion: Path, data: Path, options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Mean over `DEPTHS` of the eps error a pixel, told nothing, of --val test images (n,), and their patients."""
    model = load_model(diffusion, "diffusion")
    ask = model.denoiser()
    source = open_source(str(data), group_key="patient")
    source = source.select(np.flatnonzero(source.splits == "test"))
    source = random_subset(source, options.val, options.seed)
    x = to_model(source.read(np.arange(len(source))))
    total = np.zeros(len(x))
    for depth in DEPTHS:
        level = model.schedule.level_of(depth)
        noise = NoiseSource(options.seed, [f"{depth}/{i}" for i in source.ids]).like(x)
        levels = torch.full((len(x),), level)
        parts = zip(x.split(64), levels.split(64), noise.split(64), strict=True)
        total += torch.cat([l_simple(model.schedule, ask, *part) for part in parts]).double().numpy()
    assert source.groups is not None
    return total / len(DEPTHS), source.groups


def edited(
    start: str, diffusion: Path, new: Path, models: dict[str, Path], name: str, options: argparse.Namespace
) -> dict[str, Any]:
    """What becomes of test images of the new stain, steered by what knows the old one alone."""
    out = options.out / f"{name.replace(',', '').replace(' ', '-')}-{start}.h5"
    summary = cfdiff.translate(
        data=str(new),
        diffusion=diffusion,
        guide=models["guide"],
        checker=models["checker"],
        judge=models["judge"],
        guides="both" if able(TrainResult.of(models["guide"])) else "clean",  # after some seconds it knows nothing
        group_key="patient",
        split="test",
        from_=start,
        limit=options.limit,
        solver="dpm++",
        steps=8,
        depth=0.4,
        seed=options.seed,
        threads=options.threads,
        device=options.device,
        out=out,
        preview=out.with_suffix(".png"),
        force=True,
    )
    return dict(summary.as_json())


def table(rows: list[dict[str, Any]]) -> Table:
    """A line a model."""
    heads = ("new images", "eps error, new stain", "against before", "old stain", "against before")
    shown = Table(*heads, "judge to positive", "change", "judge to negative", "change", title="a new laboratory")

    def number(figure: dict[str, Any]) -> str:
        low, high = figure["interval"] or (float("nan"),) * 2
        return f"{figure['value']:.4f} ({low:.4f} to {high:.4f})"

    for row in rows:
        words = [row["images"]]
        for stain in ("new", "old"):
            words += [number(row[f"eps_{stain}"]), number(row[f"eps_{stain}_against_before"])]
        for start in ("negative", "positive"):
            low, high = row[start]["flipped_judge_95"] or (float("nan"),) * 2
            words += [f"{row[start]['flipped_judge']:.1%} ({low:.0%}-{high:.0%})"]
            words += [f"{row[start]['mean_abs_difference']:.4f}"]
        shown.add_row(*words)
    return shown


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with malaria_rgb_128.npz")
    parser.add_argument("--out", type=Path, default=Path("runs/adapt"), help="folder for models and results")
    parser.add_argument("--minutes", type=float, default=10.0, help="of the old laboratory's diffusion model")
    parser.add_argument("--classifier-minutes", type=float, help="of guide, checker and judge each [default: the same]")
    parser.add_argument("--steps", type=int, default=400, help="of each adaptation")
    parser.add_argument("--limit", type=int, default=48, help="test images a direction")
    parser.add_argument("--val", type=int, default=192, help="test images of the error of eps")
    parser.add_argument("--only", nargs="*", choices=NAMES, help="some of the rows")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, help="write all figures here")
    return parser


if __name__ == "__main__":
    main()
