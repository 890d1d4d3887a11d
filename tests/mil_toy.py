"""A toy of bags in which the answer is known: Gaussian instances, and an exact translation.

A negative instance is N(0, I) in D dimensions; a positive one is a negative one plus SHIFT along the first dimension.
So the translation is exact, and the best score of an instance is its first number.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cfdiff.mil.series import BagSet, Series, class_of
from cfdiff.mil.settings import MilTrainSettings
from cfdiff.store.bag_layouts import FeatureBag, square, write_npz, write_table

D, N, SHIFT = 24, 16, 4.0
COUNTS = (0, 1, 2, 4, 8, 16)
"""Positives in the mixes of a bag."""


def toy_bags(n: int, seed: int, positives: int = 2, name: str = "toy") -> BagSet:
    """n bags of N instances, every other with 1 to `positives` positive ones; each a patient of its own."""
    rng = np.random.default_rng(seed)
    contents = rng.normal(0, 1, (n, N, D)).astype(np.float32)
    labels = np.zeros((n, N), np.int8)
    for b in range(1, n, 2):
        labels[b, rng.permutation(N)[: rng.integers(1, positives + 1)]] = 1
    contents[..., 0] += SHIFT * labels
    rows = np.arange(n * N).reshape(n, 1, N)
    series = tuple(
        Series(f"{name}{seed}-{b}", f"{name}{seed}-{b}", rows[b], labels[b][None], class_of(labels[b][None]))
        for b in range(n)
    )
    return BagSet(name, contents.reshape(-1, D), series)


def translated(bags: BagSet, seed: int, sham: float = 0.0) -> BagSet:
    """The same bags at every mix of `COUNTS`, by the exact translation; shams of size `sham` elsewhere."""
    rng = np.random.default_rng(seed)
    contents, series, start = [bags.contents], [], len(bags.contents)
    for one in bags.series:
        order, rows, labels = rng.permutation(one.size), [one.rows[0]], [one.labels[0]]
        have = int(one.positives[0])
        for k in COUNTS:
            target = int(k > have)
            chosen = order[one.labels[0][order] != target][: abs(k - have)]
            label = one.labels[0].copy()
            label[chosen] = target
            x = bags.contents[one.rows[0]].copy()
            x[:, 0] += SHIFT * (label - one.labels[0].astype(np.float32))
            kept = label == one.labels[0]
            x[kept] += (sham * rng.normal(0, 1, x.shape)).astype(np.float32)[kept]
            moved = np.arange(start, start + one.size)
            contents.append(x)
            rows.append(np.where(kept, one.rows[0], moved) if sham == 0 else moved)
            labels.append(label)
            start += one.size
        told = np.stack(labels)
        series.append(Series(one.name, one.group, np.stack(rows), told, class_of(told)))
    return BagSet(f"{bags.name}-mixes", np.concatenate(contents), tuple(series), bags.names)


def export(bags: BagSet, folder: Path) -> Path:
    """Every version of every bag as `cfdiff bag --export npz` writes it."""
    folder.mkdir(parents=True)
    written = []
    for one in bags.series:
        for v in range(len(one)):
            name = one.name if len(one) == 1 else f"{one.name}_mix-{v}"
            edited = one.labels[v] != one.labels[0]
            x = bags.contents[one.rows[v]]
            bag = FeatureBag(name, one.group, x, square(one.size), one.labels[v], edited, float(one.mixes[v]))
            bag = replace(bag, mix_of=one.name)
            write_npz(folder, bag)
            written.append(bag)
    write_table(folder, written)
    return folder


def quick(data: Path, out: Path, **changes: Any) -> MilTrainSettings:
    """Settings of a short training on toy bags."""
    few: dict[str, Any] = {"steps": 40, "eval_every": 40, "width": 16, "lr": 5e-3, "device": "cpu", "threads": 1}
    return MilTrainSettings(**{"data": str(data), "out": out, **few, **changes})
