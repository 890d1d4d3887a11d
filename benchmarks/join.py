"""How long does it take to join the parts of a run? Compressed chunks as they are, against unpacking and packing again.

    python benchmarks/join.py                          20,000 bundled cells in parts of 256

Both ways join the same parts in one run and in turn, so compare the ratio; both files must hold the same values.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
from scipy.ndimage import gaussian_filter

from cfdiff.data.open import open_source
from cfdiff.data.values import unit
from cfdiff.store import RunParts
from cfdiff.store.chunks import append
from cfdiff.store.schema import create_dataset
from cfdiff.version import __version__


def images(cells: np.ndarray, start: int, n: int, seed: int) -> dict[str, np.ndarray]:
    """Arrays of one part: bundled cells (N, H, W, 1), and as edits the same with a soft dark spot and a faint change
    everywhere, as a decoded edit has it.
    """
    rng = np.random.default_rng([seed, start])
    source = cells[np.arange(start, start + n) % len(cells)]
    side = source.shape[1]
    y, x = np.mgrid[:side, :side]
    centre = rng.uniform(side / 4, 3 * side / 4, (2, n, 1, 1))
    spot = -60 * np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / 12)
    faint = gaussian_filter(rng.normal(0, 6, (n, side, side)), (0, 2, 2))
    edited = np.rint(source + (spot + faint)[..., None] * (source > 0)).clip(0, 255).astype(np.uint8)
    return {
        "id": np.array([f"{start + i}" for i in range(n)]),
        "label": np.zeros(n, np.int8),
        "target": np.ones(n, np.int8),
        "source": source,
        "counterfactual": edited,
        "difference": (unit(edited) - unit(source)).astype(np.float16),
    }


def by_value(file: h5py.File, part: h5py.File, start: int, n: int) -> None:
    """The way before: every image is unpacked and packed again."""
    names: list[str] = []
    part.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    for name in names:
        values = part[name].asstr()[:] if h5py.check_string_dtype(part[name].dtype) else part[name][:]
        target = file[name] if name in file else create_dataset(file, name, values, n)
        target[start : start + len(values)] = values


def seconds(copy: object, paths: list[Path], out: Path, part_size: int, n: int) -> float:
    """How long one way takes to join the files of the parts."""
    began = time.perf_counter()
    with h5py.File(out, "w", locking=False) as file:
        for k, path in enumerate(paths):
            with h5py.File(path, "r", locking=False) as part:
                copy(file, part, k * part_size, n)  # type: ignore[operator]
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--part-size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    n, size = options.images, options.part_size
    bundled = open_source("malaria-cells")
    cells = bundled.read(np.arange(len(bundled)))
    with tempfile.TemporaryDirectory() as scratch:
        run = RunParts(Path(scratch) / "run.h5", {"benchmark": "join"}, n, size)
        with run:
            for start, stop in run.todo():
                run.write(start, images(cells, start, stop - start, options.seed))
            paths = sorted(run.folder.glob("part-*.h5"))
            old, new = [], []
            for _ in range(options.repeats):
                old.append(seconds(by_value, paths, Path(scratch) / "old.h5", size, n))
                new.append(seconds(append, paths, Path(scratch) / "new.h5", size, n))
            with h5py.File(Path(scratch) / "old.h5") as a, h5py.File(Path(scratch) / "new.h5") as b:
                same = set(a) == set(b) and all((a[name][:] == b[name][:]).all() for name in a)
    figures = {
        "benchmark": "join",
        "cfdiff": __version__,
        "seed": options.seed,
        "images": n,
        "part_size": size,
        "seconds_by_value": [round(value, 2) for value in old],
        "seconds_by_chunk": [round(value, 2) for value in new],
        "times_faster": [round(a / b, 2) for a, b in zip(old, new, strict=True)],
        "same_values": bool(same),
    }
    print(json.dumps(figures, indent=1))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
