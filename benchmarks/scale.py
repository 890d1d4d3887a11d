"""Does a run of many images stay as cheap an image, and as small in memory, as one of few?

    python benchmarks/scale.py                         100 to 100,000 images
    python benchmarks/scale.py --images 1000000        one size
    python benchmarks/scale.py --images 2000 --side 512        large images: how near joining comes to the disk

What is measured is all but the networks: parts of small synthetic images are written, looked through as a resumed run
does, joined, and read, one image at a time and at random. Each size runs in a process of its own, whose peak memory is
that of the size; compare it with the smallest. Joining is beside a plain copy of the same bytes, which the disk can do.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from cfdiff.store import RunParts, open_result
from cfdiff.version import __version__

ATTRS = {"seed": 0, "models": {}, "direction": "negative -> positive"}


def batch(start: int, stop: int, side: int = 32, channels: int = 1) -> dict[str, np.ndarray]:
    """Noisy images, so that they are as hard to pack as real ones, and edits that differ in a corner."""
    rng = np.random.default_rng(start)
    source = rng.integers(0, 256, (stop - start, side, side, channels), dtype=np.uint8)
    after = source.copy()
    after[:, :8, :8] //= 2
    return {
        "id": np.array([f"slide/{i:08d}.png" for i in range(start, stop)]),
        "label": np.zeros(stop - start, np.int8),
        "target": np.ones(stop - start, np.int8),
        "source": source,
        "counterfactual": after,
        "difference": ((after.astype(np.float32) - source) / 255).astype(np.float16),
        "prob/judge": np.full((stop - start, 2, 2), 0.5, np.float32),
    }


def measure(n: int, side: int, part_size: int, folder: Path) -> dict[str, Any]:
    """Seconds of each step, peak memory in MB, and bytes of the file."""
    out, took, began = folder / "run.h5", {}, time.perf_counter()

    def step(name: str) -> None:
        nonlocal began
        took[name], began = time.perf_counter() - began, time.perf_counter()

    with RunParts(out, {"benchmark": "scale"}, n, part_size) as run:
        for start, stop in run.ranges:
            run.write(start, batch(start, stop, side))
    step("write")
    with RunParts(out, {"benchmark": "scale"}, n, part_size) as run:
        assert not run.missing()
        step("look_through")
        whole = sum(run.files.path(start).stat().st_size for start, _ in run.ranges)
        copied = folder / "copy"
        with copied.open("wb") as into:
            for start, _ in run.ranges:
                with run.files.path(start).open("rb") as part:
                    shutil.copyfileobj(part, into, 1 << 20)
            step("plain_copy")
            into.flush()
            os.fsync(into.fileno())  # as a result is before it takes its name
        step("sync")
        copied.unlink()
        run.join(ATTRS)
    step("join")
    rows = np.random.default_rng(0).integers(0, n, 100)
    with open_result(out) as result:
        step("open")
        for row in rows.tolist():
            _ = result.source[row], result.counterfactual[row]
        step("read_100_images")
    return {
        "images": n,
        "side": side,
        "seconds": {name: round(value, 3) for name, value in took.items()},
        "join_megabytes_a_second": round(whole / 1e6 / took["join"], 1),
        "copy_megabytes_a_second": round(whole / 1e6 / took["plain_copy"], 1),
        "synced_copy_megabytes_a_second": round(whole / 1e6 / (took["plain_copy"] + took["sync"]), 1),
        "milliseconds_an_image_read": round(1000 * took["read_100_images"] / len(rows), 2),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "file_bytes": out.stat().st_size,
    }


def _child(n: int, side: int, part_size: int, place: str | None, found: Any) -> None:
    with tempfile.TemporaryDirectory(dir=place) as folder:
        found.put(measure(n, side, part_size, Path(folder)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, action="append", help="again for more sizes")
    parser.add_argument("--side", type=int, default=32, help="of the images, in pixels")
    parser.add_argument("--part-size", type=int, default=64)
    parser.add_argument("--folder", help="where the files lie [default: that of the system's temporary files]")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    processes, curve = multiprocessing.get_context("spawn"), []
    for n in options.images or [100, 1000, 10_000, 100_000]:
        found = processes.Queue()
        child = processes.Process(target=_child, args=(n, options.side, options.part_size, options.folder, found))
        child.start()
        curve.append(found.get())
        child.join()
        print(json.dumps(curve[-1]), flush=True)
    figures = {"benchmark": "scale", "cfdiff": __version__, "part_size": options.part_size, "curve": curve}
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
