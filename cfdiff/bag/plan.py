"""Which instances of which bag are to change: bags, ranking and choice, as pure functions of names and numbers.

The instances to edit are the top of s_i / temperature + Gumbel(hash(seed, id)): a draw without replacement with
odds proportional to exp(s_i / temperature) (Yellott 1977; Kool et al. 2019, "Gumbel top-k"). The noise hangs on
the id, so the choice does not depend on the order of files, and a larger mix takes all that a smaller one took.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cfdiff.data.source import Source
from cfdiff.engine import seed_of, wanted_count
from cfdiff.errors import UserError
from cfdiff.store.bags import draw_name


@dataclass(frozen=True, eq=False)
class Bag:
    """Instances that belong together.

    Attributes:
        name: of the group, or the number of the draw.
        rows: (n,) rows of the source.
        keys: (n,) str, unique in the bag: the id, or `id#2` for an instance that was drawn a second time.
    """

    name: str
    rows: np.ndarray
    keys: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, eq=False)
class Instances:
    """What is known of every row of the source, (N,) each.

    Attributes:
        labels: 0 or 1, from the data or the judge.
        preference: s_i / temperature; -inf for instances that must not be chosen.
        noisy: whether the Gumbel noise is added; a list of ids, or temperature 0, is followed as it is.
        frozen: must not change.
        strata: shares of the edits go by it; None is no stratification.
    """

    labels: np.ndarray
    preference: np.ndarray
    noisy: bool
    frozen: np.ndarray
    strata: np.ndarray | None


@dataclass(frozen=True, eq=False)
class Goal:
    """A bag at one mix.

    Attributes:
        bag: its index.
        requested: the mix r that was asked for.
        wanted: k = floor(r n + 1/2).
        edits: |k - P|, how many instances change class.
        target: the class they get; 1 where none changes.
        ranking: positions in the bag that may change to `target`, the first choice first.
        score: (n,) float64 of every instance in the bag: ranked by it, highest first.
    """

    bag: int
    requested: float
    wanted: int
    edits: int
    target: int
    ranking: np.ndarray
    score: np.ndarray


def make_bags(source: Source, size: int | None, most: int | None, replacement: bool, seed: int) -> list[Bag]:
    """The groups of a source (by name), the whole of it where there are none, or drawn bags of `size`.

    Without replacement instances are dealt like cards: none is in two bags before all but a rest were in one.
    """
    if size is None:
        if replacement:
            raise UserError("--replacement is for drawn bags: give their size with --bag-size.")
        return _groups(source)[:most]
    if replacement:
        by_id = np.argsort(source.ids)
        rngs = (np.random.default_rng(seed_of(seed, f"bag/{b}")) for b in range(most or max(1, len(source) // size)))
        return [_bag(draw_name(b), source, by_id[rng.integers(0, len(source), size)]) for b, rng in enumerate(rngs)]
    if size > len(source):
        raise UserError(
            f"A bag of {size} cannot be drawn from the {len(source)} instances of {source.name}: "
            "lower --bag-size or add --replacement."
        )
    a_round = len(source) // size
    bags: list[Bag] = []
    for b in range(most or a_round):
        if b % a_round == 0:
            deck = np.argsort([seed_of(seed, f"deal/{b // a_round}/{i}") for i in source.ids], kind="stable")
        start = b % a_round * size
        bags.append(_bag(draw_name(b), source, deck[start : start + size]))
    return bags


def _groups(source: Source) -> list[Bag]:
    if source.groups is None:
        return [_bag(Path(source.name).name, source, np.arange(len(source)))]
    names = source.groups.astype(str)
    if blank := int(np.sum(names == "")):
        raise UserError(f"{blank} instances of {source.name} have no group: name their bag or remove them.")
    return [_bag(str(name), source, np.flatnonzero(names == name)) for name in np.unique(names)]


def _bag(name: str, source: Source, rows: np.ndarray) -> Bag:
    seen: dict[str, int] = {}
    keys = []
    for id in source.ids[rows].tolist():
        seen[id] = seen.get(id, 0) + 1
        keys.append(id if seen[id] == 1 else f"{id}#{seen[id]}")
    return Bag(name, np.asarray(rows, dtype=np.int64), np.array(keys, dtype=str))


def gumbel(seed: int, keys: Sequence[str]) -> np.ndarray:
    """(n,) standard Gumbel noise that depends on (seed, key) only."""
    u = np.array([seed_of(seed, f"select/{key}") + 0.5 for key in keys], dtype=np.float64) / 2**63
    return -np.log(-np.log(np.clip(u, 1e-300, 1 - 2**-53)))


def make_goal(b: int, bag: Bag, mix: float, instances: Instances, seed: int) -> Goal:
    """How many instances of the bag change, to which class, and in which order they are chosen.

    Raises:
        UserError: frozen instances, or a list of ids, leave too few that may change.
    """
    labels, frozen = instances.labels[bag.rows], instances.frozen[bag.rows]
    n, positives = len(bag), int(labels.sum())
    wanted = wanted_count(n, mix)
    low = int(labels[frozen].sum())
    high = low + int(np.sum(~frozen))
    if not low <= wanted <= high:
        raise UserError(
            f"Bag {bag.name!r} cannot have {wanted} positives of {n}: with its {int(frozen.sum())} frozen instances "
            f"it reaches {low} to {high}, a mix of {low / n:.3g} to {high / n:.3g}."
        )
    target = 0 if wanted < positives else 1
    edits = abs(wanted - positives)
    preference = instances.preference[bag.rows]
    noise = gumbel(seed, bag.keys.tolist())
    score = preference + noise if instances.noisy else preference
    may = (labels == 1 - target) & ~frozen & np.isfinite(preference)
    if edits > may.sum():
        kind = ("negative", "positive")[1 - target]
        raise UserError(
            f"Bag {bag.name!r} needs {edits} of its {kind} instances translated for a mix of {mix:.3g}, but "
            f"{int(may.sum())} of them may be: ask for another --mix, or allow more with --select and --freeze."
        )
    order = np.lexsort((bag.keys, -noise, -score))
    return Goal(b, mix, wanted, edits, target, order[may[order]], score)


def choose(ranking: np.ndarray, edits: int, strata: np.ndarray | None = None) -> np.ndarray:
    """The first `edits` of the ranking; with `strata` (n,), each stratum gives its share of them, in that order.

    Fewer where the ranking is shorter. Shares are proportional to what the ranking holds of each stratum.
    """
    edits = min(edits, len(ranking))
    if strata is None or edits == 0:
        return ranking[:edits]
    names, member = np.unique(strata[ranking], return_inverse=True)
    shares = apportion(edits, np.bincount(member, minlength=len(names)))
    place = np.empty(len(ranking), dtype=np.int64)  # of each one within its stratum
    for j in range(len(names)):
        here = np.flatnonzero(member == j)
        place[here] = np.arange(len(here))
    return ranking[place < shares[member]]


def apportion(seats: int, counts: np.ndarray) -> np.ndarray:
    """`seats` shared in proportion to `counts` (S,) by largest remainder (Hamilton); ties to the larger, then first.

    Every share lies less than 1 from its quota, and never above its count, if seats <= counts.sum().
    """
    counts = np.asarray(counts, dtype=np.int64)
    total = int(counts.sum())
    whole, rest = np.divmod(seats * counts, total)
    order = np.lexsort((np.arange(len(counts)), -counts, -rest))
    whole[order[: seats - int(whole.sum())]] += 1
    return whole


def read_ids(path: str, option: str, known: np.ndarray, where: str) -> np.ndarray:
    """The rows of the ids that a file lists, one a line, in its order.

    Raises:
        UserError: the file cannot be read, is empty, names an id twice or one that the data does not have.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            ids = [line.strip() for line in file if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UserError(f"{option} cannot read {str(path)!r}: {reason}; give a text file with an id a line.") from error
    if not ids:
        raise UserError(f"{option} {str(path)!r} is empty: give an id a line.")
    row = {str(id): i for i, id in enumerate(known.tolist())}
    seen: set[str] = set()
    for id in ids:
        if id not in row:
            raise UserError(
                f"{option} {str(path)!r} names {id!r}, which is not among the {len(row)} instances of {where} in use: "
                "take ids of these (see --split)."
            )
        if id in seen:
            raise UserError(f"{option} {str(path)!r} names {id!r} twice: name each id once.")
        seen.add(id)
    return np.array([row[id] for id in ids], dtype=np.int64)


def log_odds(p: np.ndarray) -> np.ndarray:
    """log p / (1 - p), finite for p at 0 or 1 to float32 precision."""
    p = np.clip(np.asarray(p, dtype=np.float64), 1e-7, 1 - 1e-7)
    return np.log(p) - np.log1p(-p)
