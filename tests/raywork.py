"""A run of toy parts that workers of Ray write: the tests start it, kill its workers and itself, and start it again.

python raywork.py OUT ADDRESS PARTS WORKERS SECONDS_A_PART

ADDRESS "here" has Ray started by the run itself, on this machine.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cfdiff.store import RunParts
from cfdiff.store.part_files import PartFiles, Range
from cfdiff.workers.crew import Elsewhere, crew

PART, SIZE = 2, 6
SETTINGS = {"steps": 30, "command": "toy"}
ATTRS = {"seed": 0, "models": {"judge": "ab12"}, "direction": "negative->positive"}


@dataclass(frozen=True)
class Shared:
    """Settings that say who works."""

    workers: int | None = None
    ray: str | None = None
    device: str = "cpu"
    threads: int | None = 1


def batch(start: int, stop: int) -> dict[str, np.ndarray]:
    """Arrays that are a function of the image number alone."""
    number = np.arange(start, stop)
    source = (np.arange(SIZE * SIZE).reshape(1, SIZE, SIZE, 1) + number[:, None, None, None]).astype(np.uint8)
    return {
        "id": np.array([f"{i}.png" for i in number]),
        "label": np.zeros(len(number), np.int64),
        "target": np.ones(len(number), np.int64),
        "source": source,
        "counterfactual": source + np.uint8(3),
        "difference": np.full(source.shape, 3 / 255),
    }


class Writer:
    """Writes parts, notes each in `notes`/done, and dies of those that `notes`/doomed names, once of each."""

    def __init__(self, files: PartFiles, notes: Path, seconds: float) -> None:
        self.files, self.notes, self.seconds = files, notes, seconds
        for name in ("done", "workers"):
            (notes / name).mkdir(exist_ok=True, parents=True)
        (notes / "workers" / str(os.getpid())).touch()

    def __call__(self, piece: Range) -> int:
        start, stop = piece
        if self.files.content(start) is None:
            doomed = self.notes / "doomed" / str(start)
            if doomed.exists():
                doomed.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(self.seconds)
            self.files.write(start, batch(start, stop))
            (self.notes / "done" / f"{start}-{secrets.token_hex(4)}").touch()
        return os.getpid()


def run(out: Path, s: Shared, parts: int, seconds: float = 0.0) -> set[int]:
    """Do the run, or what is left of it; the processes that did."""
    notes, who = out.with_name(out.name + ".notes"), set()
    with RunParts(out, SETTINGS, parts * PART, PART) as owned:
        given = (owned.files, notes, seconds)
        with crew(s, lambda: Writer(*given), Elsewhere(Writer, given)) as workers:
            for (start, _), pid in workers.do(owned.missing()):
                owned.wrote(start)
                who.add(pid)
        owned.join(ATTRS)
    return who


if __name__ == "__main__":
    where, address, count, several, pause = sys.argv[1:]
    if address == "here":
        import raycluster

        with raycluster.patient():
            own = run(Path(where), Shared(int(several)), int(count), float(pause))
        import ray

        print(json.dumps({"workers": sorted(own), "driver": os.getpid(), "left": ray.is_initialized()}))
    else:
        run(Path(where), Shared(int(several), address), int(count), float(pause))
