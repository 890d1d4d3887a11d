"""What a bag model learns from: real bags, the same bags at several mixes, and real bags to validate on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cfdiff.data.bundled import card_sha256
from cfdiff.data.open import open_told
from cfdiff.data.splitting import TRAIN, VAL, spelled
from cfdiff.engine import seed_of
from cfdiff.errors import UserError
from cfdiff.files import is_there
from cfdiff.mil.asked import check_encoder_options, check_mixtures, weights_of
from cfdiff.mil.folders import is_bag_folder
from cfdiff.mil.series import BagSet, Series
from cfdiff.mil.settings import WORDS, MilTrainSettings
from cfdiff.mil.sources import is_sweep, open_mixes, open_real
from cfdiff.mil.swaps import Donors, swap_counts, swap_series
from cfdiff.mil.targets import Target
from cfdiff.registry import BAG_TARGETS
from cfdiff.remote import is_url

IMAGES_A_BAG = 32
"""Instances of a bag of images, where nothing is said: an encoder that learns sees all of a step's at once."""
HELD_SHARE = 0.1
SWAP_DRAWS = 2
"""How often the stand-ins of a bag are drawn."""


@dataclass(frozen=True)
class Learned:
    """Name and fingerprint of all that is learned from."""

    name: str
    fingerprint: str


@dataclass(frozen=True, eq=False)
class BagData:
    """Sets of bags with one `contents` between them; training and validation share no group.

    Attributes:
        real, validation: bags as they were found. mixes: the training bags at several mixes; empty for none.
        split, val_split, mixtures: where they come from, in words.
    """

    real: BagSet
    validation: BagSet
    mixes: BagSet
    split: str
    val_split: str
    mixtures: str
    card_sha256: str | None = None

    @property
    def train(self) -> Learned:
        """See `train.loop.Learned`."""
        parts = "".join(one.fingerprint for one in (self.real, self.mixes))
        return Learned(self.real.name, hashlib.sha256(parts.encode()).hexdigest())

    @property
    def card(self) -> dict[str, Any]:
        """What a model says of the bags it learned from."""
        groups = sorted({*self.real.groups, *self.mixes.groups})
        return {
            "name": self.real.name,
            "fingerprint": self.train.fingerprint,
            "card_sha256": self.card_sha256,
            "split": self.split,
            "val_split": self.val_split,
            "mixtures": self.mixtures,
            "mixture_models": dict(self.mixes.models),
            "encoder": self.real.encoder or self.mixes.encoder,
            "bags": len(self.real.series),
            "images": sum(one.size for one in self.real.series),
            "classes": list(self.real.names),
            "groups": groups,
        }

    def with_contents(self, contents: np.ndarray) -> BagData:
        """The same bags of other contents, such as features in the place of images."""
        sets = {name: replace(getattr(self, name), contents=contents) for name in ("real", "validation", "mixes")}
        return replace(self, **sets)


def open_bag_data(s: MilTrainSettings) -> BagData:
    """Open, divide, cut into parts, and mix.

    Raises:
        UserError: bags, splits or mixtures cannot be used as asked.
    """
    target: Target = BAG_TARGETS[s.target]
    split, val_split = _splits(s)
    needed = None if split is None else [*split.split("+"), *([] if val_split is None else val_split.split("+"))]
    whole = open_real(s, s.labels, needed)
    check_encoder_options(s, whole)
    size = s.bag_size or (IMAGES_A_BAG if whole.images else None)
    real, validation, words = _divide(whole, split, val_split)
    _check_classes(real, validation, target)
    kind, paths = _kind(s, real)
    if kind == "files":
        mixes = _of_training(open_mixes(paths, whole), real, validation)
        joined = whole.joined(mixes)
        real, validation = replace(real, contents=joined.contents), replace(validation, contents=joined.contents)
        mixes = replace(joined, series=joined.series[len(whole.series) :], name=mixes.name, models=mixes.models)
        mixes = mixes.cut(size, s.seed)
    real = real.cut(size, s.seed)
    if kind != "files":
        mixes = _swapped(real, s.seed) if kind == "swap" else replace(real, series=())
        mixes = replace(mixes, models=())  # those of the real bags, if any, made no mix
    validation = _limited(validation.cut(size, s.seed), s.val_limit, s.seed)
    mixes = replace(mixes, series=tuple(one for one in mixes.series if len(one) > 1))
    if s.permute:
        mixes = replace(mixes, series=tuple(permuted(one, s.seed) for one in mixes.series))
    told = kind if kind != "files" else "+".join(path.name for path in paths)
    data = BagData(real, validation, mixes, *words, told, card_sha256(s.data))
    _check(s, data, target)
    return data


def permuted(one: Series, seed: int) -> Series:
    """A control: every version gets the labels of another one, in another order of its instances."""
    rng = np.random.default_rng(seed_of(seed, f"permute/{one.name}"))
    versions = rng.permutation(len(one))
    labels = np.stack([one.labels[v][rng.permutation(one.size)] for v in versions.tolist()])
    return replace(one, labels=labels, classes=one.classes[versions])


def _check_classes(real: BagSet, validation: BagSet, target: Target) -> None:
    for what, bags in (("training", real), ("validation", validation)):
        if target.counts and not all(one.known for one in bags.series):
            raise UserError(
                f"{bags.name} does not say which instances are positive, and this --target counts them: use --target "
                "label."
            )
        classes = {int(one.classes[0]) for one in bags.series}
        if not target.counts and classes != {0, 1}:
            lacking = bags.names[1 - min(classes, default=1)] if classes else bags.names[0]
            raise UserError(
                f"The {what} bags of {bags.name} are all of one class (none is {lacking!r}): choose other splits, or "
                "--target fraction."
            )


def _check(s: MilTrainSettings, data: BagData, target: Target) -> None:
    if target.several and not data.mixes.series:
        raise UserError(f"--target {s.target} compares mixes of a bag: name some with --mixtures.")
    if data.mixes.series and not target.graded and "distance" in s.losses.split("+"):
        raise UserError(
            f"The loss distance asks the answer to move as the mix does, which --target {s.target} does not: leave it "
            "out, or use --target fraction."
        )
    check_mixtures(s, data.mixes, data.mixtures)
    weights_of(s)


def _splits(s: MilTrainSettings) -> tuple[str | None, str | None]:
    """The splits to train and to validate on, as named or as images call them; None where all is divided anew."""
    if not is_url(s.data) and (is_bag_folder(Path(s.data)) or is_sweep(Path(s.data))):
        return s.split, s.val_split
    source = open_told(s)
    known = [] if source.splits is None else [str(k) for k in np.unique(source.splits)]
    split = s.split or spelled(TRAIN, known)
    if split is None and known:
        raise UserError(f"{source.name} has the splits {', '.join(known)}: name the one to train on with --split.")
    return split, s.val_split or spelled(VAL, set(known) - {split or ""})


def _divide(whole: BagSet, split: str | None, val_split: str | None) -> tuple[BagSet, BagSet, tuple[str, str]]:
    known = sorted({one.split for one in whole.series} - {""})
    split, val_split = split or spelled(TRAIN, known), val_split or spelled(VAL, known)
    for word in [*(split or "").split("+"), *(val_split or "").split("+")]:
        if word and word not in known:
            raise UserError(f"{whole.name} has no split {word!r}: the known ones are {', '.join(known) or 'none'}.")
    train = whole if split is None else whole.only(lambda one: one.split in split.split("+"))
    if val_split is not None:
        held = whole.only(lambda one: one.split in val_split.split("+"))
        if shared := sorted(set(train.groups) & set(held.groups)):
            raise UserError(
                f"--split {split or 'all'} and --val-split {val_split} share the group {shared[0]!r}, so the "
                "validation would see what was trained on: name different splits."
            )
        return train, held, (split or "all", val_split)
    chosen = _hold_out(train)
    words = (f"{split or 'all'} but a tenth of its groups", f"a tenth of the groups of {split or 'all'}")
    return train.only(lambda o: o.group not in chosen), train.only(lambda o: o.group in chosen), words


def _hold_out(bags: BagSet) -> set[str]:
    """Whole groups, in an order that depends on their names, until a tenth of the bags and each class is in."""
    order = sorted(bags.groups, key=lambda name: hashlib.sha256(f"val/{name}".encode()).digest())
    classes = {int(one.classes[0]) for one in bags.series}
    held: set[str] = set()
    for name in order:
        inside = [one for one in bags.series if one.group in held]
        if len(inside) >= HELD_SHARE * len(bags.series) and {int(one.classes[0]) for one in inside} == classes:
            break
        held.add(name)
    left = {int(one.classes[0]) for one in bags.series if one.group not in held}
    if left != classes:
        raise UserError(
            f"{bags.name} has too few bags or groups to hold a tenth out for validation: name a split of it with "
            "--val-split."
        )
    return held


def _kind(s: MilTrainSettings, real: BagSet) -> tuple[str, list[Path]]:
    """Where mixtures come from: swap, none or files."""
    known = all(one.known for one in real.series)
    if s.mixtures is None:
        return ("swap" if known else "none"), []
    word = str(s.mixtures[0])
    if word in WORDS:
        if word == "swap" and not known:
            raise UserError(
                f"--mixtures swap exchanges instances of known label, which {real.name} does not say: use "
                "--mixtures none."
            )
        return word, []
    if missing := [path for path in s.mixtures if not is_there(path)]:
        raise UserError(
            f"--mixtures {str(missing[0])!r} does not exist, or cannot be looked at: give a file of cfdiff bag "
            f"--sweep, a folder of its --export, or {' or '.join(WORDS)}."
        )
    return "files", list(s.mixtures)


def _of_training(mixes: BagSet, real: BagSet, validation: BagSet) -> BagSet:
    """Only the bags of training patients: by the ids of images, or else by case.

    Raises:
        UserError: none is left.
    """
    group_of = real.group_of_ids
    groups = set(real.groups) - set(validation.groups)

    def ours(one: Series) -> bool:
        return set(one.ids.tolist()) <= group_of.keys() if group_of and one.ids is not None else one.group in groups

    kept = mixes.only(ours)
    if not kept.series:
        raise UserError(
            f"{mixes.name} holds no bag of those that are trained on ({real.name}): make it of the same data and "
            "split, as in cfdiff bag --split train --sweep 0:1:0.1."
        )
    grouped = [replace(o, group=group_of[str(o.ids[0])]) if group_of and o.ids is not None else o for o in kept.series]
    return replace(kept, series=tuple(grouped))


def _swapped(real: BagSet, seed: int) -> BagSet:
    donors = Donors(real)
    found = [
        swap_series(one, donors, swap_counts(one.size), seed, draw) for one in real.series for draw in range(SWAP_DRAWS)
    ]
    if all(one is None for one in found):
        raise UserError(
            f"{real.name} has no instances of both classes in two groups, so none can be exchanged: use "
            "--mixtures none."
        )
    return replace(real, series=tuple(one for one in found if one is not None))


def _limited(bags: BagSet, most: int, seed: int) -> BagSet:
    """A random part that hangs on (seed, name) only."""
    return limited(bags, most, lambda one: seed_of(seed, f"val/{one.name}"))


def limited(bags: BagSet, most: int | None, rank: Callable[[Series], int]) -> BagSet:
    """At most so many bags, those of the lowest rank, in their order; both classes in turn."""
    if most is None or len(bags.series) <= most:
        return bags
    pools: list[Sequence[Series]] = [
        sorted((one for one in bags.series if one.classes[0] == k), key=rank) for k in (0, 1)
    ]
    turn = [one for pair in _turns(*pools) for one in pair][:most]
    names = {one.name for one in turn}
    return bags.only(lambda one: one.name in names)


def _turns(a: Sequence[Series], b: Sequence[Series]) -> list[list[Series]]:
    return [[*a[i : i + 1], *b[i : i + 1]] for i in range(max(len(a), len(b)))]
