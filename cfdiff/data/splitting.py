"""Splits for data that has none, or not all: who learns, who accepts, who judges, what is tuned and tested on.

Whole groups (patients, boards, slides) go to one split, so that no model meets in a test what it learned from. The plan
depends on the seed and on the names of groups and images only, never on the order of rows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from cfdiff.data.distinct import distinct
from cfdiff.data.names import fold
from cfdiff.data.placing import place
from cfdiff.data.source import NEGATIVE, POSITIVE, Source
from cfdiff.errors import UserError

TRAIN, VERIFIER, JUDGE, VAL, TEST = "train", "train-verifier", "train-judge", "val", "test"
SHARES = {TRAIN: 0.5, VERIFIER: 0.12, JUDGE: 0.15, VAL: 0.08, TEST: 0.15}
"""The share of all that each split gets, nearly, as groups stay whole; of a part of all, in proportion."""
SPELLINGS = {
    TRAIN: ("train", "train-guide", "training"),
    VAL: ("val", "valid", "validation", "dev"),
    TEST: ("test", "testing", "holdout"),
}
"""How data calls its own splits, folded; the first that is there counts."""
LADDER = {
    VERIFIER: "it knows the groups that the guide learned from, so what it accepts is less certain",
    VAL: "validation is on groups that were trained on, so it flatters",
    JUDGE: "the judge knows the groups that the guide learned from, so its word means less",
}
"""Who gives up having groups of its own, in this order, where there are too few; and what that costs."""
FEW = 10
"""With fewer images of a class in a split, what is learned or measured there hangs on single images."""
LEAST = {VAL: 2}
"""Images of each class that a split must have, else one: of those of `val` half are tuned on and half compared on."""
THIN = 0.3
"""Share of all images in `train` below which that is said."""
ENOUGH = 20
"""Images of the rarer class to divide from which `LEAST` is worth groups of its own."""
DRAWS = 16
"""Plans that are drawn where the first one has a split of fewer than `FEW` images of a class."""


@dataclass(frozen=True, eq=False)
class SplitPlan:
    """Where each image goes.

    Attributes:
        splits: (N,) str in the order of the source, of `SHARES` or as the data itself calls them.
        notes: a sentence each about what was kept and what had to be given up.
    """

    splits: np.ndarray
    notes: tuple[str, ...]


def spelled(role: str, names: Iterable[str]) -> str | None:
    """What one of these names calls the split of a role, without regard to case; None where none does."""
    folded = {fold(name): str(name) for name in sorted(names, reverse=True)}
    return next((folded[word] for word in SPELLINGS.get(role, (role,)) if word in folded), None)


def own_split(source: Source, *roles: str) -> str | None:
    """What a source calls its split of the first of these roles that it has; None where it has none of them."""
    if source.splits is None:
        return None
    names = distinct(source.splits.astype(str))[0].tolist()
    return next((name for role in roles if (name := spelled(role, names)) is not None), None)


def plan_splits(source: Source, seed: int = 0) -> SplitPlan:
    """Divide a source by group, both classes in every split; what its own splits say is kept.

    - Without splits of its own, or where none of them is that of a role (folds, sites), all is divided by `SHARES`.
    - An own train, val, test, train-judge or train-verifier stays, but for one other than the test that lacks a class.
      What is missing is cut from the images to train on, those of no split with them. The judge's part is cut from val
      instead where val holds the shares of both, 23 % of all, or more, and `FEW` images of each class: then nothing is
      lost to training, and the guide never learned from those images.
    - Of several plans the one whose poorest split has most of the rarer class, where that is less than `FEW`.
    - Where groups are too few, splits give up having groups of their own in the order of `LADDER`. Where even the test
      cannot have its own, images are divided instead. Images of one pair stay together where there are enough pairs.

    Raises:
        UserError: a class is missing, or has too few images for so many splits, or none are left to train on, or the
            own test lacks a class.
    """
    for label, name in enumerate(source.classes):
        if not np.any(source.labels == label):
            raise UserError(
                f"{source.name} has no image of class {name!r}, and every split needs both classes: give data that has "
                "both, or name the classes with --negative and --positive."
            )
    own = np.full(len(source), "") if source.splits is None else source.splits.astype(str)
    notes: list[str] = []
    own = _usable(source, own, notes)
    splits = own.astype(object)
    for pool, shares in _pools(source, own, notes):
        rows = np.flatnonzero(pool)
        splits[rows] = _divide(source.select(rows), shares, seed, notes)
    splits = splits.astype(str)
    if source.groups is not None and spelled(TRAIN, set(own.tolist())) is None:
        part = float(np.mean(splits == TRAIN))
        if part < THIN:
            notes.append(f"Only {part:.0%} of the images are left to learn from (train): more groups would help.")
    return SplitPlan(splits, (*notes, *_shared_already(source, own), *poor(source, splits)))


def _usable(source: Source, own: np.ndarray, notes: list[str]) -> np.ndarray:
    """Own splits (N,), without those of a role that they lack a class for: their images are divided with the rest."""
    there = set(own.tolist()) - {""}
    for role in (VERIFIER, JUDGE, VAL, TEST):
        name = spelled(role, there)
        if name is None or (short := too_few(source, own, role, name)) is None:
            continue
        if role == TEST:
            raise UserError(
                f"{short}, so no figure could be of both directions: give it some, or leave that split out."
            )
        notes.append(f"{short}: it is too little, so its images are divided with those to train on.")
        own = np.where(own == name, "", own)
    return own


def too_few(source: Source, splits: np.ndarray, role: str, name: str) -> str | None:
    """Of which class the split `name` of a role has fewer images than `LEAST`, in words; None where of neither."""
    counts = [int(np.sum((splits == name) & (source.labels == label))) for label in (NEGATIVE, POSITIVE)]
    if min(counts) >= LEAST.get(role, 1):
        return None
    rarer = source.classes[int(np.argmin(counts))]
    return f"The split {name} of {source.name} has {min(counts)} images of class {rarer!r}"


def _pools(source: Source, own: np.ndarray, notes: list[str]) -> list[tuple[np.ndarray, dict[str, float]]]:
    """What is to be divided: images (N,) bool, and split -> share; the first split is the one that they are of."""
    there = set(own.tolist()) - {""}
    name = {role: spelled(role, there) for role in SHARES}
    kept = [n for n in name.values() if n is not None]
    if not kept:
        if there:
            notes.append(f"The splits {_listed(there)} of {source.name} are of no role: all images are divided anew.")
        return [(np.ones(len(source), bool), SHARES)]
    pool = (own == "") | (own == name[TRAIN])
    if not pool.any():
        raise UserError(
            f"{source.name} has the splits {_listed(there)}, and none to train on: call that one train, or leave all "
            "splits out of the data, so that it is divided anew."
        )
    notes.append(f"{source.name} has splits of its own, {_listed(kept)}: they stay.")
    if others := there - set(kept):
        notes.append(f"The splits {_listed(others)} of {source.name} stay as they are: no role uses them.")
    missing = {role: SHARES[role] for role in SHARES if name[role] is None and role != TRAIN}
    pools = []
    val, both = own == name[VAL], SHARES[VAL] + SHARES[JUDGE]
    large = val.sum() >= both * len(source) and _rarer(source, val) >= FEW
    if JUDGE in missing and large and _enough_groups(source, val, 2):
        notes.append(f"{name[VAL]} is large enough: the judge's images are cut from it, and none from training.")
        pools.append((val, {str(name[VAL]): SHARES[VAL], JUDGE: missing.pop(JUDGE)}))
    if missing or (own[pool] == "").any():
        pools.append((pool, {name[TRAIN] or TRAIN: SHARES[TRAIN], **missing}))
    return pools


def _divide(pool: Source, shares: dict[str, float], seed: int, notes: list[str]) -> np.ndarray:
    """(n,) str, a split for each image of a pool; what is given up goes to `notes`."""
    first, *others = shares
    for label, name in enumerate(pool.classes):
        if (n := int(np.sum(pool.labels == label))) < len(shares):
            raise UserError(
                f"{pool.name} has {n} image{'' if n == 1 else 's'} of class {name!r} to divide into {_listed(shares)}, "
                f"and each needs one at least: give {len(shares)} of each class, better {FEW * len(shares)} or more."
            )
    if pool.groups is not None:
        sharing, given_up = [first], list[str]()
        for role in (first, *(role for role in LADDER if role in others)):
            if role != first:
                sharing.append(role)
                given_up.append(f"{role} shares groups with {first}, as {pool.name} has too few: {LADDER[role]}.")
            plans = (_by_group(pool, sharing, shares, seed + (k << 32)) for k in range(DRAWS))
            if (found := _richest(pool, plans)) is not None:
                notes += given_up
                return found
        notes.append(
            f"{pool.name} has too few groups to keep {_listed(others)} apart from {first}, so images are divided and "
            "groups are not: intervals are too narrow, and the judge's word means less."
        )
    return _by_image(pool, shares, seed)


def _richest(pool: Source, plans: Iterable[np.ndarray | None]) -> np.ndarray | None:
    """Of plans (n,) the first whose poorest split has `FEW` images of each class, else the one where it has most.

    None where one is None, as there are too few groups for any, or where none has `LEAST` in every split although
    there are images enough.
    """
    best, most, needed = None, 0, LEAST[VAL] if _rarer(pool, np.ones(len(pool), bool)) >= ENOUGH else 1
    for plan in plans:
        if plan is None:
            return None
        counts = {str(name): _rarer(pool, plan == name) for name in np.unique(plan)}
        val, poorest = spelled(VAL, counts), min(counts.values())
        if poorest > most and (val is None or counts[val] >= needed):
            best, most = plan, poorest
        if most >= FEW:
            break
    return best


def _rarer(source: Source, where: np.ndarray) -> int:
    """Images of the rarer class among those where (N,) bool."""
    return min(int(np.sum(where & (source.labels == label))) for label in (NEGATIVE, POSITIVE))


def _by_group(pool: Source, sharing: Sequence[str], shares: dict[str, float], seed: int) -> np.ndarray | None:
    """Groups to splits, those that are `sharing` as one; then its images to each of them. None: not enough."""
    first = sharing[0]
    apart = {role: share for role, share in shares.items() if role not in sharing}
    assert pool.groups is not None
    together = {first: sum(shares[role] for role in sharing)}
    splits = place(pool.labels, pool.groups.astype(str), together | apart, seed)
    if splits is None or len(sharing) == 1:
        return splits
    rows = np.flatnonzero(splits == first)
    inner = pool.select(rows)
    if min(np.sum(inner.labels == label) for label in (NEGATIVE, POSITIVE)) < len(sharing):
        return None
    splits = splits.astype(object)
    splits[rows] = _by_image(inner, {role: shares[role] for role in sharing}, seed)
    return splits.astype(str)


def _by_image(pool: Source, shares: dict[str, float], seed: int) -> np.ndarray:
    """Images to splits, of which there are at least as many of each class as splits; pairs whole where that goes."""
    if pool.pairs is not None:
        alone = np.char.add("\0", pool.ids.astype(str))  # no pair is called so
        splits = place(pool.labels, np.where(pool.pairs == "", alone, pool.pairs), shares, seed)
        if splits is not None:
            return splits
    splits = place(pool.labels, pool.ids.astype(str), shares, seed)
    assert splits is not None
    return splits


def _enough_groups(source: Source, where: np.ndarray, splits: int) -> bool:
    """Whether the images where (N,) bool can give so many splits both classes, by group where there are groups."""
    part = source.select(np.flatnonzero(where))
    units = part.ids if part.groups is None else part.groups
    return place(part.labels, units.astype(str), dict.fromkeys(map(str, range(splits)), 1.0), 0) is not None


def _shared_already(source: Source, own: np.ndarray) -> list[str]:
    """A sentence where groups are in more than one of the data's own splits: that stays."""
    if source.groups is None:
        return []
    named = own != ""
    pairs = np.unique(np.stack([source.groups.astype(str)[named], own[named]]), axis=1)
    names, counts = np.unique(pairs[0], return_counts=True)
    if not (counts > 1).any():
        return []
    return [
        f"{int((counts > 1).sum())} groups of {source.name} ({names[counts > 1][0]} for one) are in more than one of "
        "its own splits: they stay there, and what is measured on them flatters."
    ]


def poor(source: Source, splits: np.ndarray) -> list[str]:
    """Sentences about splits (N,) of roles that say little: of few images of a class, or a test of one group."""
    known = set(splits.tolist()) - {""}
    name = {role: found for role in SHARES if (found := spelled(role, known)) is not None}
    fewest = {one: _rarer(source, splits == one) for one in name.values()}
    thin = [f"{one} ({least})" for one, least in fewest.items() if least < FEW]
    notes = (
        [f"Few images of one class: {_listed(thin)}; what is learned or measured there hangs on them."] if thin else []
    )
    test = splits == name.get(TEST)
    if source.groups is not None and len(np.unique(source.groups[test])) == 1:
        notes.append("test is a single group: intervals are over its images, and say nothing of other groups.")
    return notes


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names) if isinstance(names, set) else names)
