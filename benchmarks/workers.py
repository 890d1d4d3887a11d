"""What do workers cost, and what do two of them gain? One process against Ray's actors, on the same cores.

    python benchmarks/workers.py                       bundled cells: one process, one worker, two workers

Each way translates the same images with one thread a process, in turn, `--repeats` times; compare the ratios, which
hold for this machine and moment. Starting Ray and loading models is counted apart: a run of hours pays it once. The
overhead a part is that of a part that does nothing, and beside it what a part takes.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cfdiff.settings import resolve
from cfdiff.translate.run import translate
from cfdiff.translate.settings import TranslateSettings
from cfdiff.version import __version__
from cfdiff.workers.crew import Elsewhere, crew


@dataclass(frozen=True)
class Shared:
    """Settings that say who works."""

    workers: int | None
    ray: str | None = None
    device: str = "cpu"
    threads: int | None = 1


def nothing() -> Callable[[int], int]:
    """What does a piece and takes no time."""
    return int


def overhead(pieces: int) -> float:
    """Milliseconds a piece that does nothing takes by one worker, from hand to hand."""
    with crew(Shared(1), nothing, Elsewhere(nothing, ())) as workers:
        list(workers.do(range(20)))
        began = time.perf_counter()
        list(workers.do(range(pieces)))
        return 1000 * (time.perf_counter() - began) / pieces


def run(out: Path, options: argparse.Namespace, workers: int | None) -> tuple[float, float]:
    """Seconds from the first part that is finished to the last, an image; and seconds until the first was."""
    told: list[tuple[int, float]] = []
    values = {"limit": options.images, "batch_size": options.batch_size, "threads": 1, "device": "cpu"}
    values |= {"out": out, "workers": workers} | ({"data": options.data} if options.data else {})
    began = time.perf_counter()
    translate(resolve(TranslateSettings, None, values), lambda what, done, n: told.append((done, time.perf_counter())))
    # Of several workers the first parts end together: what is counted begins when each has ended one.
    first = told[(workers or 1) - 1]
    return (told[-1][1] - first[1]) / (told[-1][0] - first[0]), first[1] - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="", help="as of cfdiff translate [default: the bundled cells]")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--pieces", type=int, default=500, help="pieces that do nothing")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    ways: dict[str, int | None] = {"one process": None, "one worker": 1, f"{options.workers} workers": options.workers}
    took: dict[str, list[float]] = {name: [] for name in ways}
    start: dict[str, list[float]] = {name: [] for name in ways}
    made: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for repeat in range(options.repeats):
            for name, workers in ways.items():
                out = Path(scratch) / f"{name}-{repeat}.h5"
                seconds, first = run(out, options, workers)
                took[name].append(seconds)
                start[name].append(first)
                made[name] = out.read_bytes()
    alone, one, several = (min(took[name]) for name in ways)
    milliseconds = overhead(options.pieces)
    part = alone * options.batch_size
    figures: dict[str, Any] = {
        "benchmark": "workers",
        "cfdiff": __version__,
        "cores": sorted(os.sched_getaffinity(0)),
        "images": options.images,
        "images_a_part": options.batch_size,
        "seconds_an_image": {name: [round(value, 4) for value in values] for name, values in took.items()},
        "seconds_to_the_first_parts": {name: [round(value, 2) for value in values] for name, values in start.items()},
        "times_faster_with_workers": round(alone / several, 3),
        "one_worker_against_one_process": round(one / alone, 3),
        "milliseconds_of_a_part_that_does_nothing": round(milliseconds, 3),
        "share_of_a_part": round(milliseconds / 1000 / part, 5),
        "same_bytes": len(set(made.values())) == 1,
    }
    print(json.dumps(figures, indent=1))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
