"""What classifiers know of groups that they never saw: begun from nothing, and from a diffusion model of their images.

    python benchmarks/beginnings.py ../shared/data --fits runs/anyone --threads 1 --minutes 2.5 \\
        --json benchmarks/results/beginnings.json

A network as the judge of `cfdiff fit`, twice, and the way down of the diffusion model of a fit (--init), twice, learn
for the same time from the same groups of each set of `anyone.py`, whose --out is --fits. Asked are images of groups
that neither they nor the diffusion model learned from, and that the test of a fit does not hold: each one alone, and
pairs of them as two verifiers.
"""

from __future__ import annotations

import argparse
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from anyone import SETS
from light import figures, opened, opened_rows, parser, table
from rich.console import Console

import cfdiff
from cfdiff.data.splitting import JUDGE, VAL, own_split
from cfdiff.fit.classifiers import LIGHT
from cfdiff.fit.space import scaled_for_classifiers
from cfdiff.models.checkpoint import Model, load_model, read_card
from cfdiff.models.ensemble import ensemble
from cfdiff.progress import progress_bar

BATCH = 32
WAYS = ("nothing", "diffusion model")


def main() -> None:
    options = _parser().parse_args()
    rows = opened_rows(options, "beginnings", ("set", "begun from"))
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.only or SETS:
            if (denoiser := _denoiser(options.fits, name)) is not None:
                rows.put(*measure(name, denoiser, Path(scratch), options))
    Console(width=150).print(table(rows.rows, "begun from"))


def measure(name: str, denoiser: Path, scratch: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of a set: each way alone, and the pairs."""
    source, learning = opened(name, scratch, options)
    others = source.select(np.flatnonzero(np.isin(source.splits, [own_split(source, role) for role in (JUDGE, VAL)])))
    for key in scaled_for_classifiers(source.shape):
        del learning[key]
    models: dict[tuple[str, int], Model] = {}
    steps: dict[str, int] = {}
    for way, seed in product(WAYS, (0, 1)):
        network = {"init": denoiser} if way == WAYS[1] else scaled_for_classifiers(source.shape)
        settings = {**learning, **LIGHT, **network, "batch_size": BATCH, "seed": options.seed + seed}
        with progress_bar(f"{name}, from {way}, {seed + 1} of 2") as progress:
            trained = cfdiff.train_classifier(**settings, out=scratch / f"{name}-{way}-{seed}", progress=progress)
        models[way, seed] = load_model(trained.model)
        steps[way] = trained.step
    nothing, begun = WAYS
    asked = {
        nothing: [(nothing, 0)],
        begun: [(begun, 0)],
        "nothing, twice": [(nothing, 0), (nothing, 1)],
        "diffusion model, twice": [(begun, 0), (begun, 1)],
        "nothing, diffusion model": [(nothing, 0), (begun, 0)],
    }
    found = []
    for label, members in asked.items():
        model = ensemble([models[member] for member in members])
        assert model is not None
        told = {"set": name, "begun from": label, "steps": steps[members[-1][0]]}
        found.append({**told, **figures(model, others)})
    return found


def _denoiser(fits: Path, name: str) -> Path | None:
    """The diffusion model of the fit of a set; None where there is none in pixels, which are what a judge sees."""
    path = fits / name.replace(" ", "-") / "diffusion" / "model.safetensors"
    return path if path.is_file() and read_card(path).space is None else None


def _parser() -> argparse.ArgumentParser:
    found = parser(__doc__)
    found.add_argument("--fits", type=Path, default=Path("runs/anyone"), help="folder of fits, the --out of anyone.py")
    return found


if __name__ == "__main__":
    main()
