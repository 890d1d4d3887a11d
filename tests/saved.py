"""Results and bag files with no model behind them: a bright blob appears, the verdicts depend on the row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cfdiff.store import RunParts
from cfdiff.store.bags import sha256_of, write_bags

CLASSES = ["healthy", "sick"]
HASHES = {"diffusion": "d" * 64, "judge": "e" * 64}


def blobs(n: int, size: int = 24) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sources and counterfactuals (n, size, size, 1) uint8, and masks (n, size, size) of the blobs that appear."""
    rng = np.random.default_rng(0)
    source = rng.normal(110, 6, (n, size, size)).clip(0, 255)
    y, x = np.mgrid[:size, :size]
    centre = rng.uniform(size / 4, size * 3 / 4, (2, n, 1, 1))
    distance = (y - centre[0]) ** 2 + (x - centre[1]) ** 2
    radius = rng.uniform(2, size / 5, (n, 1, 1))
    after = source + 90 * np.exp(-distance / radius**2) - 25 * (np.abs(distance - 4 * radius**2) < radius**2)
    return source[..., None].astype(np.uint8), after.clip(0, 255)[..., None].astype(np.uint8), distance < radius**2


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """A result of n images, of which every tenth is not flipped; `name` gives the id of a row, None drops a model."""

    def make(
        n: int = 40,
        out: str = "run.h5",
        name: Callable[[int], str] = lambda i: f"tile/{i:04d}.png",
        judges: tuple[str, ...] = ("judge", "checker"),
        size: int = 24,
    ) -> Path:
        source, after, _ = blobs(n, size)
        rng = np.random.default_rng(1)
        good = np.arange(n) % 10 != 3
        p = np.stack([rng.beta(1, 9, n), np.where(good, rng.beta(9, 1, n) / 2 + 0.5, rng.beta(2, 4, n) / 2)], axis=1)
        arrays = {
            "id": np.array([name(i) for i in range(n)]),
            "group": np.array([f"P{i % 7}" for i in range(n)]),
            "label": np.zeros(n, np.int64),
            "target": np.ones(n, np.int64),
            "source": source,
            "counterfactual": after,
            "difference": (after.astype(np.float32) - source) / 255,
            **{f"prob/{who}": np.stack([1 - p, p], axis=2).astype(np.float32) for who in judges},
            "guidance/retries": np.arange(n) % 3,
            "guidance/network_calls": np.full(n, 32),
            "guidance/guide_calls": np.full(n, 16),
        }
        settings = {"data": "tiles.npz", "classes": CLASSES, "steps": 15, "ratio": 0.3, "to": None}
        with RunParts(tmp_path / out, settings, n, n) as parts:
            for start, _stop in parts.todo():
                parts.write(start, arrays)
            parts.join({"seed": 0, "models": HASHES, "direction": "negative (healthy) -> positive (sick)"})
        return tmp_path / out

    return make


@pytest.fixture
def make_data(tmp_path: Path) -> Callable[..., Path]:
    """The data of such a run, with its masks; those of the first row are empty."""

    def make(n: int = 40, size: int = 24) -> Path:
        source, _, masks = blobs(n, size)
        masks[0] = False
        ids = np.array([f"tile/{i:04d}.png" for i in range(n)])
        labels = np.zeros(n, np.int64)
        np.savez(tmp_path / "tiles.npz", images=source, labels=labels, masks=masks, id=ids, classes=np.array(CLASSES))
        return tmp_path / "tiles.npz"

    return make


@pytest.fixture
def make_bags(tmp_path: Path) -> Callable[..., Path]:
    """Bags of 8 instances, each at the mixes 0.25 and 0.5, so 2 and 4 are edited; the judge sees all edits but one."""

    def make(bags: int = 3, name: Callable[[int], str] = lambda i: f"P{i}") -> Path:
        size, mixes = 8, (0.25, 0.5)
        n, j = bags * size, bags * len(mixes)
        source, after, _ = blobs(n)
        edited = np.tile(np.concatenate([np.arange(size) < 2, np.arange(size) < 4]), bags)
        instance = np.concatenate([np.tile(np.arange(size) + b * size, 2) for b in range(bags)])
        edits = np.flatnonzero(np.arange(n) % size < 4)
        number = np.full(n, -1)
        number[edits] = np.arange(len(edits))
        p = np.where(edited, 0.9, 0.1)
        p[0] = 0.2
        sha = np.array([sha256_of(image) for image in source])
        achieved = np.array([(p[k * size : (k + 1) * size] > 0.5).mean() for k in range(j)])
        planned = np.tile(mixes, bags).astype(np.float64)
        row_sha = np.where(edited, np.array([sha256_of(image) for image in after])[instance], sha[instance])
        prob = np.stack([np.full(j * size, 0.1), p], axis=1)
        arrays = {
            "bag/name": np.array([name(b) for b in range(bags)]),
            "bag/offset": np.arange(bags + 1) * size,
            "instance/id": np.array([f"cell/{i:03d}" for i in range(n)]),
            "instance/source": np.arange(n),
            "instance/label": np.zeros(n, np.int8),
            "instance/label_from": np.array(["data"] * n),
            "instance/frozen": np.zeros(n, bool),
            "instance/score": np.zeros(n),
            "instance/sha256": sha,
            "mix/bag": np.repeat(np.arange(bags), 2),
            "mix/offset": np.arange(j + 1) * size,
            "mix/requested": planned,
            "mix/wanted": (planned * size).astype(np.int64),
            "mix/planned": planned,
            "mix/before": np.zeros(j),
            "mix/achieved": achieved,
            "mix/achieved_by_labels": achieved,
            "mix/target": np.ones(j, np.int8),
            "row/instance": instance,
            "row/edit": np.where(edited, number[instance], -1),
            "row/edited": edited,
            "row/sham": np.zeros(j * size, bool),
            "row/label": edited.astype(np.int8),
            "row/sha256": row_sha,
            "prob/judge": np.stack([1 - prob, prob], axis=2).astype(np.float32),
            "edit/source": edits,
            "edit/target": np.ones(len(edits), np.int8),
            "edit/used": np.ones(len(edits), bool),
            "edit/status": np.array(["ok"] * len(edits)),
            "edit/ratio": np.ones(len(edits), np.float32),
            "edit/depth": np.ones(len(edits), np.float32),
            "edit/alpha_bar": np.ones(len(edits), np.float32),
            "edit/retries": np.zeros(len(edits), np.int16),
            "edit/network_calls": np.zeros(len(edits), np.int32),
        }
        difference = (after[edits].astype(np.float32) - source[edits]) / 255
        images = {
            "source": (source.shape, source.dtype, [source]),
            "counterfactual": ((len(edits), *source.shape[1:]), source.dtype, [after[edits]]),
            "difference": (difference.shape, np.dtype(np.float16), [difference]),
        }
        settings = {"data": "cells", "classes": CLASSES, "mode": "instance", "mix": "0.25,0.5"}
        out = tmp_path / "bags.h5"
        write_bags(out, settings, {"seed": 0, "models": {"judge": "e" * 64}, "direction": "both"}, arrays, images)
        return out

    return make
