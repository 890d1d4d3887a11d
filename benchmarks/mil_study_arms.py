"""The arms of the study: what a bag model sees beside the real bags, in as many steps, bags and instances."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from mil_study_data import Cells, Edits

from cfdiff.engine import seed_of
from cfdiff.mil.data import permuted
from cfdiff.mil.series import BagSet, Series, class_of
from cfdiff.mil.swaps import Donors, like_edits, swap_series

SHARES = (0.01, 0.02, 0.05, 0.10)
"""At most so many positives are left in a bag: the four tasks of the class."""
FOUND = 1.0
"""The share that stands for a bag as it was found: what the fraction is learned from."""
VERSIONS = 3
DRAWS = 2
"""Bags that are drawn of a patient for each share."""
MIXED = ("label", "rank", "attention", "embedding", "direction")
KEPT = ("label", "attention", "embedding")


@dataclass(frozen=True, eq=False)
class World:
    """Everything that the arms draw from, as rows of `contents` (R, D): features of the frozen encoder.

    Attributes:
        cells: of the training patients, rows 0 to N - 1; core (C,): which of them were edited.
        edits: way -> {(row of a cell, class) -> row of the edit}.
        turned: (8, N) rows of the cells under the dihedral group.
        taught: rows of cells of all the guide's patients, with `taught_labels`: what the guide learned from.
    """

    contents: np.ndarray
    cells: Cells
    core: np.ndarray
    edits: dict[str, dict[tuple[int, int], int]]
    turned: np.ndarray
    taught: np.ndarray
    taught_labels: np.ndarray


def world_edits(edits: dict[str, Edits], core: np.ndarray, first: int) -> dict[str, dict[tuple[int, int], int]]:
    """`World.edits` of edits whose features begin at row `first`, way after way; the first of a kind counts."""
    found: dict[str, dict[tuple[int, int], int]] = {}
    for name, one in edits.items():
        found[name] = {}
        for i, (row, label) in enumerate(zip(core[one.row].tolist(), one.label.tolist(), strict=True)):
            found[name].setdefault((row, label), first + i)
        first += len(one.row)
    return found


def drawn_rows(
    cells: Cells, patient: str, share: float, size: int, rng: np.random.Generator, core: set[int]
) -> np.ndarray:
    """Rows (size,) of a bag of a patient with at most `share` positives, one at least where there is any.

    Share 0 takes all out, `FOUND` leaves all in. Cells of the core come first; others come twice where there are too
    few, so that no edited cell stands beside its unedited copy.
    """
    of_class = [np.flatnonzero((cells.patients == patient) & (cells.labels == k)) for k in (0, 1)]
    if share == FOUND:
        return _filled(rng.permutation(np.concatenate(of_class)), size, core)
    order = [rng.permutation(rows) for rows in of_class]
    positives = min(len(order[1]), max(1, int(share * size + 1e-9))) if share else 0
    return np.concatenate([_filled(order[1], positives, core), _filled(order[0], size - positives, core)])


def _filled(rows: np.ndarray, size: int, core: set[int]) -> np.ndarray:
    """(size,) of some rows, those of the core first and once."""
    there = np.array([row in core for row in rows.tolist()], bool)
    others = rows[~there] if (~there).any() else rows
    if size and not len(rows):
        raise ValueError("a bag is to hold cells of a class that its patient has not")
    more = size - len(rows)
    return np.concatenate([rows[there], rows[~there], np.resize(others, max(0, more))])[:size].astype(np.int64)


def real_bags(
    world: World, patients: Sequence[str], shares: Sequence[float], size: int, seed: int, again: str = ""
) -> list[Series]:
    """`DRAWS` bags of each patient and share."""
    core, found = set(world.core.tolist()), []
    for patient in patients:
        for share in shares:
            for draw in range(DRAWS):
                name = f"{patient}/{share}/{draw}"
                rng = np.random.default_rng(seed_of(seed, f"bag/{again}{name}"))
                rows = drawn_rows(world.cells, patient, share, size, rng, core)[None]
                labels = world.cells.labels[rows].astype(np.int8)
                found.append(Series(name, patient, rows, labels, class_of(labels)))
    return found


Build = Callable[[World, list[Series], int], tuple[list[Series], np.ndarray]]
"""(world, real bags, seed) -> the same bags in versions, and rows that are to be appended to the contents."""


@dataclass(frozen=True)
class Arm:
    """An arm: what it sees beside real bags, with which losses of mixtures, and whose instance labels it is told.

    With `pooled` only instance labels are learned, and the bag's answer is a pool of the instances' own.
    `needs` are the ways of editing (`World.edits`) that it takes its instances from. As a control each version is told
    the labels of another one of its bag (`permute` "versions"), or those of any version of any bag ("all").
    """

    build: Build
    losses: tuple[str, ...] = ("label",)
    taught: str = ""
    permute: str = ""
    pooled: bool = False
    needs: tuple[str, ...] = ()

    def mixes(self, world: World, real: list[Series], seed: int) -> tuple[list[Series], np.ndarray]:
        """See `Build`; in versions of one shape."""
        series, more = self.build(world, real, seed)
        if self.permute:
            series = dealt(series, seed) if self.permute == "all" else [permuted(one, seed) for one in series]
        return series, more


def dealt(series: list[Series], seed: int) -> list[Series]:
    """Every version with the labels of some version of some bag, in another order of the instances: what a label says
    is right no more often than by chance, and so is which of two versions holds more positives."""
    rng = np.random.default_rng(seed_of(seed, "deal"))
    labels, classes = (np.concatenate([getattr(one, name) for one in series]) for name in ("labels", "classes"))
    order = rng.permutation(len(labels))
    labels, classes = rng.permuted(labels[order], axis=1), classes[order]
    ends = np.cumsum([len(one) for one in series])
    return [
        replace(one, labels=labels[end - len(one) : end], classes=classes[end - len(one) : end])
        for one, end in zip(series, ends.tolist(), strict=True)
    ]


def _none(world: World) -> np.ndarray:
    return world.contents[:0]


def _versions(one: Series, rows: list[np.ndarray], labels: list[np.ndarray], real: bool = True) -> Series:
    told = np.stack(labels).astype(np.int8)
    return replace(one, rows=np.stack(rows), labels=told, classes=class_of(told), real=real)


def again(world: World, real: list[Series], seed: int) -> tuple[list[Series], np.ndarray]:
    """Real only: other draws of the same patients at the same share, so that as many bags are seen."""
    size = real[0].size
    patients = list(dict.fromkeys(one.group for one in real))
    shares = list(dict.fromkeys(float(one.name.split("/")[-2]) for one in real))
    others = [real_bags(world, patients, shares, size, seed, f"again{v}/") for v in range(VERSIONS)]
    return [
        _versions(one, [o.rows[0] for o in kin], [o.labels[0] for o in kin])
        for one, *kin in zip(real, *others, strict=True)
    ], _none(world)


def augmented(world: World, real: list[Series], seed: int) -> tuple[list[Series], np.ndarray]:
    """Every instance turned and mirrored by chance."""
    found = []
    for one in real:
        rng = np.random.default_rng(seed_of(seed, f"turn/{one.name}"))
        turns = rng.integers(0, len(world.turned), (VERSIONS, one.size))
        found.append(_versions(one, list(world.turned[turns, one.rows[0]]), [one.labels[0]] * VERSIONS))
    return found, _none(world)


def swapped(world: World, real: list[Series], seed: int) -> tuple[list[Series], np.ndarray]:
    """Real instances of other training patients in place of a bag's own, as HIPPO does, until 0, 1, 2 or 4 are
    positive."""
    donors = Donors(BagSet("real", world.contents, tuple(real)))
    found = [swap_series(one, donors, (0, 1, 2, 4), seed) for one in real]
    return [one for one in found if one is not None], _none(world)


def swapped_like(build: Build) -> Build:
    """Real instances of other training patients in the very places that an arm of edits flips; nothing else changes."""

    def swap(world: World, real: list[Series], seed: int) -> tuple[list[Series], np.ndarray]:
        donors = Donors(BagSet("real", world.contents, tuple(real)))
        found = [like_edits(one, donors, seed) for one in build(world, real, seed)[0]]
        return [one for one in found if one is not None], _none(world)

    return swap


def remixed(world: World, real: list[Series], seed: int) -> tuple[list[Series], np.ndarray]:
    """ReMix (Yang et al. 2022): half of the instances move towards their nearest of another bag of the same class."""
    found, parts, first = [], [], len(world.contents)
    for one in real:
        rng = np.random.default_rng(seed_of(seed, f"remix/{one.name}"))
        kin = [o for o in real if o.classes[0] == one.classes[0] and o.group != one.group]
        versions = [one.rows[0]]
        for _ in range(VERSIONS - 1):
            other = world.contents[kin[rng.integers(len(kin))].rows[0]]
            own = world.contents[one.rows[0]]
            nearest = (own**2).sum(1)[:, None] - 2 * own @ other.T + (other**2).sum(1)
            chosen = rng.random(one.size) < 0.5
            share = rng.random((one.size, 1)).astype(np.float32)
            moved = share * own + (1 - share) * other[nearest.argmin(1)]
            parts.append(moved[chosen])
            rows = one.rows[0].copy()
            rows[chosen] = first + np.arange(int(chosen.sum()))
            first += int(chosen.sum())
            versions.append(rows)
        found.append(_versions(one, versions, [one.labels[0]] * VERSIONS))
    return found, np.concatenate(parts)


def edited(flips: str = "", sham: str = "", spare: str = "") -> Build:
    """Edits of the bag's own core cells: `flips` to the other class, all others of the core as shams (of `spare` too).

    So with shams every version but the first holds as many edited instances, however many of them are positive. With
    nothing to flip each version has shams in another half of the core.
    """

    def build(world: World, real: list[Series], seed: int) -> tuple[list[Series], np.ndarray]:
        found, core = [], set(world.core.tolist())
        up, still = world.edits.get(flips, {}), {**world.edits.get(spare, {}), **world.edits.get(sham, {})}
        for one in real:
            rng = np.random.default_rng(seed_of(seed, f"edit/{one.name}"))
            rows, labels = [one.rows[0]], [one.labels[0]]
            mine = rng.permutation([i for i, row in enumerate(one.rows[0].tolist()) if row in core])
            of_class = [[i for i in mine.tolist() if one.labels[0][i] == k] for k in (0, 1)]
            able = [[i for i in of_class[k] if (int(one.rows[0][i]), 1 - k) in up] for k in (0, 1)]
            lower = [able[1]] if able[1] else []
            plans = [*([[]] if still else []), *lower, *(able[0][:n] for n in (1, 2, 4))] if flips else [[]] * VERSIONS
            for flip in plans:
                row, label = one.rows[0].copy(), one.labels[0].copy()
                for i in mine.tolist() if flips else rng.permutation(mine)[: -(-len(mine) // 2)].tolist():
                    goal = (int(one.rows[0][i]), int(one.labels[0][i]))
                    if i in flip:
                        row[i], label[i] = up[goal[0], 1 - goal[1]], 1 - goal[1]
                    elif goal in still:
                        row[i] = still[goal]
                rows.append(row)
                labels.append(label)
            found.append(_versions(one, rows, labels))
        return found, _none(world)

    return build


ARMS: dict[str, Arm] = {
    "real only": Arm(again),
    "augmentation": Arm(augmented),
    "instance labels": Arm(again, taught="own"),
    "instance labels of the guide": Arm(again, taught="guide"),
    "instance classifier of the guide's labels, pooled": Arm(again, taught="guide", pooled=True),
    "swap of real instances": Arm(swapped, MIXED),
    "swap where instance mode edits": Arm(swapped_like(edited("instance", "sham")), MIXED, needs=("instance",)),
    "swap where joint mode edits": Arm(swapped_like(edited("joint", "joint-sham")), MIXED, needs=("joint",)),
    "feature mixing (ReMix)": Arm(remixed),
    "unguided diffusion": Arm(edited(sham="unguided"), KEPT, needs=("unguided",)),
    "sham only": Arm(edited(sham="sham"), KEPT, needs=("sham",)),
    "instance mode + sham": Arm(edited("instance", "sham"), MIXED, needs=("instance",)),
    "joint mode + sham": Arm(edited("joint", "joint-sham", "sham"), MIXED, needs=("joint",)),
    "instance mode + sham, permuted": Arm(edited("instance", "sham"), MIXED, permute="versions", needs=("instance",)),
    "joint mode + sham, permuted": Arm(
        edited("joint", "joint-sham", "sham"), MIXED, permute="versions", needs=("joint",)
    ),
    "instance mode + sham, labels at random": Arm(
        edited("instance", "sham"), MIXED, permute="all", needs=("instance",)
    ),
    "joint mode + sham, labels at random": Arm(
        edited("joint", "joint-sham", "sham"), MIXED, permute="all", needs=("joint",)
    ),
    "instance mode, no sham": Arm(edited("instance"), MIXED, needs=("instance",)),
    "joint mode, no sham": Arm(edited("joint"), MIXED, needs=("joint",)),
}
TRANSLATED = ("instance mode + sham", "joint mode + sham")
RIVALS = (
    "instance labels",
    "instance labels of the guide",
    "instance classifier of the guide's labels, pooled",
    "swap of real instances",
    "swap where instance mode edits",
    "swap where joint mode edits",
    "sham only",
)
"""Translation helps where both TRANSLATED arms are above the best of these."""
