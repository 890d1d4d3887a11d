"""Counterfactual pairs of finished runs: which are kept, and why the others are not.

A counterfactual is labelled with the class asked for, so only those serve of which a classifier that never steered says
that they are of it. The source of a pair must be an image that is trained on: else a test image would be learned from.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cfdiff.data.match import class_misfit, shape_misfit
from cfdiff.data.names import same
from cfdiff.data.raw import file_sha256
from cfdiff.data.source import Source
from cfdiff.errors import UserError
from cfdiff.roles import ACCEPTING
from cfdiff.store import open_result
from cfdiff.store.result import Result
from cfdiff.supervise.settings import SuperviseSettings

BATCH = 256
"""Pairs that are read at once."""
UNTOLD_ACCEPT = 0.5
"""Where neither the caller nor the run says how sure a classifier must be: surer than not."""
ELSEWHERE = "not of the training split"
REASONS = (ELSEWHERE, "quarantined", "unchanged", "of the class asked for before", "not accepted")
Fate = Literal["accepted", "rejected"]


@dataclass(frozen=True, eq=False)
class Pairs:
    """M pairs that are kept, and how many were not.

    Attributes:
        rows: (M,) int64, the source of each, as a row of the training data.
        images: (M, H, W, C), the counterfactuals in the type of the training data.
        labels: (M,) int64, what each is learned as: the class asked for, or that of its source where it was rejected.
        accepted: (M,) bool, False where the map shows what does not change the class.
        who: the role whose word it is, of every file: verifier or checker.
        digest: sha256 (hex) of the files and of what was kept of them.
        counts: what became of how many pairs, in words.
        files: name, sha256 and role -> model hashes of each file.
    """

    rows: np.ndarray
    images: np.ndarray
    labels: np.ndarray
    accepted: np.ndarray
    who: tuple[str, ...]
    digest: str
    counts: dict[str, int]
    files: tuple[dict[str, Any], ...] = field(default=())

    def __len__(self) -> int:
        return len(self.rows)

    def source(self, train: Source) -> Source:
        """The counterfactuals as a source of their own, in the order of this; of the groups of their sources."""
        images, rows = self.images, np.arange(len(self))
        ids = np.array([f"{name}#{k}" for k, name in enumerate(train.ids[self.rows])])
        return replace(
            train.select(self.rows),
            ids=ids,
            labels=self.labels.astype(np.int8),
            reader=lambda wanted: images[wanted],
            mask_reader=None,
            digest=lambda wanted: self.digest,
            rows=rows,
            columns={},
        )

    def sentences(self) -> Iterator[str]:
        """What was kept, what was not, and what of it is doubtful."""
        rejected = int((~self.accepted).sum())
        more = f", {rejected} of them rejected and learned with the class of their source" if rejected else ""
        left = ", ".join(f"{self.counts[why]} {why}" for why in REASONS if self.counts.get(why))
        yield f"{len(self)} of {sum(self.counts.values())} pairs are kept{more}{f'; left out: {left}' if left else ''}."
        if "checker" in self.who:
            yield (
                "Warning: a run without a verifier, so the checker that steered also accepted, and it may have been "
                "fooled: translate with --verifier."
            )


def read_pairs(s: SuperviseSettings, train: Source) -> Pairs:
    """The pairs of all files of the settings that serve to train on `train`.

    Raises:
        UserError: a file is unreadable, of other images, classes or sizes, says nothing of acceptance, or nothing is
            left.
    """
    place = {str(name): row for row, name in enumerate(train.ids)}
    found: list[_Read] = []
    for path in s.pairs:
        with open_result(path) as result:
            found.append(_read(result, s, train, place))
    counts: Counter[str] = Counter()
    for one in found:
        counts.update(one.counts)
    rows = np.concatenate([one.rows for one in found])
    if not len(rows):
        raise _nothing_left(s, train, counts)
    labels, accepted = (np.concatenate([getattr(one, name) for one in found]) for name in ("labels", "accepted"))
    files = tuple({"name": one.path.name, "sha256": file_sha256(one.path), "models": one.models} for one in found)
    told = hashlib.sha256(repr((sorted(str(one["sha256"]) for one in files), rows.tolist(), labels.tolist())).encode())
    images = np.concatenate([one.images for one in found])
    who = tuple(one.who for one in found)
    return Pairs(rows, images, labels, accepted, who, told.hexdigest(), dict(counts), files)


@dataclass(frozen=True, eq=False)
class _Read:
    """What one file gives; see `Pairs`."""

    path: Path
    rows: np.ndarray
    images: np.ndarray
    labels: np.ndarray
    accepted: np.ndarray
    who: str
    counts: Counter[str]
    models: dict[str, str]


def _read(result: Result, s: SuperviseSettings, train: Source, place: dict[str, int]) -> _Read:
    name = result.path.name
    _check_fits(result, train, name)
    who = next((role for role in ACCEPTING if f"prob/{role}" in result), None)
    if who is None:
        raise UserError(
            f"{name} says of no pair whether a classifier accepts it: translate with --verifier (or a checker)."
        )
    if s.rejected == "source" and who != "verifier":
        raise UserError(
            f"--rejected source takes the word of a verifier, and {name} was made without one: translate with "
            "--verifier, or leave --rejected out."
        )
    needed = _needed(result, s, who)
    ids, target = [str(i) for i in result["id"][:]], result["target"][:].astype(np.int64)
    sure = result.prob(who)[:, 1, :2][np.arange(len(ids)), target]
    quarantined = result.quarantined
    counts: Counter[str] = Counter()
    rows, images, labels, accepted = [], [], [], []
    for start in range(0, len(ids), BATCH):
        stop = min(start + BATCH, len(ids))
        known = np.array([i for i in range(start, stop) if ids[i] in place], dtype=np.int64)
        counts[ELSEWHERE] += stop - start - len(known)
        if not len(known):
            continue
        mine = np.array([place[ids[i]] for i in known])
        before, after = (stored[start:stop][known - start] for stored in (result.source, result.counterfactual))
        _check_same(before, train.read(mine), [ids[i] for i in known], name, train.name)
        for k, (i, row) in enumerate(zip(known.tolist(), mine.tolist(), strict=True)):
            label = int(train.labels[row])
            why = _reason(quarantined[i], before[k], after[k], label, int(target[i]))
            taken = sure[i] >= needed
            kept = taken or (s.rejected == "source" and sure[i] <= 1 - needed)
            why = why or (None if kept else REASONS[4])
            counts[why or ("accepted" if taken else "rejected")] += 1
            if why is None:
                rows.append(row)
                images.append(after[k])
                labels.append(int(target[i]) if taken else label)
                accepted.append(taken)
    stack = np.stack(images) if images else np.empty((0, *train.shape), train.dtype)
    told = np.array(rows, np.int64), stack, np.array(labels, np.int64), np.array(accepted, bool)
    return _Read(result.path, *told, who, counts, dict(result.attrs["models"]))


def _reason(quarantined: bool, before: np.ndarray, after: np.ndarray, label: int, target: int) -> str | None:
    """Why a pair teaches nothing, whatever anyone says of it."""
    if quarantined:
        return REASONS[1]
    if np.array_equal(before, after):
        return REASONS[2]
    return REASONS[3] if label == target else None


def _needed(result: Result, s: SuperviseSettings, who: str) -> float:
    """How sure who accepts must be: as in the run, where a checker need be no surer than it was asked to become."""
    if s.accept is not None:
        return s.accept
    told = [result.settings.get(key) for key in ("accept", *(("target",) if who == "checker" else ()))]
    return min((float(v) for v in told if isinstance(v, int | float)), default=UNTOLD_ACCEPT)


def _check_fits(result: Result, train: Source, name: str) -> None:
    shape = tuple(int(side) for side in result["source"].shape[1:])
    if (misfit := shape_misfit(train.name, train.shape, name, shape)) is not None:  # type: ignore[arg-type]
        raise UserError(f"{misfit.sentence}: give the data that the run was made of.")
    classes = result.settings.get("classes")
    if classes is None:
        return
    if (turned := class_misfit(train.name, train.classes, name, classes)) is not None:
        raise turned.error
    if not all(same(a, b) for a, b in zip(classes, train.classes, strict=True)):
        raise UserError(
            f"{name} goes between {' and '.join(classes)}, but the classes of {train.name} are "
            f"{' and '.join(train.classes)}: give the data that the run was made of."
        )


def _check_same(stored: np.ndarray, read: np.ndarray, ids: list[str], name: str, data: str) -> None:
    """Raise UserError unless the sources of a file are the images of the data, byte for byte."""
    same_bytes = (stored == read).all(axis=(1, 2, 3)) if stored.dtype == read.dtype else np.zeros(len(ids), bool)
    if not same_bytes.all():
        first = ids[int(np.argmin(same_bytes))]
        raise UserError(
            f"The image {first!r} in {name} is another one than in {data}: give the data "
            "that the run was made of, or translate again."
        )


def _nothing_left(s: SuperviseSettings, train: Source, counts: Counter[str]) -> UserError:
    total, files = sum(counts.values()), ", ".join(path.name for path in s.pairs)
    why = ", ".join(f"{counts[reason]} {reason}" for reason in REASONS if counts.get(reason))
    if counts.get(ELSEWHERE) == total:
        advice = "translate images of the split that is trained on (cfdiff translate --split)"
    else:
        advice = "lower --accept, or make edits that a verifier believes (cfdiff doctor, cfdiff tune)"
    return UserError(f"Of the {total} pairs in {files} none is left to train on ({why}): {advice}.")
