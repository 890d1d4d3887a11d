"""What classifiers know of groups that they never saw: begun from nothing, and from a diffusion model of their images.

    python benchmarks/beginnings.py ../shared/data --fits runs/anyone --threads 1 --minutes 2.5 \\
        --json benchmarks/results/beginnings.json

A network as the verifier of `cfdiff fit`, twice, and the way down of the diffusion model of a fit (--init) learn for
the same time from the groups that taught that diffusion model, which was told their classes too. --fits is the --out of
`anyone.py`. Asked are images of groups that none of them saw, and that the test of a fit does not hold: each alone, and
pairs as two verifiers are averaged.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from anyone import SETS
from light import figures, opened, opened_rows, parser, table
from rich.console import Console

import cfdiff
from cfdiff.data.splitting import JUDGE, TRAIN, VAL, VERIFIER, own_split
from cfdiff.fit.classifiers import LIGHT
from cfdiff.fit.space import scaled_for_classifiers
from cfdiff.models.checkpoint import Model, load_model, read_card
from cfdiff.models.ensemble import ensemble
from cfdiff.progress import progress_bar

BATCH = 32
NOTHING, DENOISER = "nothing", "diffusion model"
ASKED = {
    NOTHING: (0,),
    DENOISER: (2,),
    "nothing, twice": (0, 1),
    "one of each": (0, 2),
}
"""What is asked -> which of the three trainings it is."""


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
    if others.groups is not None and set(map(str, others.groups)) & set(read_card(denoiser).data["groups"]):
        raise SystemExit(f"the diffusion model of {name} knows groups to ask of: fit it with --seed {options.seed}")
    scaled = scaled_for_classifiers(source.shape)
    learning = {key: value for key, value in learning.items() if key not in scaled}
    learning |= {"split": "+".join(str(own_split(source, role)) for role in (TRAIN, VERIFIER)), "batch_size": BATCH}
    models, steps = list[Model](), list[int]()
    for i, network in enumerate((scaled, scaled, {"init": denoiser})):
        with progress_bar(f"{name}, {i + 1} of 3") as progress:
            settings = {**learning, **LIGHT, **network, "seed": options.seed + i % 2}
            trained = cfdiff.train_classifier(**settings, out=scratch / f"{name}-{i}", progress=progress)
        models.append(load_model(trained.model))
        steps.append(trained.step)
    found = []
    for label, members in ASKED.items():
        model = ensemble([models[i] for i in members])
        assert model is not None
        found.append({"set": name, "begun from": label, "steps": steps[members[-1]], **figures(model, others)})
    return found


def _denoiser(fits: Path, name: str) -> Path | None:
    """The diffusion model of the fit of a set; None where there is none in pixels, which are what a verifier sees."""
    path = fits / name.replace(" ", "-") / "diffusion" / "model.safetensors"
    return path if path.is_file() and read_card(path).space is None else None


def _parser() -> argparse.ArgumentParser:
    found = parser(__doc__)
    found.add_argument("--fits", type=Path, default=Path("runs/anyone"), help="folder of fits, the --out of anyone.py")
    return found


if __name__ == "__main__":
    main()
