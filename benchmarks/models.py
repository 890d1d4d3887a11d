"""How good are the shipped models on unseen patients? Accuracy of the classifiers, error of the diffusion model.

    python benchmarks/models.py [--split test] [--data malaria-cells] [--weights malaria-cells] [--json OUT]

Balanced accuracy (mean of the two classes') with a 95 % interval from 1,000 bootstrap draws of whole patients, widened
for their number; the guide at every noise level shown, one noise draw an image, seed 0. Chance is 50 %.
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

from cfdiff.data.open import open_source
from cfdiff.data.values import to_model
from cfdiff.edit.roles import Cast, load_cast, probabilities
from cfdiff.edit.settings import EditSettings
from cfdiff.engine import q_sample
from cfdiff.metrics.intervals import bootstrap_rows
from cfdiff.models.space import encoded
from cfdiff.train.validate import validate

DEPTHS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="malaria-cells")
    parser.add_argument("--split", default="test")
    parser.add_argument("--weights", default="malaria-cells")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    source = open_source(options.data, split=options.split, limit=options.limit)
    cast = load_cast(EditSettings(weights=options.weights), options.data, source)
    x0 = to_model(source.read(np.arange(len(source)))).to(cast.device)
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
    loss = validate(cast.denoise, z0[:512])
    print(f"diffusion, L_simple on {len(z0[:512])} images:", json.dumps(loss))
    if options.json:
        report = {
            "benchmark": "models",
            "images": len(source),
            "split": options.split,
            "seed": 0,
            "rows": rows,
            "diffusion": loss,
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n")


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
