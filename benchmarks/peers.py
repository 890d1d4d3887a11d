"""cfdiff and other methods over the same networks: flips, change, COUT, calls, seconds, memory, both ways.

    python benchmarks/peers.py --json benchmarks/results/peers.json
    python benchmarks/peers.py --only DiME ACE --json benchmarks/results/peers.json     goes on where it stopped
    python benchmarks/peers.py --table --json benchmarks/results/peers.json             the tables, and nothing is run

The methods are written from their papers (benchmarks/peers/), over the bundled gray cells' denoiser, noise-aware guide
and checkers. What is scored is the image as it would be saved, by the judge, which none of them sees. Each method's
scale is the one that on validation patients turns most images in the eyes of the checkers, and of equals the one that
changes least; cfdiff has its recipe, which was found on such patients. A method has a process of its own with one
thread: seconds are of the processor, memory is the process's highest. Rows that the file holds are not run again.
Intervals are 95 %, over patients.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from peers.kinds import PEERS, Peer
from peers.networks import Networks
from peers.null import null_edits
from peers.table import tables

from cfdiff.data.open import open_source
from cfdiff.data.source import Source
from cfdiff.data.values import as_saved, mean_change, to_model, unit
from cfdiff.edit.cast import Cast, probabilities
from cfdiff.edit.editor import Editor
from cfdiff.edit.roles import load_cast
from cfdiff.engine import NoiseSource
from cfdiff.metrics.faithfulness import cout
from cfdiff.metrics.intervals import mean_interval, share_interval
from cfdiff.settings import resolve
from cfdiff.translate.settings import TranslateSettings
from cfdiff.version import __version__

DATA = "malaria-cells"
OURS = "cfdiff"
BATCH = 16
DIRECTIONS = ("negative -> positive", "positive -> negative")
"""By the class that is left."""


def source_of(split: str, label: int, limit: int) -> Source:
    """Images of one class of a split, spread over its patients; a smaller limit is a part of a larger."""
    return open_source(DATA, split=split, from_label=label, limit=limit, seed=0)


def settings(label: int) -> TranslateSettings:
    return resolve(TranslateSettings, None, {"from": ("negative", "positive")[label], "threads": 1})


def edited(peer: Peer | None, cast: Cast, source: Source, scales: list[float]) -> tuple[list[np.ndarray], Networks]:
    """The images (n, H, W, C) as saved, for each scale, and what the networks were asked."""
    label, net, parts = int(source.labels[0]), Networks(cast), []
    for start in range(0, len(source), BATCH):
        rows = np.arange(start, min(start + BATCH, len(source)))
        images, ids = source.read(rows), [str(i) for i in source.ids[rows]]
        if peer is None:
            found = Editor(cast, settings(label)).edit(images, ids, 1 - label)
            net.calls += int(found.network_calls.sum())
            net.gradients += 2 * int(found.guide_calls.sum())  # guide and checkers
            parts.append([found.counterfactual])
            continue
        x, target = to_model(images), torch.full((len(rows),), 1 - label)
        with torch.no_grad():
            made = peer.edit(net, x, target, scales, NoiseSource(0, ids))
        parts.append([as_saved(images, x, one.float())[0] for one in made])
    return [np.concatenate(of_scale) for of_scale in zip(*parts, strict=True)], net


def seen(cast: Cast, who: str, images: np.ndarray, target: int) -> np.ndarray:
    """(n,) what a classifier of the cast gives to the target."""
    return probabilities(getattr(cast, who), to_model(images)).numpy()[:, target]


@cache
def choose(name: str, label: int, val: int) -> tuple[float, list[dict[str, float]]]:
    """The scale with most flips by the checkers and then least change, from the class `label`; what each gave."""
    peer, source = PEERS[name], source_of("val", label, val)
    cast = load_cast(settings(label), DATA, source)
    target, pixels = 1 - label, source.read(np.arange(len(source)))
    tried = [
        {
            "scale": scale,
            "flipped_checker": float((seen(cast, "checker", saved, target) > 0.5).mean()),
            "mean_abs_difference": float(mean_change(pixels, saved).mean()),
        }
        for scale, saved in zip(peer.scales, edited(peer, cast, source, list(peer.scales))[0], strict=True)
    ]
    best = max(tried, key=lambda one: (one["flipped_checker"], -one["mean_abs_difference"]))
    return best["scale"], tried


@dataclass(frozen=True)
class Todo:
    """A row that is not there yet, in its table; how many images it is chosen and scored on."""

    table: Literal["rows", "null"]
    label: int
    val: int
    test: int

    def figures(self, name: str) -> dict[str, Any]:
        make = row if self.table == "rows" else null_row
        return make(name, self.label, self.val, self.test)


def row(name: str, label: int, val: int, test: int) -> dict[str, Any]:
    """Every figure of one method in one direction, from the class `label` to the other."""
    torch.set_num_threads(1)
    peer = PEERS.get(name)
    source = source_of("test", label, test)
    cast = load_cast(settings(label), DATA, source)
    scale, tried = (0.0, []) if peer is None else choose(name, label, val)
    began = time.process_time()
    (saved,), net = edited(peer, cast, source, [scale])
    seconds = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB
    target, pixels = 1 - label, source.read(np.arange(len(source)))
    assert cast.judge is not None
    judge = cast.judge
    moved = cout(unit(pixels), unit(saved), lambda x: probabilities(judge, to_model(x)).numpy(), target)
    values = {
        "flipped_judge": seen(cast, "judge", saved, target) > 0.5,
        "flipped_checker": seen(cast, "checker", saved, target) > 0.5,
        "mean_abs_difference": mean_change(pixels, saved),
        "cout": moved.scores,
    }
    figures: dict[str, Any] = {}
    for key, of in values.items():
        groups, shares = source.groups, of.dtype == bool
        figures[key] = float(of.mean())
        figures[f"{key}_95"] = share_interval(of, groups) if shares else mean_interval(of, groups)
    n = len(source)
    return {
        "peer": name,
        "direction": DIRECTIONS[label],
        "n": n,
        "patients": len(np.unique(source.groups)),
        "scale": scale,
        "validated_on": 0 if peer is None else val,
        "validation": tried,
        **figures,
        "network_calls": net.calls / n,
        "classifier_gradients": net.gradients / n,
        "seconds_per_image": seconds / n,
        "peak_memory_mb": peak,
        "images": {
            "id": [str(i) for i in source.ids],
            "flipped_judge": values["flipped_judge"].tolist(),
            "mean_abs_difference": values["mean_abs_difference"].astype(float).round(5).tolist(),
        },
    }


def null_row(name: str, label: int, val: int, test: int) -> dict[str, Any]:
    """What a method makes of an image of which no edit is asked, and of an edit there and back."""
    torch.set_num_threads(1)
    source, peer = source_of("test", label, test), PEERS.get(name)
    cast = load_cast(settings(label), DATA, source)
    scales = [0.0, 0.0] if peer is None else [choose(name, side, val)[0] for side in (0, 1)]
    found = null_edits(peer, Editor(cast, settings(label)), Networks(cast), source, scales)
    return {"peer": name, "direction": DIRECTIONS[label], **found}


def work(name: str, todo: list[Todo], found: Any) -> None:
    """Put the rows of one method, one after another; None where one failed, which stands on stderr."""
    try:
        for task in todo:
            found.put(task.figures(name))
    except BaseException:
        found.put(None)
        raise


def rows_of(name: str, todo: list[Todo]) -> Iterator[dict[str, Any]]:
    """The rows of one method, from a fresh process, so that its memory is its own."""
    processes = multiprocessing.get_context("spawn")
    found = processes.Queue()
    child = processes.Process(target=work, args=(name, todo, found), daemon=True)
    child.start()
    for _ in todo:
        figures = found.get()
        if figures is None:
            raise SystemExit(f"{name} failed; the rows before it are kept.")
        yield figures
    child.join()


def main() -> None:
    options = _parser().parse_args()
    report: dict[str, Any] = {"benchmark": "peers", "cfdiff": __version__, "torch": torch.__version__, "seed": 0}
    report |= {"threads": 1, "rows": [], "null": []}
    if options.json and options.json.exists():
        report = json.loads(options.json.read_text())
    wanted = [name for name in (OURS, *PEERS) if not options.only or any(part in name for part in options.only)]
    for name in [] if options.table else wanted:
        peer = PEERS.get(name)
        val = options.val if peer is None or peer.val is None else min(options.val, peer.val)
        test = options.test if peer is None or peer.test is None else min(options.test, peer.test)
        todo = [Todo("rows", label, val, test) for label in (0, 1)]
        if peer is None or peer.exact:
            todo += [Todo("null", label, val, options.null) for label in (0, 1)]
        there = {(table, one["peer"], one["direction"]) for table in ("rows", "null") for one in report[table]}
        todo = [task for task in todo if (task.table, name, DIRECTIONS[task.label]) not in there]
        for task, figures in zip(todo, rows_of(name, todo), strict=True):
            report[task.table].append(figures)
            print(json.dumps({k: v for k, v in figures.items() if k != "images"}), flush=True)
            if options.json:
                options.json.write_text(json.dumps(report, indent=1) + "\n")
    print("\n".join(tables(report)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", help="methods whose name contains one of these")
    parser.add_argument("--val", type=int, default=8, help="validation images a direction, to choose the scale on")
    parser.add_argument("--test", type=int, default=32, help="test images a direction; slow methods have fewer")
    parser.add_argument("--null", type=int, default=8, help="test images a direction of null edits and round trips")
    parser.add_argument("--table", action="store_true", help="print what the file holds; run nothing")
    parser.add_argument("--json", type=Path, help="write all figures here, and go on from what it holds")
    return parser


if __name__ == "__main__":
    main()
