"""Does the difference map find the defect? Localisation on magnetic tiles, from image-level labels alone.

    python benchmarks/magnetic_data.py ../shared/data/magnetic_tile_64.npz runs/magnetic/tiles.npz
    cfdiff train-diffusion  --config configs/magnetic-tile/diffusion.toml --data runs/magnetic/tiles.npz --out runs/magnetic/diffusion
    cfdiff train-classifier --config configs/magnetic-tile/guide.toml     --data runs/magnetic/tiles.npz --out runs/magnetic/guide
    cfdiff train-classifier --config configs/magnetic-tile/checker.toml   --data runs/magnetic/tiles.npz --out runs/magnetic/checker
    cfdiff train-classifier --config configs/magnetic-tile/judge.toml     --data runs/magnetic/tiles.npz --out runs/magnetic/judge
    python benchmarks/magnetic.py --json localisation.json --picture localisation.png

The models that these commands made are bundled: give `--weights cfdiff/weights/magnetic-tile` in place of training.

Three methods, test crops with a defect, the same models, masks used for scoring only:

- cfdiff: defect -> free, |difference|;
- plain DDIM inversion with a fixed scale, 500 levels up and down, noise-aware guide alone at every level (the recipe of
  Wolleb et al. 2022), |difference|;
- the checker's input gradient, |d log p(defect) / dx| (Simonyan et al. 2014).

Each method's settings, the width of a Gaussian on its map, whether the map is divided by its own highest value, and the
threshold are those that were best on validation photographs (pooled pixel AUPRC; mean Dice). Plain inversion also stands
as published: the bare |difference|, its scale and threshold chosen for that. As it takes 1,000 network calls an image, its
settings are chosen on --plain-val crops and it is scored on --plain-limit, spread over all photographs; the others are
scored on all test crops, and on those once more. Intervals: 95 %, over photographs.
"""  # noqa: E501

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cfdiff.cli.memory import keep_freed_memory
from cfdiff.data.open import open_source
from cfdiff.data.source import Source
from cfdiff.data.values import to_model, unit
from cfdiff.edit.cast import Cast, probabilities
from cfdiff.edit.editor import Editor
from cfdiff.edit.roles import load_cast
from cfdiff.metrics import localisation as loc
from cfdiff.metrics.intervals import mean_interval, share_interval
from cfdiff.settings import resolve
from cfdiff.translate.settings import TranslateSettings

SIGMAS = (0.0, 1.0, 2.0)
SIZES = (40, 160, 640)
OPEN: dict[str, Any] = {"closed_loop": False, "retries": 0}  # remove all of the defect, not just enough of it
OURS: list[dict[str, Any]] = [
    {"depth": 0.2, "ratio": 0.6, "steps": 15},
    {"depth": 0.15, "ratio": 0.6, "steps": 10, **OPEN},
    {"depth": 0.2, "ratio": 0.6, "steps": 15, **OPEN},
    {"depth": 0.2, "ratio": 1.0, "steps": 15, **OPEN},
    {"depth": 0.3, "ratio": 0.3, "steps": 15, **OPEN},
]
PLAIN: dict[str, Any] = {
    "depth": 0.5, "steps": 500, "ratio": None, "guides": "noisy", "anchored": False, "closed_loop": False, "retries": 0,
}  # fmt: skip
SCALES = (1.0, 3.0, 10.0, 100.0)


@dataclass(frozen=True, eq=False)
class Images:
    """The crops with a defect of one split."""

    pixels: np.ndarray
    masks: np.ndarray
    ids: list[str]
    photograph: np.ndarray
    kind: np.ndarray

    def part(self, rows: Any) -> Images:
        ids = np.array(self.ids)[rows].tolist()
        return Images(self.pixels[rows], self.masks[rows], ids, self.photograph[rows], self.kind[rows])


@dataclass(frozen=True, eq=False)
class Maps:
    """Scores (N, H, W) of one method with some settings; of its counterfactuals the judge's word and the size."""

    raw: np.ndarray
    free: np.ndarray | None
    change: np.ndarray | None
    seconds: float

    def part(self, rows: Any) -> Maps:
        free, change = (None if v is None else v[rows] for v in (self.free, self.change))
        return Maps(self.raw[rows], free, change, self.seconds)


Method = Callable[[Images], Maps]


@dataclass(frozen=True)
class Candidates:
    """A method: its settings to choose from, the looks to choose from, and the crops it is chosen and scored on."""

    methods: dict[str, Method]
    looks: list[Look]
    val: Images
    test: Images


@dataclass(frozen=True)
class Look:
    """How a raw map becomes a score: a Gaussian, and whether each map is divided by its own highest value."""

    sigma: float
    relative: bool

    def of(self, raw: np.ndarray) -> np.ndarray:
        return loc.difference_map(raw[..., None], self.sigma, self.relative)


def main() -> None:
    """Choose on validation, score on test, print and write."""
    options = _parser().parse_args()
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    val, test = (read(options, split, limit) for split, limit in (("val", options.val), ("test", options.limit)))
    few_val, few_test = read(options, "val", options.plain_val), read(options, "test", options.plain_limit)
    cast = load(options, test)
    looks = [Look(sigma, relative) for sigma in SIGMAS for relative in (False, True)]
    ours = {str(given): editing(cast, given, options.batch) for given in OURS}
    plain = {
        f"scale {scale:g}": editing(at_every_level(cast), {**PLAIN, "scale": scale}, options.batch) for scale in SCALES
    }
    methods = {
        "cfdiff": Candidates(ours, looks, val, test),
        "input gradient": Candidates({"checker": lambda images: saliency(cast, images)}, looks, val, test),
        "plain inversion, 500 levels": Candidates(plain, looks, few_val, few_test),
        "plain inversion, 500 levels, as published": Candidates(plain, [Look(0.0, False)], few_val, few_test),
    }
    rows, pictures = [], {}
    for name, candidates in methods.items():
        setting, look, threshold, tried = choose(candidates)
        maps = candidates.methods[setting](candidates.test)
        chosen = {"setting": setting, "sigma": look.sigma, "by_its_highest": look.relative, "validation": tried}
        common = np.flatnonzero(np.isin(candidates.test.ids, few_test.ids))
        for part in [slice(None)] if len(common) == len(candidates.test.ids) else [slice(None), common]:
            images, of_part = candidates.test.part(part), maps.part(part)
            scores = look.of(of_part.raw)
            figures = {**score(scores, threshold, images), **of_counterfactuals(of_part, images)}
            rows.append({"method": name, **chosen, "validated_on": len(candidates.val.ids), **figures})
            print(line(rows[-1]), flush=True)
        pictures[name] = scores
        if options.json:
            options.json.write_text(json.dumps({"benchmark": "magnetic", "seed": 0, "rows": rows}, indent=1) + "\n")
    for n in sorted({row["n"] for row in rows}, reverse=True):
        print("\n".join(["", f"{n} test crops", *markdown([row for row in rows if row["n"] == n])]))
    if options.picture:
        draw(few_test, pictures, options.picture)


def read(options: argparse.Namespace, split: str, limit: int | None) -> Images:
    """The crops with a defect of a split, spread over the photographs."""
    given: dict[str, Any] = {"negative": "free", "positive": "defect", "group_key": "cluster"}
    source: Source = open_source(options.data, split=split, from_label=1, limit=limit, seed=0, **given)
    rows = np.arange(len(source))
    masks = source.read_masks(rows)
    kind = open_source(options.data, split=split, from_label=1, limit=None, seed=0, **{**given, "group_key": "defect"})
    kind_of = dict(zip(kind.ids.tolist(), kind.groups.tolist(), strict=True))
    ids = [str(i) for i in source.ids]
    return Images(source.read(rows), masks, ids, source.groups.astype(str), np.array([kind_of[i] for i in ids]))


def load(options: argparse.Namespace, images: Images) -> Cast:
    """The four models of --weights."""
    source = open_source(options.data, split="test", negative="free", positive="defect")
    return load_cast(settings({"weights": str(options.weights), "threads": options.threads}), options.data, source)


def settings(given: dict[str, Any]) -> TranslateSettings:
    return resolve(TranslateSettings, None, {"from": "positive", **given})


def at_every_level(cast: Cast) -> Cast:
    """The recipe guides at every level: no level at which the guide is off."""
    assert cast.guide is not None
    training = {k: v for k, v in cast.guide.card.training.items() if k != "validation"}
    return replace(cast, guide=replace(cast.guide, card=replace(cast.guide.card, training=training)))


def editing(cast: Cast, given: dict[str, Any], batch: int) -> Method:
    """Maps by translating to "free" with these settings; asked again for the same crops, it answers from memory."""
    editor = Editor(cast, settings(given))

    @cache
    def maps(images: Images) -> Maps:
        started = time.monotonic()
        parts = [
            editor.edit(images.pixels[i : i + batch], images.ids[i : i + batch], 0).counterfactual
            for i in range(0, len(images.ids), batch)
        ]
        seconds = (time.monotonic() - started) / len(images.ids)
        saved = np.concatenate(parts)
        difference = unit(saved) - unit(images.pixels)
        assert cast.judge is not None
        free = probabilities(cast.judge, to_model(saved)).numpy()[:, 0] > 0.5
        return Maps(loc.difference_map(difference), free, np.abs(difference).mean(axis=(1, 2, 3)), seconds)

    return maps


def saliency(cast: Cast, images: Images) -> Maps:
    """|d log p(defect) / dx| of the checker."""
    started = time.monotonic()
    x = to_model(images.pixels).requires_grad_()
    gradient = torch.autograd.grad(cast.checker_log_prob(x)[:, 1].sum(), x)[0]
    return Maps(gradient.abs().mean(1).numpy(), None, None, (time.monotonic() - started) / len(images.ids))


def choose(candidates: Candidates) -> tuple[str, Look, float, dict[str, float]]:
    """The settings and look of the highest AUPRC on validation crops, and the threshold of the highest Dice."""
    tried: dict[tuple[str, Look], float] = {}
    for setting, method in candidates.methods.items():
        raw = method(candidates.val).raw
        for look in candidates.looks:
            tried[setting, look] = loc.auprc(look.of(raw), candidates.val.masks)
        print(f"  {setting}: validation AUPRC {max(v for (k, _), v in tried.items() if k == setting):.3f}", flush=True)
    setting, look = max(tried, key=lambda key: tried[key])
    scores = look.of(candidates.methods[setting](candidates.val).raw)
    told = {f"{setting}, {look}": round(area, 4) for (setting, look), area in tried.items()}
    return setting, look, loc.best_threshold(scores, candidates.val.masks), told


def score(maps: np.ndarray, threshold: float, images: Images) -> dict[str, Any]:
    """Every figure of one method on the test crops."""
    masks, groups = images.masks, images.photograph
    area_95, roc_95 = loc.pooled_intervals(maps, masks, groups)
    ways = {
        "dice_validation_threshold": loc.dice(loc.above(maps, threshold), masks),
        "dice_otsu": loc.dice(loc.above(maps, loc.otsu_threshold(maps)), masks),
        "dice_oracle_threshold": loc.dice(loc.above(maps, loc.best_threshold(maps, masks)), masks),
        "pointing": loc.pointing_game(maps, masks),
        "auprc_per_image": loc.auprc_per_image(maps, masks),
    }
    figures: dict[str, Any] = {
        "n": len(masks),
        "photographs": len(np.unique(groups)),
        "prevalence": loc.prevalence(masks),
        "threshold": threshold,
        "auprc": loc.auprc(maps, masks),
        "auprc_95": area_95,
        "auroc": loc.auroc(maps, masks),
        "auroc_95": roc_95,
    }
    for name, values in ways.items():
        interval = share_interval(values, groups) if name == "pointing" else mean_interval(values, groups, (0, 1))
        figures[name], figures[f"{name}_95"] = float(values.mean()), interval
    fixed = ways["dice_validation_threshold"]
    figures["by_kind"] = {
        kind: {
            "n": int((images.kind == kind).sum()),
            "prevalence": loc.prevalence(masks[images.kind == kind]),
            "auprc": loc.auprc(maps[images.kind == kind], masks[images.kind == kind]),
            "dice": float(fixed[images.kind == kind].mean()),
            "pointing": float(ways["pointing"][images.kind == kind].mean()),
        }
        for kind in np.unique(images.kind).tolist()
    }
    area = masks.sum(axis=(1, 2))
    size = np.digitize(area, SIZES)
    figures["by_size"] = {
        f"{(1, *SIZES)[k]} to {SIZES[k] - 1 if k < len(SIZES) else masks[0].size} px": {
            "n": int((size == k).sum()),
            "dice": float(fixed[size == k].mean()),
            "auprc_per_image": float(ways["auprc_per_image"][size == k].mean()),
        }
        for k in np.unique(size).tolist()
    }
    return figures


def of_counterfactuals(maps: Maps, images: Images) -> dict[str, Any]:
    """Flips by the judge and the size of the change, where the method makes counterfactuals."""
    if maps.free is None or maps.change is None:
        return {"seconds_per_image": maps.seconds}
    return {
        "seconds_per_image": maps.seconds,
        "flipped_judge": float(maps.free.mean()),
        "flipped_judge_95": share_interval(maps.free, images.photograph),
        "mean_abs_difference": float(maps.change.mean()),
    }


def line(row: dict[str, Any]) -> str:
    return json.dumps({k: row.get(k) for k in ("method", "setting", "sigma", "n", "auprc", "dice_validation_threshold",
                                               "pointing", "flipped_judge", "seconds_per_image")})  # fmt: skip


def markdown(rows: list[dict[str, Any]]) -> list[str]:
    """The tables of docs/quality.md."""

    def cell(row: dict[str, Any], name: str) -> str:
        low, high = row[f"{name}_95"]
        return f"{row[name]:.3f} ({low:.3f}-{high:.3f})"

    names = {
        "auprc": "AUPRC",
        "auroc": "AUROC",
        "dice_validation_threshold": "Dice, threshold of validation",
        "dice_otsu": "Dice, Otsu",
        "dice_oracle_threshold": "Dice, oracle threshold",
        "pointing": "pointing game",
    }
    lines = [
        f"| method | {' | '.join(names.values())} | flipped (judge) | s / image |",
        "|" + "---|" * (len(names) + 3),
    ]
    for row in rows:
        flipped = "" if row.get("flipped_judge") is None else f"{row['flipped_judge']:.1%}"
        cells = " | ".join(cell(row, name) for name in names)
        lines.append(f"| {row['method']} | {cells} | {flipped} | {row['seconds_per_image']:.2f} |")
    for part, name, words in (
        ("by_kind", "dice", "Dice at the threshold of validation"),
        ("by_kind", "auprc", "pooled AUPRC"),
        ("by_size", "dice", "Dice at the threshold of validation"),
    ):
        heads = " | ".join(f"{group} (n = {v['n']})" for group, v in rows[0][part].items())
        lines += ["", f"| {words} | {heads} |", "|" + "---|" * (len(rows[0][part]) + 1)]
        for row in rows:
            cells = " | ".join(f"{v[name]:.3f}" for v in row[part].values())
            lines.append(f"| {row['method']} | {cells} |")
        if name == "auprc":
            cells = " | ".join(f"{v['prevalence']:.3f}" for v in rows[0][part].values())
            lines.append(f"| prevalence, what chance has | {cells} |")
    return lines


def draw(images: Images, maps: dict[str, np.ndarray], out: Path, count: int = 3) -> None:
    """Crop, mask and maps of the first crops of each kind, as they come."""
    import matplotlib.pyplot as plt

    rows = np.concatenate([np.flatnonzero(images.kind == kind)[:: max(1, (images.kind == kind).sum() // count)][:count]
                           for kind in np.unique(images.kind)])  # fmt: skip
    titles = ("crop", "mask", *maps)
    figure, axes = plt.subplots(len(titles), len(rows), figsize=(1.1 * len(rows) + 1.2, 1.1 * len(titles)), dpi=150)
    for column, i in enumerate(rows):
        shown = [(images.pixels[i, ..., 0], "gray"), (images.masks[i], "gray")]
        shown += [(m[i], "magma") for m in maps.values()]
        for row, (picture, colours) in enumerate(shown):
            axis = axes[row, column]
            axis.imshow(picture, cmap=colours, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            if row == 0:
                axis.set_title(images.kind[i], fontsize=7)
            if column == 0:
                axis.set_ylabel(titles[row].split(",")[0], fontsize=7)
    figure.tight_layout(pad=0.3)
    figure.savefig(out)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="runs/magnetic/tiles.npz")
    parser.add_argument("--weights", type=Path, default=Path("runs/magnetic"), help="folder of the four trainings")
    parser.add_argument("--limit", type=int, help="test crops with a defect [default: all]")
    parser.add_argument("--val", type=int, help="validation crops with a defect [default: all]")
    parser.add_argument("--plain-val", type=int, default=16, help="validation crops for plain inversion")
    parser.add_argument("--plain-limit", type=int, default=96, help="test crops for plain inversion")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--picture", type=Path, help="draw crops, masks and maps here")
    return parser


if __name__ == "__main__":
    main()
