"""A worker that does a toy run, one slow batch after another, for the tests to start and to kill."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from cfdiff.store import RunParts

N, PART, SIZE = 23, 4, 6
SETTINGS = {"steps": 30, "guides": {"scale": 20.0}, "direction": "negative->positive"}
ATTRS = {"seed": 0, "models": {"judge": "ab12"}, "direction": "negative->positive", "classes": ["no", "yes"]}


def batch(start: int, stop: int, dtype: str = "uint8") -> dict[str, np.ndarray]:
    """Arrays that are a function of the image number alone."""
    shape = (stop - start, SIZE, SIZE, 1)
    number = np.arange(start, stop)
    source = (np.arange(SIZE * SIZE).reshape(1, SIZE, SIZE, 1) + number[:, None, None, None]).astype(dtype)
    after = (source + 3).astype(dtype)
    return {
        "id": np.array([f"Größe/{i}.png" for i in number]),
        "group": np.array([f"P{i // 5}" for i in number]),
        "label": np.zeros(stop - start, np.int64),
        "target": np.ones(stop - start, np.int64),
        "source": source,
        "counterfactual": after,
        "difference": np.full(shape, 3 / 255),
        "prob/judge": np.tile(np.float32([[0.9, 0.1], [0.2, 0.8]]), (stop - start, 1, 1)),
        "flipped": number % 2 == 0,
        "status": np.array(["ok" if i % 2 == 0 else "not flipped" for i in number]),
        "guidance/ratio": number / 10,
    }


def run(out: Path, *, force: bool = False, pause: float = 0.0, hang_at: int = N) -> list[int]:
    """Do the run, or what is left of it; the starts of the parts that this call computed."""
    computed = []
    with RunParts(out, SETTINGS, N, PART, force=force) as parts:
        print("begun", flush=True)
        for start, stop in parts.todo():
            time.sleep(pause if start < hang_at else 1e6)
            parts.write(start, batch(start, stop))
            computed.append(start)
        parts.join(ATTRS)
    return computed


if __name__ == "__main__":
    print(*run(Path(sys.argv[1]), pause=float(sys.argv[2]), hang_at=int(sys.argv[3])))
