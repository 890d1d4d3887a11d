"""Magnetic-tile surfaces with pixel masks: split the crops by photograph, for training and localisation.

    python benchmarks/magnetic_data.py ../shared/data/magnetic_tile_64.npz runs/magnetic/tiles.npz

Crops of one photograph (`cluster`) stay together. Within each kind of defect the clusters are put in the order of a
hash of their number and dealt to the splits by share of crops, so that every split has every kind.
"""

from __future__ import annotations

import argparse
import hashlib
from collections import Counter
from pathlib import Path

import numpy as np

SHARES = {"train-guide": 0.5, "train-judge": 0.18, "val": 0.12, "test": 0.2}


def splits_of(cluster: np.ndarray, kind: np.ndarray, label: np.ndarray) -> np.ndarray:
    """(N,) split names; a cluster with several kinds goes by the rarest of its defects."""
    common = Counter(kind[label == 1].tolist())
    kind_of: dict[int, str] = {}
    for number in np.unique(cluster).tolist():
        rows = cluster == number
        defects = np.unique(kind[rows & (label == 1)]).tolist()
        kind_of[number] = min(defects, key=lambda k: common[k]) if defects else "Free"
    split = np.empty(len(cluster), "U12")
    for each in sorted(set(kind_of.values())):
        numbers = [number for number, k in kind_of.items() if k == each]
        numbers.sort(key=lambda number: hashlib.sha256(f"magnetic/{number}".encode()).hexdigest())
        sizes = np.array([np.sum(cluster == number) for number in numbers])
        middle = (np.cumsum(sizes) - sizes / 2) / sizes.sum()
        edges = np.cumsum(list(SHARES.values()))[:-1]
        for number, part in zip(numbers, np.searchsorted(edges, middle), strict=True):
            split[cluster == number] = list(SHARES)[part]
    return split


def prepare(source: Path, out: Path) -> None:
    """Write `out` with images, labels, masks, defect, cluster, name and split; print the counts."""
    with np.load(source, allow_pickle=False) as file:
        arrays = {key: file[key] for key in ("images", "labels", "masks", "defect", "cluster", "name")}
    label, kind = arrays["labels"], arrays["defect"]
    arrays["split"] = splits_of(arrays["cluster"], kind, label)
    arrays["classes"] = np.array(["free", "defect"])
    out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(out, **arrays)
    for name in SHARES:
        rows = arrays["split"] == name
        kinds = dict(sorted(Counter(kind[rows & (label == 1)].tolist()).items()))
        clusters = len(np.unique(arrays["cluster"][rows]))
        print(f"{name:12s} {rows.sum():5d} crops, {clusters:3d} clusters, {label[rows].sum():4d} defects: {kinds}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    prepare(options.source, options.out)
