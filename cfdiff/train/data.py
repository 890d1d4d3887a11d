"""What a training learns from and what it is validated on, and how a model's card tells it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cfdiff.data.bundled import card_sha256
from cfdiff.data.open import open_told
from cfdiff.data.source import Source, random_subset
from cfdiff.data.splitting import TRAIN, VAL, spelled
from cfdiff.data.values import unit
from cfdiff.errors import UserError
from cfdiff.train.settings import TrainSettings

HELD_SHARE = 0.1
BRIGHTNESS_IMAGES = 512
KEPT_BYTES = 2 << 30
"""Images up to this size are read once and kept in memory."""


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Two sources that share no group (no image, where there are no groups), and where they come from, in words."""

    train: Source
    validation: Source
    split: str
    val_split: str
    card_sha256: str | None = None

    @property
    def card(self) -> dict[str, Any]:
        """What a model says of the data it learned from. `groups` tell whether two models share patients."""
        groups = self.train.groups
        return {
            "name": self.train.name,
            "fingerprint": self.train.fingerprint,
            "card_sha256": self.card_sha256,
            "split": self.split,
            "val_split": self.val_split,
            "images": len(self.train),
            "classes": list(self.train.classes),
            "groups": [] if groups is None else sorted({str(g) for g in groups}),
            "brightness": brightness(random_subset(self.train, BRIGHTNESS_IMAGES, 0)),
        }


@dataclass(frozen=True)
class Named:
    """What a training is of, as its folder is told: a name, and the fingerprint of all that it depends on."""

    name: str
    fingerprint: str


@dataclass(frozen=True)
class Also:
    """Images and more: what a training learns from whose fingerprint is not that of the images alone."""

    train: Named


def open_training_data(s: TrainSettings) -> TrainingData:
    """The splits that `s` names, else the data's own, else a tenth of the groups held out for validation.

    Every image is read once, so that a damaged one is found before anything is written; small data is kept.

    Raises:
        UserError: the data cannot be read, its splits are of unknown names, or the two splits overlap.
    """
    data = _choose_splits(s)
    return replace(data, train=data.train.in_memory(KEPT_BYTES), validation=data.validation.in_memory(KEPT_BYTES))


def _choose_splits(s: TrainSettings) -> TrainingData:
    whole = open_told(s)
    known = [] if whole.splits is None else [str(k) for k in np.unique(whole.splits)]
    split = s.split or spelled(TRAIN, known)
    if split is None and known:
        raise UserError(f"{whole.name} has the splits {', '.join(known)}: name the one to train on with --split.")
    taken = set() if split is None else set(split.split("+"))
    val_split = s.val_split or spelled(VAL, set(known) - taken)
    if val_split is not None and taken & set(val_split.split("+")):
        raise UserError(
            f"--split {split} and --val-split {val_split} overlap, so the validation would see what was trained on: "
            "name different splits."
        )
    train = whole.narrow(split)
    if val_split is not None:
        validation = whole.narrow(val_split, limit=s.val_limit)
        return TrainingData(train, validation, split or "all", val_split, card_sha256(s.data))
    held = hold_out(train)
    unit = "images" if train.groups is None else "groups"
    return TrainingData(
        train.select(np.flatnonzero(~held)),
        random_subset(train.select(np.flatnonzero(held)), s.val_limit, 0),
        f"{split or 'all'} but a tenth of its {unit}",
        f"a tenth of the {unit} of {split or 'all'}",
        card_sha256(s.data),
    )


def brightness(source: Source) -> dict[str, float]:
    """Mean and standard deviation over images of the mean pixel, in [0, 1] units: doctor compares data with it."""
    means = unit(source.read(np.arange(len(source)))).mean(axis=(1, 2, 3))
    return {"mean": float(means.mean()), "std": float(means.std())}


def hold_out(source: Source) -> np.ndarray:
    """(N,) bool: whole groups, in an order that depends on their names only, until a tenth of the images and each
    class is in."""
    units = source.ids if source.groups is None else source.groups.astype(str)
    names, unit = np.unique(units, return_inverse=True)
    order = sorted(range(len(names)), key=lambda k: hashlib.sha256(f"val/{names[k]}".encode()).digest())
    held = np.zeros(len(source), dtype=bool)
    for k in order:
        if held.sum() >= HELD_SHARE * len(source) and set(source.labels[held]) == set(source.labels):
            break
        held |= unit == k
    if held.all() or set(source.labels[~held]) != set(source.labels):
        raise UserError(
            f"{source.name} has too few images or groups to hold a tenth out for validation: name a split of it with "
            "--val-split."
        )
    return held
