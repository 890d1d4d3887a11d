"""Pixels or latents? The same images edited in both, at 64 and 128 px, by models that were trained for as long.

    python benchmarks/latent.py ../shared/data --out runs/latent --minutes 60 --json benchmarks/results/latent.json
    python benchmarks/latent.py ../shared/data --out /tmp/latent --minutes 0.3 --limit 4       to see whether it runs

Colour cells (malaria_rgb_128.npz; 64 px: halved). Each training gets --minutes: diffusion model, guide and checker of
each space, for latents the autoencoder besides; the verifier and the judge, which the spaces share, see pixels. What is
trained stays in --out and is not trained again; a training that was stopped goes on. Then --limit test images of each
class are translated to the other, each space and direction in a process of its own, one after the other: flips by the
judge, which learned from patients of its own, change, seconds an image (of the whole run: reading, editing, judging,
writing) and the highest resident memory of that process, which holds all models (on a GPU, of its memory). With --tune
MINUTES the settings of each space are searched first, on validation images by the verifier; else both have the
defaults, and --edit changes those of both alike (--edit depth=0.5 ratio=0.6).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import resource
import sys
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

SIZES, SPACES = (64, 128), ("pixel", "latent")
TRAIN, TRAIN_JUDGE, VAL = "train-guide", "train-judge", "val"
STEERS, ACCEPTS = "ese_vovnet19b_slim", "resnet14t"
"""Architectures, as `cfdiff fit` takes them: the verifier and the judge are of another kind than those that steer."""
DIRECTIONS = {"negative": "positive", "positive": "negative"}


def main() -> None:
    options = _parser().parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for size in options.sizes:
        data = cells(options.data / "malaria_rgb_128.npz", size, options.out)
        folder = options.out / str(size)
        folder.mkdir(exist_ok=True)
        apart(train_shared, data, folder, vars(options))
        for space in options.spaces:
            trained = apart(train_space, data, folder, space, vars(options))
            for start in DIRECTIONS:
                row = apart(measure, data, folder, space, start, vars(options))
                rows.append({"size": size, "space": space, **trained, **row})
                if options.json:
                    options.json.write_text(json.dumps(report(rows, options), indent=1) + "\n")
    Console(width=150).print(table(rows))


def cells(path: Path, size: int, out: Path) -> Path:
    """The colour cells at 128 px, or with each 2x2 pixels averaged."""
    if size == 128:
        return path
    halved = out / f"cells-{size}.npz"
    if not halved.exists():
        with np.load(path) as z:
            arrays = {key: z[key] for key in z.files}
        n, side, _, channels = arrays["images"].shape
        k = side // size
        means = arrays["images"].reshape(n, size, k, size, k, channels).mean((2, 4))
        np.savez(halved, **{**arrays, "images": np.rint(means).astype(np.uint8)})
    return halved


def train_shared(data: Path, folder: Path, options: Mapping[str, Any]) -> None:
    """The two that accept and judge the edits of both spaces."""
    import cfdiff

    for role, split, seed in (("verifier", TRAIN, 2), ("judge", TRAIN_JUDGE, 1)):
        told = {**common(data, split, seed, options), "out": folder / role}
        cfdiff.train_classifier(noisy=False, arch=ACCEPTS, **told)


def train_space(data: Path, folder: Path, space: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The models of a space, in `folder/space`, and what their cards say of the trainings."""
    import cfdiff

    own, told = folder / space, common(data, TRAIN, 0, options)
    own.mkdir(exist_ok=True)
    found: dict[str, Any] = {}
    latent: dict[str, Any] = {}
    seen: dict[str, Any] = {}
    if space == "latent":
        autoencoder = cfdiff.train_autoencoder(
            out=own / "autoencoder", judge=folder / "verifier" / "model.safetensors", **told
        )
        found["autoencoder"] = autoencoder.figures()
        latent = {"space": space, "autoencoder": autoencoder.model}
        seen = {"gain": 0.0, "shift": 0}  # so that each image is encoded once, as fit has it
        if int(folder.name) < 128:  # latents of a quarter: classifiers of fewer than 32 pixels have none left
            seen["upsample"] = 2
    wide = {"condition": "class", "batch_size": options["batch_size"]}
    diffusion = cfdiff.train_diffusion(out=own / "diffusion", **told, **wide, **latent)
    found["diffusion"] = diffusion.figures()
    found["train_seconds_per_image"] = 60 * diffusion.minutes / max(1, diffusion.step * options["batch_size"])
    for role in ("guide", "checker"):
        result = cfdiff.train_classifier(noisy=role == "guide", arch=STEERS, out=own / role, **told, **latent, **seen)
        found[role] = result.figures()
    if options["tune"]:
        recipe = own / "edit.toml"
        if not recipe.exists():
            cfdiff.tune(
                out=recipe, max_minutes=options["tune"], split=VAL, images=16, **editing(data, folder, space, options)
            )
    return {"trained": found}


def measure(data: Path, folder: Path, space: str, start: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """One direction, and how much memory this process, which does nothing else, ever had."""
    import torch

    import cfdiff

    told = editing(data, folder, space, options)
    out = folder / f"{space}-{start}.h5"
    summary = cfdiff.translate(
        from_=start, split="test", limit=options["limit"], out=out, preview=out.with_suffix(".png"), force=True, **told
    )
    device = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
    return {"from": start, **summary.as_json(), "peak_bytes": peak_bytes(), "peak_device_bytes": device}


def common(data: Path, split: str, seed: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of every training."""
    return {
        "data": str(data),
        "split": split,
        "val_split": VAL,
        "max_minutes": options["minutes"],
        "seed": seed,
        "device": options["device"],
        "threads": options["threads"],
    }


def editing(data: Path, folder: Path, space: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of every edit in a space."""
    return {
        "data": str(data),
        "weights": str(folder / space),
        "verifier": folder / "verifier" / "model.safetensors",
        "judge": folder / "judge" / "model.safetensors",
        "guides": guides(folder / space),
        "batch_size": options["edit_batch"],
        "device": options["device"],
        "threads": options["threads"],
        **dict(word.split("=", 1) for word in options["edit"]),
    }


def guides(weights: Path) -> str:
    """Both, or the checker alone where the guide never came above chance, as after a few seconds of training."""
    from cfdiff.fit.tuning import able
    from cfdiff.train.result import TrainResult

    return "both" if able(TrainResult.of(weights / "guide" / "model.safetensors")) else "clean"


def apart(f: Any, *arguments: Any) -> Any:
    """f(...) in a process of its own, so that its memory is its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(f, *arguments).result()


def peak_bytes() -> int:
    """The highest resident memory that this process ever had."""
    found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found if sys.platform == "darwin" else found * 1024


def report(rows: list[dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    """What is written: all figures, and what was asked for."""
    asked = {key: getattr(options, key) for key in ("minutes", "limit", "tune", "edit", "batch_size", "edit_batch")}
    return {"benchmark": "latent", "machine": platform.processor() or platform.machine(), **asked, "rows": rows}


def table(rows: list[dict[str, Any]]) -> Table:
    """A line a size, space and direction."""
    heads = (
        "px",
        "space",
        "from",
        "n",
        "judge",
        "verifier",
        "|difference|",
        "retried",
        "s an image",
        "memory",
        "training",
    )
    shown = Table(
        *heads,
        title="pixels or latents",
        title_justify="left",
        caption="training: ms an image and step of the diffusion model",
    )
    for row in rows:
        low, high = row["flipped_judge_95"] or (float("nan"),) * 2
        memory = row["peak_device_bytes"] or row["peak_bytes"]
        shown.add_row(
            str(row["size"]),
            row["space"],
            row["from"],
            str(row["images"]),
            f"{row['flipped_judge']:.1%} ({low:.0%}-{high:.0%})",
            f"{row['flipped_verifier']:.1%}",
            f"{row['mean_abs_difference']:.4f}",
            f"{row['retried']:.0%}",
            f"{row['seconds_per_image']:.2f}",
            f"{memory / 2**20:,.0f} MiB",
            f"{1000 * row['trained']['train_seconds_per_image']:.0f} ms",
        )
    return shown


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with malaria_rgb_128.npz")
    parser.add_argument("--out", type=Path, default=Path("runs/latent"), help="folder for models and results")
    parser.add_argument("--sizes", type=int, nargs="*", choices=SIZES, default=list(SIZES))
    parser.add_argument("--spaces", nargs="*", choices=SPACES, default=list(SPACES))
    parser.add_argument("--minutes", type=float, default=60.0, help="of each training")
    parser.add_argument("--tune", type=float, default=0.0, metavar="MINUTES", help="search the settings of each space")
    parser.add_argument("--edit", nargs="*", default=[], metavar="SETTING=VALUE", help="settings of the edits in both")
    parser.add_argument("--limit", type=int, default=64, help="test images a direction")
    parser.add_argument("--batch-size", type=int, default=16, help="of the diffusion models' trainings")
    parser.add_argument("--edit-batch", type=int, default=8, help="images at once in an edit; memory hangs on it")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, help="write all figures here")
    return parser


if __name__ == "__main__":
    main()
