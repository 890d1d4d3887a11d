"""Does training on counterfactuals repair a classifier that has learned a confound (Clever Hans)?

    python benchmarks/confound.py runs/confound [--seeds 0 1 2] [--steps 500] [--pairs 96] [--json OUT]

Bundled cells. A bright square in a corner goes with the class in 90 % of the training and validation images; each
test image is asked twice, with the square that goes with its class and with the one that does not. The arms differ in
what they are trained on; every step of every arm has the same number of images. Killed, the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from rows import same

from cfdiff.data.open import open_source
from cfdiff.data.source import Source, random_subset
from cfdiff.data.values import to_model, unit
from cfdiff.engine.noise import seed_of
from cfdiff.metrics.intervals import bootstrap_rows
from cfdiff.models.bundled import weights_folder
from cfdiff.models.checkpoint import load_model
from cfdiff.settings import resolve
from cfdiff.store import open_result
from cfdiff.supervise.run import supervise
from cfdiff.supervise.settings import SuperviseSettings
from cfdiff.train.diffusion import train_diffusion
from cfdiff.train.settings import DiffusionSettings
from cfdiff.translate.run import translate
from cfdiff.translate.settings import TranslateSettings
from cfdiff.version import __version__

SIDE, BRIGHT, GOES_WITH = 5, 160, 0.9
"""The mark: pixels a side and value, and the share of images in which it is there for positives, absent for negatives.
"""
SPLITS = {"train": ("train-guide", None), "val": ("val", 300), "test": ("test", 600)}
NETWORK = {"arch": "resnet10t", "kwargs": {"channels": [16, 32, 64, 96], "stem_width": 16}}
BATCH = 48
VARIED = {"augment": "dihedral", "gain": 0.1, "shift": 2}
PLAIN = {"augment": "none", "gain": 0.0, "shift": 0}


@dataclass(frozen=True)
class Arm:
    """A way of training: which images, which pairs ("" for none), and settings of cfdiff supervise."""

    name: str
    data: str = "confounded"
    pairs: str = ""
    settings: dict[str, Any] = field(default_factory=dict)


ARMS = (
    Arm("plain", settings=PLAIN),
    Arm("plain, augmented"),
    Arm("the sources of the knowing pairs again, no counterfactual", data="again"),
    Arm("images that break the mark again, by who knows the mark", data="balanced"),
    Arm("pairs of models that know the cause", pairs="knowing"),
    Arm("the same, gradient", pairs="knowing", settings={"invariance": "gradient"}),
    Arm("the same, features", pairs="knowing", settings={"invariance": "features"}),
    Arm("pairs of the confounded model, accepted by itself", pairs="confounded"),
    Arm("the same, gradient (confounded)", pairs="confounded", settings={"invariance": "gradient"}),
    Arm("pairs of the confounded model, a verifier that knows", pairs="taught"),
    Arm("the same, rejected ones kept", pairs="taught", settings={"rejected": "source"}),
    Arm("pairs of the confounded model, denoiser that draws the mark", pairs="drawn"),
    Arm("the same, a verifier that knows (drawn)", pairs="drawn-taught"),
    Arm("the same, rejected ones kept (drawn)", pairs="drawn-taught", settings={"rejected": "source"}),
    Arm("unconfounded images", data="independent"),
)
DRAWN = {"drawn": "confounded", "drawn-taught": "taught"}
"""Pairs whose denoiser knows the mark, and the pairs whose other models they share."""
CONFOUNDED = "plain, augmented"
"""The arm whose first model is the confounded one that edits."""


def main() -> None:
    options = _parser().parse_args()
    torch.set_num_threads(1)
    begun, work = time.monotonic(), options.work
    work.mkdir(parents=True, exist_ok=True)
    same(
        work / "settings.json",
        {name: getattr(options, name) for name in ("steps", "pairs", "directions", "diffusion_steps")},
    )
    for name, share in (("confounded", GOES_WITH), ("independent", 0.5)):
        write_data(work / f"{name}.npz", share)
    arms = [arm for arm in ARMS if not options.only or any(part in arm.name for part in options.only)]
    rows = []
    if any(arm.data in ("again", "balanced") for arm in arms):
        write_again(options)
    for arm in arms:
        right = [trained(options, arm, seed) for seed in options.seeds]
        rows.append(figures(arm, np.stack(right), rows, test_images()))
        Console(width=150).print(json.dumps({k: v for k, v in rows[-1].items() if k != "right"}), highlight=False)
    made = {name: edited(options, name) for name in dict.fromkeys(arm.pairs for arm in arms if arm.pairs)}
    report = {
        "benchmark": "confound", "cfdiff": __version__, "torch": torch.__version__, "seeds": options.seeds,
        "steps": options.steps, "mark": [SIDE, BRIGHT, GOES_WITH], "pairs": made,
        "rows": [{k: v for k, v in row.items() if k != "right"} for row in rows],
        "minutes": round((time.monotonic() - begun) / 60, 1),
    }  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    Console(width=150).print(table(rows))


def marked(images: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Images (N, H, W, 1) uint8 with the mark where it is `there` (N,) bool."""
    images = images.copy()
    images[there, :SIDE, :SIDE] = BRIGHT
    return images


def chance(ids: np.ndarray) -> np.ndarray:
    """(N,) in [0, 1), a function of the id alone: the same images are marked each time."""
    return np.array([seed_of(0, f"mark/{name}") % 10_000 / 10_000 for name in ids])


def write_data(path: Path, share: float) -> None:
    """The images with the mark, which goes with the class in `share` of train and val and by a coin in test."""
    if path.exists():
        return
    parts = []
    for split, (name, limit) in SPLITS.items():
        source = open_source("malaria-cells", split=name, limit=limit)
        goes = chance(source.ids) < (0.5 if split == "test" else share)
        images = marked(source.read(range(len(source))), (source.labels == 1) == goes)
        parts.append((images, source.labels, source.ids, source.groups, np.full(len(source), split)))
    images, labels, ids, groups, splits = (np.concatenate(part) for part in zip(*parts, strict=True))
    names = np.array(source.classes)[labels]
    np.savez(path, images=images[..., 0], labels=names, id=ids, patient=groups.astype(str), split=splits)


def write_again(options: argparse.Namespace) -> None:
    """The confounded data with some training images again, until they are half of them: controls without any
    counterfactual. `again`: the sources of the knowing pairs; `balanced`: those whose mark goes against their class.
    """
    with np.load(options.work / "confounded.npz") as held:
        arrays = dict(held)
    train = arrays["split"] == "train"
    there = (arrays["images"][:, :SIDE, :SIDE] == BRIGHT).all((1, 2))
    against = train & (there != (arrays["labels"] == open_source("malaria-cells").classes[1]))
    edited(options, "knowing")
    names: list[str] = []
    for start in options.directions:
        with open_result(options.work / f"knowing-{start}.h5") as result:
            names += result["id"][:].astype(str).tolist()
    for name, which in (("again", train & np.isin(arrays["id"], names)), ("balanced", against)):
        if (options.work / f"{name}.npz").exists():
            continue
        times = round(int((train & ~which).sum()) / int(which.sum())) - 1
        more = np.tile(np.flatnonzero(which), times)
        turn = np.repeat(np.arange(times), int(which.sum()))
        found = {key: np.concatenate([values, values[more]]) for key, values in arrays.items()}
        ids = [f"{i} again {k}" for i, k in zip(arrays["id"][more], turn, strict=True)]
        found["id"] = np.concatenate([arrays["id"].astype(str), np.array(ids)])
        np.savez(options.work / f"{name}.npz", **found)


def test_images() -> Source:
    """The test images as they are without any mark."""
    return random_subset(open_source("malaria-cells", split="test"), SPLITS["test"][1] or 0, 0)


def trained(options: argparse.Namespace, arm: Arm, seed: int) -> np.ndarray:
    """(2, n) bool: whether an arm's model of a seed is right where the mark agrees with the class, and where not."""
    out = options.work / "models" / f"{arm.name.replace(' ', '-').replace(',', '')}-{seed}"
    pairs = [options.work / f"{arm.pairs}-{start}.h5" for start in options.directions] if arm.pairs else ["none"]
    if arm.pairs:
        edited(options, arm.pairs)
    values = {
        **NETWORK, **VARIED, "data": str(options.work / f"{arm.data}.npz"), "out": out, "seed": seed, "pairs": pairs,
        "group_key": "patient", "negative": "uninfected", "positive": "parasitized", "steps": options.steps,
        "batch_size": BATCH, "eval_every": options.steps, "threads": 1, "device": "cpu", "ema": 0.99, **arm.settings,
    }  # fmt: skip
    model = supervise(resolve(SuperviseSettings, None, values), lambda *told: None).training.model
    source = test_images()
    images, positive = source.read(range(len(source))), source.labels == 1
    net = load_model(model).net
    with torch.no_grad():
        versions = [marked(images, there) for there in (positive, ~positive)]
        found = [torch.cat([net(x).argmax(1) for x in to_model(v).split(256)]).numpy() for v in versions]
    return np.stack([verdict == source.labels for verdict in found])


def edited(options: argparse.Namespace, name: str) -> dict[str, Any]:
    """Translate confounded training images both ways, with models of that name; what came of it."""
    folder = weights_folder("malaria-cells")
    mine = options.work / "models" / f"{CONFOUNDED.replace(' ', '-').replace(',', '')}-0" / "model.safetensors"
    if name != "knowing":
        trained(options, next(arm for arm in ARMS if arm.name == CONFOUNDED), 0)
    models: dict[str, dict[str, Any]] = {
        "knowing": {
            "guide": folder / "guide.safetensors", "verifier": folder / "judge.safetensors",
            "checker": [folder / "checker.safetensors"],
        },
        "confounded": {"checker": [mine], "guides": "clean"},
        "taught": {"checker": [mine], "guides": "clean", "verifier": folder / "judge.safetensors"},
    }  # fmt: skip
    diffusion = drawing(options) if name in DRAWN else folder / "diffusion.safetensors"
    found: dict[str, Any] = {}
    for start in options.directions:
        out = options.work / f"{name}-{start}.h5"
        values = {
            "data": str(options.work / "confounded.npz"), "group_key": "patient", "negative": "uninfected",
            "positive": "parasitized", "split": "train", "from": start, "limit": options.pairs, "out": out,
            "diffusion": diffusion, "solver": "dpm++", "steps": 8, "retries": 0, "threads": 1,
            "device": "cpu", **models[DRAWN.get(name, name)],
        }  # fmt: skip
        if not out.exists():
            translate(resolve(TranslateSettings, None, values))
        found[start] = about(out)
    return found


def drawing(options: argparse.Namespace) -> Path:
    """The bundled denoiser after some steps on the confounded images: it knows the mark, as one does that was trained
    on what the classifier was."""
    out = options.work / "models" / "diffusion"
    values = {
        "data": str(options.work / "confounded.npz"), "group_key": "patient", "negative": "uninfected",
        "positive": "parasitized", "split": "train", "val_split": "val", "out": out, "augment": "none",
        "init": weights_folder("malaria-cells") / "diffusion.safetensors", "steps": options.diffusion_steps,
        "batch_size": 16, "lr": 2e-4, "warmup": 50, "ema": 0.99, "threads": 1, "device": "cpu",
    }  # fmt: skip
    return train_diffusion(resolve(DiffusionSettings, None, values), lambda *told: None).model


def about(path: Path) -> dict[str, float]:
    """Of the pairs of a file: how many, accepted, and which share of the change's energy is in the mark's corner."""
    with open_result(path) as result:
        who = "verifier" if "prob/verifier" in result else "checker"
        sure = result.prob(who)[:, 1][np.arange(len(result)), result["target"][:]]
        energy = (unit(result.counterfactual[:]) - unit(result.source[:])) ** 2
    whole = energy.sum(axis=(1, 2, 3))
    corner = energy[:, :SIDE, :SIDE].sum(axis=(1, 2, 3)) / np.maximum(whole, 1e-12)
    return {"n": len(sure), "accepted": float((sure >= 0.9).mean()), "energy_in_the_mark": float(corner.mean())}


def figures(arm: Arm, right: np.ndarray, rows: list[dict[str, Any]], test: Source) -> dict[str, Any]:
    """A row: balanced accuracy, seeds averaged, where the mark agrees and where not, and the latter less CONFOUNDED's.

    Args:
        right: (seeds, 2, n) bool.
    """
    each = right.mean(axis=0)
    row: dict[str, Any] = {"arm": arm.name, "n": right.shape[2], "right": each[1]}
    for k, name in enumerate(("agrees", "disagrees")):
        row[name], row[f"{name}_95"] = balanced(each[k], test)
    row["disagrees_by_seed"] = [balanced(one, test)[0] for one in right[:, 1].astype(float)]
    for label, name in ((0, "negative"), (1, "positive")):
        row[f"disagrees_{name}"] = float(each[1][test.labels == label].mean())
    base = next((other["right"] for other in rows if other["arm"] == CONFOUNDED), None)
    if base is not None:
        row["gain"], row["gain_95"] = balanced(each[1] - base, test, (-1, 1))
    return row


def balanced(values: np.ndarray, test: Source, within: tuple[float, float] = (0, 1)) -> tuple[float, Any]:
    """Mean over the classes of the mean of values (n,), and its 95 % interval over patients."""

    def mean(rows: np.ndarray) -> float:
        of_class = [values[rows][test.labels[rows] == k] for k in (0, 1)]
        return float(np.mean([part.mean() for part in of_class if len(part)]))

    n = len(values)
    return mean(np.arange(n)), bootstrap_rows(n, test.groups, mean, 1000, within=within)


def table(rows: list[dict[str, Any]]) -> Table:
    """The rows as one reads them."""
    shown = Table("arm", "mark agrees", "mark disagrees", "by seed", "negatives", "positives", "against augmented")
    for row in rows:
        low, high = row["disagrees_95"]
        gain = "" if "gain" not in row else f"{row['gain']:+.1%} ({row['gain_95'][0]:+.1%} to {row['gain_95'][1]:+.1%})"
        seeds = " ".join(f"{share:.0%}" for share in row["disagrees_by_seed"])
        share = f"{row['disagrees']:.1%} ({low:.1%}-{high:.1%})"
        each = [f"{row[f'disagrees_{name}']:.0%}" for name in ("negative", "positive")]
        shown.add_row(row["arm"], f"{row['agrees']:.1%}", share, seeds, *each, gain)
    return shown


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder for data, models and pairs")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=500, help=f"of each training, of {BATCH} images")
    parser.add_argument("--diffusion-steps", type=int, default=600, help="of the denoiser that is to draw the mark")
    parser.add_argument("--pairs", type=int, default=96, help="images to edit, each direction")
    parser.add_argument("--directions", nargs="*", default=["negative", "positive"], help="classes to edit")
    parser.add_argument("--only", nargs="*", help="arms whose name contains one of these")
    parser.add_argument("--json", type=Path, help="write all figures here")
    return parser


if __name__ == "__main__":
    main()
