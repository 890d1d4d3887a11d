"""Does a bag model that sees mixtures made by translation learn better what positive is? Arms, folds, seeds, controls.

    cfdiff data build-malaria SOURCE all.npz --all       # the full set; SOURCE as in its card
    python benchmarks/mil_study.py runs/mil-study --data all.npz --json mil-study.json --plot mil-study.png
    python benchmarks/mil_study.py runs/mil-study-road --set road --data road_damage_64.npz --weights runs/road

The cells are edited once and encoded once, by a frozen encoder that saw no label; then every arm trains a model of
torchmil on features, with the same steps, bags and instances. Killed at any moment, the same command goes on: a line
a training in lines.jsonl. What is measured is on real bags of patients that neither the guide nor the judge saw.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mil_study_arms import ARMS, World, world_edits
from mil_study_data import (
    FOLDS,
    WAYS,
    Cells,
    Edits,
    Set,
    blocks,
    core_rows,
    open_cells,
    prepare,
    read_edits,
    training_patients,
)
from mil_study_features import TURNS, features, fitted_encoder
from mil_study_table import Study, forest, markdown, power
from mil_study_tell import tell
from mil_study_train import Budget, asked, line, test_bags, trained
from rows import same

from cfdiff.engine import seed_of
from cfdiff.files import atomic
from cfdiff.version import __version__

SETS = {
    "cells": Set("", "patient", ("uninfected", "parasitized"), "train-guide", "test+val", "malaria-cells", (12, 3)),
    "road": Set("", "photo", ("sound", "damaged"), "train", "test", "", (3, 1)),
}


def main() -> None:
    options = _parser().parse_args()
    torch.set_num_threads(1)
    work = options.work
    work.mkdir(parents=True, exist_ok=True)
    named = ("set", "data", "splits", "weights", "model", "steps", "encoder_steps", "bag_size")
    asked_for = {name: getattr(options, name) for name in named} | {"core": list(SETS[options.set].core)}
    same(work / "settings.json", asked_for)
    of = replace(SETS[options.set], data=options.data, splits=options.splits)
    of = replace(of, weights=options.weights or of.weights)
    if not of.weights:
        raise SystemExit(f"--set {options.set} has no bundled models: name those that cfdiff fit made with --weights.")
    cells, test = open_cells(of, of.train), open_cells(of, of.test)
    test = test.at(np.flatnonzero(np.isin(test.patients, [p for p in test.names if test.can_be_thinned(p)])))
    of_block = blocks(cells)
    pool = [p for block in of_block for p in block]
    core = core_rows(cells, pool, of.core)
    prepare(work, cells.at(core), of, options.ways)
    edits = read_edits(work, cells.at(core), options.ways)
    world, tested = opened(work, cells, core, edits, test, options)
    plan = power(int((~tested.infected).sum()), int(tested.infected.sum()))
    written(work / "plan.json", plan)
    about = {"edits": made(edits), "plan": plan}
    known = json.loads((work / "tell.json").read_text()) if (work / "tell.json").exists() else {}
    missing = {name: one for name, one in edits.items() if name not in known}
    if missing:
        written(work / "tell.json", known | tell(cells, core, missing, of_block))
    path = work / "lines.jsonl"
    run(options, path, world, of_block, tested)
    study = Study(read_lines(path), tested.infected, tested.fraction)
    report = {
        "benchmark": "mil-study", "cfdiff": __version__, "torch": torch.__version__, "set": options.set,
        "steps": options.steps, "bag_size": options.bag_size, "model": options.model, "folds": FOLDS, **about,
        "tell": json.loads((work / "tell.json").read_text()), **study.report(),
    }  # fmt: skip
    if options.json:
        written(options.json, report)
    if options.plot:
        forest(report, options.plot)
    print(markdown(report))
    print(json.dumps(report["claims"], indent=1))


def opened(work: Path, cells: Cells, core: np.ndarray, edits: dict[str, Edits], test: Cells, options: Any) -> Any:
    """The world of the training patients, and the bags of the test patients, as features; encoded once."""
    net = fitted_encoder(cells.images, work / "encoder.safetensors", options.encoder_steps)
    path = work / "features.npz"
    if not path.exists():
        pool = np.flatnonzero(np.isin(cells.patients, [p for block in blocks(cells) for p in block]))
        turned = np.concatenate([features(net, cells.images[pool], k) for k in range(1, TURNS)])
        with atomic(path) as scratch, scratch.open("wb") as file:
            np.savez(
                file, pool=pool, cells=features(net, cells.images), turned=turned,
                test=features(net, test.images),
            )  # fmt: skip
    with np.load(path) as held:
        own, turned, of_test, pool = (held[k] for k in ("cells", "turned", "test", "pool"))
    made_of = [_encoded(work / f"features-{name}.npy", net, one) for name, one in edits.items()]
    n = len(own)
    places = np.tile(np.arange(n), (TURNS, 1))
    for k in range(1, TURNS):
        places[k, pool] = n + (k - 1) * len(pool) + np.arange(len(pool))
    contents = np.concatenate([own, turned, *made_of])
    told = world_edits(edits, core, n + len(turned))
    world = World(contents, cells, core, told, places, np.arange(n), cells.labels)
    return world, test_bags(test, of_test, options.bag_size)


def _encoded(path: Path, net: torch.nn.Module, edits: Edits) -> np.ndarray:
    if not path.exists():
        with atomic(path) as scratch, scratch.open("wb") as file:
            np.save(file, features(net, edits.images))
    return np.load(path)


def run(options: Any, path: Path, world: World, of_block: list[list[str]], tested: Any) -> None:
    """Every training that has no line yet; a whole seed of all arms before the next, so that what is there compares."""
    budget = Budget(options.steps, options.bag_size, options.model)
    done = {(one["arm"], one["n"], one["fold"], one["seed"], one["target"]) for one in read_lines(path)}
    begun = time.monotonic()
    for seed in options.seeds:
        for n in options.patients:
            for target in options.targets:
                for fold in range(FOLDS):
                    patients = [p for p in training_patients(of_block, fold, n) if world.cells.can_be_thinned(p)]
                    for name, arm in ARMS.items():
                        asked_for = not options.arms or any(part in name for part in options.arms)
                        if (
                            not asked_for
                            or not set(arm.needs) <= set(world.edits)
                            or (name, n, fold, seed, target) in done
                        ):
                            continue
                        if options.minutes and time.monotonic() - begun > 60 * options.minutes:
                            return
                        net = trained(world, arm, patients, target, seed_of(seed, f"{fold}"), budget)
                        told = {"arm": name, "n": n, "fold": fold, "seed": seed, "target": target}
                        with path.open("a") as file:
                            file.write(json.dumps({**told, **line(asked(net, tested, target))}) + "\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The trainings that were finished; a line that a kill cut short is left out."""
    found = []
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            found.append(json.loads(text))
        except ValueError:
            continue
    return found


def made(edits: dict[str, Edits]) -> dict[str, Any]:
    """How many edits of each way there are, and of how many the judge sees the class that they have now."""
    found = {}
    for name, one in edits.items():
        for k, word in enumerate(("negative", "positive")):
            here = one.label == k
            if here.any():
                right = float(((one.judged[here] > 0.5) == (k == 1)).mean())
                found[f"{name}, now {word}"] = {"n": int(here.sum()), "judge_agrees": right}
    return found


def written(path: Path, found: Any) -> None:
    """JSON, whole or not at all."""
    with atomic(path) as scratch:
        scratch.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder for edits, features and lines")
    parser.add_argument("--set", choices=SETS, default="cells")
    parser.add_argument("--data", required=True, help="all images, with splits or with --splits")
    parser.add_argument("--splits", help="table of splits, as cfdiff fit leaves it")
    parser.add_argument("--weights", help="bundled name or folder of models [default: those of the set]")
    parser.add_argument("--model", default="abmil", help="of torchmil")
    parser.add_argument("--steps", type=int, default=60, help="optimiser steps of each training")
    parser.add_argument("--encoder-steps", type=int, default=300)
    parser.add_argument("--bag-size", type=int, default=100)
    parser.add_argument("--patients", type=int, nargs="*", default=[20, 10, 40], help="to train on")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="*", help="only those whose name contains one of these")
    parser.add_argument(
        "--ways", nargs="*", choices=WAYS, default=WAYS, help="edits to make; arms of others are left out"
    )
    parser.add_argument("--targets", nargs="*", default=["label", "fraction"])
    parser.add_argument("--minutes", type=float, help="no training begins after so many; the same command goes on")
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--plot", type=Path, help="draw the forest plot here")
    return parser


if __name__ == "__main__":
    main()
