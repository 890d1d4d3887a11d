"""What does it cost to open many images? Seconds of the processor until the first is read, and memory, by kind of data.

    python benchmarks/sources.py                        100 to 1,000,000 images in .h5, .npz, .tar and .csv
    python benchmarks/sources.py --images 1000000 --kind h5

Images are tiny (8 px), as what is measured is all that grows with their number: ids, labels, patients, and whether they
are unique. Each size is opened in a process of its own, twice over: the second time nothing waits for a disk. Memory is
what the process has at its highest beyond what it had before it opened anything, imports done.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

from cfdiff.data.open import open_source
from cfdiff.version import __version__

SIDE = 8


def write(kind: str, n: int, folder: Path) -> Path:
    """A source of n images, two classes, 100 images a patient."""
    rows = np.arange(n)
    ids = np.array([f"slide-{i // 100:05d}/{i:07d}" for i in rows.tolist()])
    patients, labels = (
        np.array([f"p{i // 100:05d}" for i in rows.tolist()]),
        np.array(["negative", "positive"])[rows % 2],
    )
    path = folder / f"data.{kind}"
    if kind == "csv":
        blank = Image.fromarray(np.zeros((SIDE, SIDE), np.uint8))
        (folder / "images").mkdir()
        blank.save(folder / "images" / "0000000.png")
        for i in range(1, n):  # links: as many files as names, without as many images
            (folder / "images" / f"{i:07d}.png").hardlink_to(folder / "images" / f"{i // 1000 * 1000:07d}.png") if (
                i % 1000
            ) else blank.save(folder / "images" / f"{i:07d}.png")
        lines = (f"images/{i:07d}.png,{label},{p}\n" for i, (label, p) in enumerate(zip(labels, patients, strict=True)))
        path.write_text("path,label,patient\n" + "".join(lines))
        return path
    if kind == "tar":
        _write_tar(path, ids.tolist(), labels.tolist())
        return path
    images = np.zeros((n, SIDE, SIDE), np.uint8)
    arrays = {"images": images, "labels": (rows % 2).astype(np.int64), "id": ids, "patient": patients}
    arrays["classes"] = np.array(["negative", "positive"])
    if kind == "npz":
        np.savez(path, **arrays)
        return path
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = np.char.encode(values, "utf-8") if values.dtype.kind == "U" else values
    return path


def _write_tar(path: Path, ids: list[str], labels: list[str]) -> None:
    """A shard of WebDataset: an image and a class for each id."""
    blank = io.BytesIO()
    Image.fromarray(np.zeros((SIDE, SIDE), np.uint8)).save(blank, "png")
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, label in zip(ids, labels, strict=True):
            for suffix, data in ((".png", blank.getvalue()), (".cls", label.encode())):
                info = tarfile.TarInfo(name + suffix)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
            archive.members.clear()  # or it remembers two million


def _open(path: Path, found: Any) -> None:
    def peak() -> float:
        # Of this process alone: what getrusage says begins with that of the process which started it.
        told = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        return int(told.split()[1]) / 1024

    before, began = peak(), time.process_time()
    source = open_source(path, from_label=0)
    opened = time.process_time() - began
    source.read([len(source) - 1])
    found.put((opened, time.process_time() - began, peak() - before))


def measure(kind: str, n: int) -> dict[str, Any]:
    """Seconds and memory of the second of two openings."""
    processes = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        path = write(kind, n, Path(folder))
        for _ in range(2):
            found = processes.Queue()
            child = processes.Process(target=_open, args=(path, found))
            child.start()
            opened, first, memory = found.get()
            child.join()
        size = path.stat().st_size
    return {
        "kind": kind,
        "images": n,
        "seconds_to_open": round(opened, 3),
        "seconds_to_the_first_image": round(first, 3),
        "memory_mb": round(memory, 1),
        "file_mb": round(size / 1e6, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, action="append", help="again for more sizes")
    parser.add_argument("--kind", choices=["h5", "npz", "tar", "csv"], action="append", help="again for more kinds")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    rows = []
    for kind in options.kind or ["h5", "npz", "tar", "csv"]:
        for n in options.images or [100, 10_000, 100_000, 1_000_000]:
            rows.append(measure(kind, n))
            print(json.dumps(rows[-1]), flush=True)
    if options.json:
        report = {"benchmark": "sources", "cfdiff": __version__, "side": SIDE, "rows": rows}
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
