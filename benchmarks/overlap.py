"""What does it gain to pack and write a part while the next is edited? `workers.here.Here` in two steps and in one.

    python benchmarks/overlap.py                       three parts a turn, five turns, one thread for the networks

Convolutions stand in for the edit, for as long as packing takes alone; what is packed is noise in colour, the hardest.
Both ways in turn, so compare the ratio: 2 would be to be had of endless parts where packing lets the edit run freely.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scale import batch

from cfdiff.store.parts import RunParts
from cfdiff.version import __version__
from cfdiff.workers.crew import Elsewhere
from cfdiff.workers.here import Here


@dataclass(frozen=True)
class Nobody:
    """Settings of a run that this process does alone."""

    workers = ray = threads = None
    device = "cpu"


class Part:
    """Work on a part: convolutions for `seconds` on one thread, then what `pack` does; at once, or `InTwo`."""

    def __init__(self, seconds: float, pack: Callable[[int], None]) -> None:
        self.pack, self.times = pack, 20
        self.image, self.kernel = torch.zeros(8, 64, 48, 48), torch.zeros(64, 64, 3, 3)
        began = time.perf_counter()
        self.edit()
        self.times = max(1, round(self.times * seconds / (time.perf_counter() - began)))

    def edit(self) -> None:
        """The same convolutions each time, however long they take beside other work."""
        for _ in range(self.times):
            torch.nn.functional.conv2d(self.image, self.kernel, padding=1)

    def __call__(self, piece: int) -> None:
        self.edit()
        self.pack(piece)


class PartInTwo(Part):
    """As `workers.here.InTwo`."""

    def begin(self, piece: int) -> Callable[[], None]:
        """The edit now, packing when what is given back is called."""
        self.edit()
        return lambda: self.pack(piece)


def seconds(work: Part, pieces: list[int]) -> float:
    """Of one turn."""
    began = time.perf_counter()
    nowhere = Elsewhere(lambda: work, ())  # nobody else works, so neither settings nor that are looked at
    with Here(Nobody(), lambda: work, nowhere) as here:
        for _ in here.do(pieces):
            pass
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64, help="of a part")
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--parts", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    made, n = batch(0, options.images, options.side, channels=3), options.images * options.parts
    pieces = [k * options.images for k in range(options.parts)]
    with (
        tempfile.TemporaryDirectory() as folder,
        RunParts(Path(folder) / "run.h5", {"benchmark": "overlap"}, n, options.images) as run,
    ):
        began = time.perf_counter()
        run.files.write(0, made)
        packing = time.perf_counter() - began
        ratios = []
        for _ in range(options.repeats):
            each = [seconds(kind(packing, lambda k: run.files.write(k, made)), pieces) for kind in (Part, PartInTwo)]
            ratios.append(each[0] / each[1])
    p = options.parts
    figures = {
        "benchmark": "overlap", "cfdiff": __version__, "images": options.images, "side": options.side, "parts": p,
        "seconds_to_pack": round(packing, 2), "times_as_fast": [round(ratio, 2) for ratio in sorted(ratios)],
        "median": round(float(np.median(ratios)), 2), "at_most": round(2 * p / (p + 1), 2),
    }  # fmt: skip
    print(json.dumps(figures, indent=1))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
