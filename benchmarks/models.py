"""How good are the shipped models on unseen patients? Classifiers, autoencoder, and error of the diffusion model.

    python benchmarks/models.py [--split test] [--data malaria-cells] [--weights malaria-cells] [--json OUT]

Balanced accuracy (mean of the two classes') with a 95 % interval from 1,000 bootstrap draws of whole patients, widened
for their number; the guide at every noise level shown, one noise draw an image, seed 0. Chance is 50 %. Of a diffusion
model in latents also what D(E(x)) keeps of the images as it would be saved: PSNR, SSIM, and the share of the verdicts
of judge and verifier, as `cfdiff doctor` computes them, with intervals over patients. Rows of other data stay in OUT.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from rows import Rows

from cfdiff.data.open import open_source
from cfdiff.data.values import to_model, to_saved, unit
from cfdiff.edit.cast import Cast, probabilities
from cfdiff.edit.roles import load_cast
from cfdiff.edit.settings import EditSettings
from cfdiff.engine import q_sample
from cfdiff.metrics import minimality
from cfdiff.metrics.fidelity import psnr
from cfdiff.metrics.intervals import bootstrap_rows, mean_interval, share_interval
from cfdiff.models.space import encoded, in_parts
from cfdiff.train.validate import validate

DEPTHS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="malaria-cells")
    parser.add_argument("--split", default="test")
    parser.add_argument("--weights", help="bundled name or folder [default: as --data]")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    report = Rows(options.json, {"benchmark": "models", "seed": 0}, ["data", "split", "model", "level"])
    source = open_source(options.data, split=options.split, limit=options.limit)
    cast = load_cast(EditSettings(weights=options.weights or options.data), options.data, source)
    stored = source.read(np.arange(len(source)))
    x0 = to_model(stored).to(cast.device)
    z0 = encoded(cast.space, x0)
    groups = source.ids if source.groups is None else source.groups

    rows: list[dict[str, Any]] = []
    for part in ("checker", "verifier", "judge"):
        model = getattr(cast, part)
        if model is None:
            continue
        right = probabilities(model, x0).argmax(1).numpy() == source.labels
        rows.append({"model": part, "level": 0, "alpha_bar": 1.0, **balanced(right, source.labels, groups)})
    for depth in DEPTHS:
        level = round(depth * cast.schedule.T)
        right = guide_verdicts(cast, z0, level) == source.labels
        alpha_bar = float(cast.schedule.alpha_bar[level])
        rows.append(
            {"model": "guide", "level": level, "alpha_bar": alpha_bar, **balanced(right, source.labels, groups)}
        )

    table = Table("model", "level", "alpha_bar", "balanced accuracy", title=f"{len(source)} images of {options.split}")
    for row in rows:
        low, high = row["accuracy_95"]
        accuracy = f"{row['accuracy']:.1%} ({low:.1%}-{high:.1%})"
        table.add_row(row["model"], str(row["level"]), f"{row['alpha_bar']:.3f}", accuracy)
    Console().print(table)
    back = in_parts(cast.space.decode, z0)
    if not torch.equal(back, x0):
        rows.append({"model": "autoencoder", "level": 0, **kept(cast, stored, back, groups)})
        print("autoencoder:", json.dumps(rows[-1]))
    rows.append({"model": "diffusion", "level": None, "n": len(z0[:512]), **validate(cast.denoise, z0[:512])})
    print("diffusion, L_simple:", json.dumps(rows[-1]))
    report.put(*({"data": options.data, "split": options.split, **row} for row in rows))


def kept(cast: Cast, stored: np.ndarray, back: torch.Tensor, groups: np.ndarray) -> dict[str, Any]:
    """What is left of images as stored (N, H, W, C) in D(E(x)) as saved, `back` (N, C, H, W) in [-1, 1]."""
    saved = to_saved(back, stored.dtype)
    decibel, alike = psnr(unit(stored), unit(saved)), minimality.ssim(unit(stored), unit(saved))
    told: dict[str, Any] = {"n": len(stored), "groups": len(np.unique(groups))}
    for name, values in (("psnr", decibel), ("ssim", alike)):
        told |= {name: float(values.mean()), f"{name}_95": mean_interval(values, groups)}
        told[f"{name}_lowest"] = float(values.min())
    for role in ("judge", "verifier"):
        model = getattr(cast, role)
        if model is not None:
            seen = [probabilities(model, to_model(images).to(cast.device)).argmax(1) for images in (stored, saved)]
            same = (seen[0] == seen[1]).numpy()
            told |= {f"kept_by_{role}": float(same.mean()), f"kept_by_{role}_95": share_interval(same, groups)}
    return told


@torch.no_grad()
def guide_verdicts(cast: Cast, z0: torch.Tensor, level: int, batch: int = 128) -> np.ndarray:
    """(N,) the guide's class for z_l, one noise draw an image."""
    generator = torch.Generator().manual_seed(0)
    verdicts = []
    for part in z0.split(batch):
        noise = torch.randn(part.shape, generator=generator).to(part.device)
        x = q_sample(cast.schedule, part, level, noise) if level else part
        verdicts.append(cast.guide_log_prob(x, level).argmax(1).cpu())
    return torch.cat(verdicts).numpy()


def balanced(right: np.ndarray, labels: np.ndarray, groups: np.ndarray, draws: int = 1000) -> dict[str, Any]:
    """Balanced accuracy and its bootstrap interval over groups, or over images where there are no two groups."""

    def accuracy(rows: np.ndarray) -> float:
        hits, count = (np.bincount(labels[rows], weights=w, minlength=2) for w in (right[rows], None))
        return float((hits / np.maximum(count, 1)).mean())

    n = len(labels)
    interval = bootstrap_rows(n, groups, accuracy, draws, within=(0, 1))
    return {"accuracy": accuracy(np.arange(n)), "accuracy_95": interval, "n": n}


if __name__ == "__main__":
    main()
