"""The patients of the study, and the cells that are edited for it once: instance mode, joint mode, shams, unguided."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cfdiff.bag.run import bag
from cfdiff.bag.settings import BagSettings
from cfdiff.data.open import open_source
from cfdiff.settings import resolve
from cfdiff.store.bags import open_bags
from cfdiff.store.result import open_result
from cfdiff.translate.run import translate
from cfdiff.translate.settings import TranslateSettings

FOLDS, BLOCK, HEALTHY = 5, 10, 3
"""Blocks of training patients, patients in each, and healthy ones of them."""
JOINT_MIX = "0.75"


@dataclass(frozen=True)
class Set:
    """Which images are bags of what, and which models edit them.

    Attributes:
        key: array of the patient. classes: names of negative and positive.
        train: split of the patients to train on (the guide's); test: of others, whom neither guide nor judge saw.
        weights: bundled name or folder. splits: table of splits, where the data has none.
        core: negatives and positives of a training patient that are edited, at most.
    """

    data: str
    key: str
    classes: tuple[str, str]
    train: str
    test: str
    weights: str
    core: tuple[int, int]
    splits: str | None = None

    @property
    def told(self) -> dict[str, Any]:
        """As settings of a command."""
        return {"group_key": self.key, "negative": self.classes[0], "positive": self.classes[1]}


@dataclass(frozen=True, eq=False)
class Cells:
    """Cells: images (N, H, W, C) as stored, labels (N,) 0 or 1, patients and ids (N,)."""

    images: np.ndarray
    labels: np.ndarray
    patients: np.ndarray
    ids: np.ndarray

    def at(self, rows: np.ndarray) -> Cells:
        """Those of some rows."""
        return Cells(self.images[rows], self.labels[rows], self.patients[rows], self.ids[rows])

    @property
    def names(self) -> list[str]:
        """Patients, in an order that depends on their names alone."""
        return sorted(set(self.patients.tolist()), key=lambda p: hashlib.sha256(f"mil-study/{p}".encode()).digest())

    def can_be_thinned(self, patient: str) -> bool:
        """Whether a patient has a negative cell: without, no bag with few positives can be drawn."""
        return bool((self.labels[self.patients == patient] == 0).any())

    def infected(self, patient: str) -> bool:
        """Whether a patient has a positive cell."""
        return bool((self.labels[self.patients == patient] == 1).any())


@dataclass(frozen=True, eq=False)
class Edits:
    """Images (E, H, W, C) of one way of editing: of which row of the core (E,), and of which class they now are (E,).

    `judged` (E,) is the judge's p(positive) of the image as saved.
    """

    row: np.ndarray
    label: np.ndarray
    images: np.ndarray
    judged: np.ndarray


def open_cells(of: Set, split: str) -> Cells:
    """The cells of one or more splits, joined by +."""
    source = open_source(of.data, split=split, splits=of.splits, **of.told)
    assert source.groups is not None
    images = source.read(np.arange(len(source)))
    return Cells(images, source.labels, source.groups.astype(str), source.ids.astype(str))


def blocks(cells: Cells) -> list[list[str]]:
    """`FOLDS` blocks of `BLOCK` patients, `HEALTHY` of them without a positive cell; by hash of the name."""
    pools = [[p for p in cells.names if cells.infected(p) == k] for k in (False, True)]
    sick = BLOCK - HEALTHY
    return [[*pools[0][b * HEALTHY : (b + 1) * HEALTHY], *pools[1][b * sick : (b + 1) * sick]] for b in range(FOLDS)]


def training_patients(of_block: list[list[str]], fold: int, n: int) -> list[str]:
    """n patients of a fold: whole blocks after the fold's own, so those of one block are shared by no two folds."""
    return [p for k in range(n // BLOCK) for p in of_block[(fold + 1 + k) % FOLDS]]


def core_rows(cells: Cells, patients: list[str], most_of: tuple[int, int]) -> np.ndarray:
    """The rows to edit: so many negatives and positives of each patient at most, by hash of the id."""
    rows: list[int] = []
    for patient in patients:
        for label, most in enumerate(most_of):
            there = np.flatnonzero((cells.patients == patient) & (cells.labels == label)).tolist()
            rows += sorted(there, key=lambda i: hashlib.sha256(f"core/{cells.ids[i]}".encode()).digest())[:most]
    return np.array(sorted(rows))


WAYS = ("instance", "unguided", "joint")
"""Runs that edit the core; that of instance mode makes its shams too."""


def prepare(work: Path, core: Cells, of: Set, ways: Sequence[str]) -> None:
    """Edit the core in some of `WAYS`; a run that was stopped goes on, what is finished stays."""
    path = work / "core.npz"
    if not path.exists():
        names = np.array(of.classes)[core.labels]
        images = core.images[..., 0] if core.images.shape[-1] == 1 else core.images
        scratch = path.with_suffix(".part.npz")
        np.savez(scratch, images=images, labels=names, id=core.ids, patient=core.patients)
        scratch.replace(path)
    told: dict[str, Any] = {
        **of.told, "data": str(path), "group_key": "patient", "threads": 1, "device": "cpu", "weights": of.weights,
    }  # fmt: skip
    runs: dict[str, dict[str, Any]] = {
        "instance": {"mode": "instance", "mix": "0,1", "untouched": "sham", "on_fail": "retry"},
        "joint": {"mode": "joint", "mix": JOINT_MIX, "untouched": "sham", "on_fail": "keep"},
    }
    noise = {"scale": 0, "anchored": False, "inversion": "noise", "trim": 0, "retries": 0, "edit": "anchored"}
    for way in ways:
        if way in runs and not (work / f"{way}.h5").exists():
            bag(resolve(BagSettings, None, {**told, **runs[way], "out": work / f"{way}.h5"}))
        for start in ("negative", "positive") if way == "unguided" else ():
            out = work / f"unguided-{start}.h5"
            if not out.exists():
                translate(resolve(TranslateSettings, None, {**told, **noise, "from": start, "out": out}))


def read_edits(work: Path, core: Cells, ways: Sequence[str]) -> dict[str, Edits]:
    """instance, sham, joint, joint-sham, unguided -> edits. Of edits those whose class the checker sees changed."""
    at = {name: i for i, name in enumerate(core.ids.tolist())}
    found: dict[str, Edits] = {}
    for name, sham in (("instance", "sham"), ("joint", "joint-sham")):
        if name not in ways:
            continue
        with open_bags(work / f"{name}.h5") as bags:
            ids = bags.read("instance/id").astype(str)[bags.read("row/instance")]
            edit, label = bags.read("row/edit"), bags.read("row/label")
            checker, judge = (bags.read(f"prob/{who}")[:, 1, 1] for who in ("checker", "judge"))
            kept = (edit >= 0) & ((checker > 0.5) == (label == 1))
            for what, these in ((name, bags.read("row/edited")), (sham, bags.read("row/sham"))):
                here = np.flatnonzero(kept & these)
                images = bags.images("counterfactual", edit[here])
                rows = np.array([at[i] for i in ids[here].tolist()], np.int64)
                found[what] = Edits(rows, label[here], images, judge[here])
    parts = []
    for start in ("negative", "positive") if "unguided" in ways else ():
        with open_result(work / f"unguided-{start}.h5") as result:
            rows = np.array([at[name] for name in result["id"][:].astype(str).tolist()], np.int64)
            parts.append((rows, core.labels[rows], result.counterfactual[:], result.prob("judge")[:, 1, 1]))
    if parts:
        found["unguided"] = Edits(*(np.concatenate(part) for part in zip(*parts, strict=True)))
    return found
