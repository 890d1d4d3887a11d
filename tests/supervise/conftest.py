"""A world whose cause is known: a faint cross makes the class, a bright corner goes with it and is nothing.

The pairs are perfect: a cross comes or goes, and the corner stays.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cfdiff.store import RunParts
from cfdiff.supervise.settings import SuperviseSettings

CLASSES = ("healthy", "sick")
SIZE, TRAIN, VAL, TEST = 16, 240, 40, 80
TINY = {"channels": [8, 16, 16, 16], "stem_width": 8}


def drawn(n: int, cross: np.ndarray, corner: np.ndarray, seed: int) -> np.ndarray:
    """(n, 16, 16, 1) uint8; `cross` and `corner` (n,) bool say which is there."""
    rng = np.random.default_rng(seed)
    images = rng.normal(90, 10, (n, SIZE, SIZE))
    images[:, 7:9, 4:12] += 18 * cross[:, None, None]
    images[:, 4:12, 7:9] += 18 * cross[:, None, None]
    images[:, :4, :4] += 120 * corner[:, None, None]
    return images.clip(0, 255).astype(np.uint8)[..., None]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An npz with splits; the corner goes with the class in 90 % of train and val and against it in all of test."""
    splits = np.repeat(["train", "val", "test"], [TRAIN, VAL, TEST])
    n = len(splits)
    labels = np.arange(n) % 2
    with_it = np.where(splits == "test", False, np.arange(n) // 2 % 10 != 0)
    images = drawn(n, labels == 1, (labels == 1) == with_it, 0)
    path = tmp_path_factory.mktemp("world") / "world.npz"
    ids = np.array([f"cell/{i:03d}" for i in range(n)])
    patient = np.array([f"P{i // 4}" for i in range(n)])
    np.savez(path, images=images, labels=np.array(CLASSES)[labels], id=ids, patient=patient, split=splits)
    return path


@pytest.fixture
def make_pairs(world: Path, tmp_path: Path) -> Callable[..., Path]:
    """A finished run on rows of the world: crosses come and go; arrays may be replaced, or (None) left out."""

    def make(rows: np.ndarray | None = None, out: str = "run.h5", **changes: Any) -> Path:
        data = dict(np.load(world))
        rows = np.arange(TRAIN) if rows is None else np.asarray(rows)
        n, source = len(rows), data["images"][rows]
        label = (data["labels"][rows] == "sick").astype(np.int64)
        step = drawn(n, np.ones(n, bool), np.zeros(n, bool), 1).astype(int) - drawn(
            n, np.zeros(n, bool), np.zeros(n, bool), 1
        )
        after = (source + step * np.where(label == 1, -1, 1)[:, None, None, None]).clip(0, 255).astype(np.uint8)
        sure = np.full(n, 0.95)
        p = np.stack(
            [np.stack([1 - label, label], 1), np.where((1 - label)[:, None] == [0, 1], sure[:, None], 0.05)], 1
        )
        settings = {"data": "world.npz", "classes": list(CLASSES), "accept": 0.9, **changes.pop("settings", {})}
        arrays = {
            "id": data["id"][rows], "group": data["patient"][rows], "label": label, "target": 1 - label,
            "source": source, "counterfactual": after, "difference": (after.astype(float) - source) / 255,
            "prob/verifier": p.astype(np.float32), **changes,
        }  # fmt: skip
        arrays = {name: value for name, value in arrays.items() if value is not None}
        with RunParts(tmp_path / out, settings, n, n) as parts:
            for start, _stop in parts.todo():
                parts.write(start, arrays)
            parts.join(
                {"seed": 0, "models": {"verifier": "e" * 64}, "direction": "negative (healthy) -> positive (sick)"}
            )
        return tmp_path / out

    return make


@pytest.fixture
def quick(world: Path, tmp_path: Path) -> Callable[..., SuperviseSettings]:
    """Settings of a training of seconds."""

    def make(pairs: Any = "none", **changes: Any) -> SuperviseSettings:
        small = {
            "data": str(world), "out": tmp_path / "out", "group_key": "patient", "device": "cpu", "arch": "resnet10t",
            "kwargs": TINY, "batch_size": 32, "steps": 80, "eval_every": 80, "lr": 5e-3, "warmup": 5, "shift": 1,
            "ema": 0.9, "augment": "none",
        }  # fmt: skip
        return SuperviseSettings(**{**small, "pairs": pairs, **changes})

    return make
