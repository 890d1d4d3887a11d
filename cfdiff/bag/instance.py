"""Instance mode: |k - P| instances of each bag are translated, each at most once for all bags and mixes together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cfdiff.bag.plan import choose
from cfdiff.bag.setup import Plan, Setup
from cfdiff.edit.memory import in_halves
from cfdiff.edit.tiling import ImageEditor, editor_of, tiles_of
from cfdiff.edit.verdicts import edit_arrays
from cfdiff.errors import UserError
from cfdiff.progress import Progress, silent
from cfdiff.roles import ACCEPTING
from cfdiff.store import open_result
from cfdiff.store.bags import BagParts, round_of
from cfdiff.store.part_files import PartFiles
from cfdiff.workers.crew import Crew, Elsewhere, crew

Item = tuple[int, int]
"""(row of the source, class to give it); its own class is a sham."""


@dataclass(frozen=True)
class RoundPart:
    """A part of a round: the items from `start` on."""

    files: PartFiles
    start: int
    items: tuple[Item, ...]

    def __repr__(self) -> str:
        return f"{self.files.path(self.start)}"


@dataclass(frozen=True, eq=False)
class Done:
    """The edits of a run.

    Attributes:
        files: result files that hold them.
        keep: for each file, the rows that belong into the bag file: edit e is the e-th of all of these.
        edit: for each goal, (n,) the edit of each instance of the bag; -1 is its source.
        edited: for each goal, (n,) bool, whose class was changed. Other edits are shams.
    """

    files: list[Path]
    keep: list[np.ndarray]
    edit: list[np.ndarray]
    edited: list[np.ndarray]


class InstanceWriter:
    """Computes parts of rounds, each into its file. A piece is the part files, the first item and the items."""

    def __init__(self, setup: Setup) -> None:
        s, tiles = setup.s, tiles_of(setup.s)
        self.setup = setup
        first = s.model_copy(update={"retries": 0}) if s.on_fail == "keep" else s
        self.flip = editor_of(setup.cast, first, tiles, s.every_tile)
        # In the closed loop a sham would stop before it began, as the checker is sure of its class already.
        to_itself = s.model_copy(update={"closed_loop": False, "retries": 0})
        self.sham = editor_of(setup.cast, to_itself, tiles, s.every_tile)

    def __call__(self, piece: RoundPart) -> None:
        """Write a part, unless whoever was to do it before died after it was there."""
        piece.files.fill(piece.start, lambda: in_halves(self._edited, piece.items))

    def begin(self, piece: RoundPart) -> Callable[[], None]:
        """Compute a part; what is given back packs and writes it (workers.here.InTwo)."""
        return piece.files.begin(piece.start, lambda: in_halves(self._edited, piece.items))

    def _edited(self, items: Sequence[Item]) -> dict[str, np.ndarray]:
        return edit_items(self.setup, items, self.flip, self.sham)


def instance_writer(plan: Plan) -> InstanceWriter:
    """An `InstanceWriter` in a process of its own; UserError where it sees other data or models."""
    return InstanceWriter(plan.set_up())


def edit_instances(setup: Setup, parts: BagParts, progress: Progress | None = None) -> Done | None:
    """Translate what the goals need, in rounds: a failure that is replaced asks for one more instance.

    A shard does its share of the first round, which needs nobody else's; the others are few, and the join's.

    Returns:
        The edits; None of a shard.

    Raises:
        UserError: with `on_fail` error, when an instance does not flip.
    """
    s, rank_strata = setup.s, setup.instances.strata
    writer = InstanceWriter(setup)
    done: dict[Item, int] = {}
    failed: set[Item] = set()
    files: list[Path] = []
    with crew(s, lambda: writer, Elsewhere(instance_writer, (Plan.of(setup),))) as workers:
        while True:
            chosen = []
            for goal in setup.goals:
                bag = setup.bags[goal.bag]
                rows = bag.rows[goal.ranking]
                ranking = goal.ranking[[(int(row), goal.target) not in failed for row in rows]]
                chosen.append(choose(ranking, goal.edits, None if rank_strata is None else rank_strata[bag.rows]))
            items = sorted(_items(setup, chosen) - done.keys(), key=lambda item: (item[1], item[0]))
            if not items and parts.shard is None:
                break
            path = _round(setup, parts, f"round-{len(files):04d}", items, workers, progress)
            if parts.shard is not None:
                return None
            done |= {item: len(done) + i for i, item in enumerate(items)}
            files.append(path)
            new = _failures(setup, path, items)
            if new and s.on_fail == "error":
                raise UserError(
                    f"{len(new)} of {len(items)} instances were not flipped, the first is "
                    f"{str(setup.source.ids[min(new)[0]])!r}: raise --retries or --ratio, or use "
                    "--on-fail replace (with --force)."
                )
            if s.on_fail == "replace":
                failed |= new
    return _assign(setup, chosen, done, files)


def _items(setup: Setup, chosen: list[np.ndarray]) -> set[Item]:
    """The images that the choice needs, each with its class."""
    items: set[Item] = set()
    for goal, positions in zip(setup.goals, chosen, strict=True):
        rows = setup.bags[goal.bag].rows
        items |= {(row, goal.target) for row in rows[positions].tolist()}
        if setup.s.untouched == "sham":
            items |= {
                (row, int(setup.instances.labels[row]))
                for row in np.delete(rows, positions).tolist()
                if not setup.instances.frozen[row]
            }
    return items


def _assign(setup: Setup, chosen: list[np.ndarray], done: dict[Item, int], files: list[Path]) -> Done:
    edit, edited = [], []
    for goal, positions in zip(setup.goals, chosen, strict=True):
        rows = setup.bags[goal.bag].rows
        changes = np.zeros(len(rows), bool)
        changes[positions] = True
        goals = np.where(changes, goal.target, setup.instances.labels[rows])
        keys = zip(rows.tolist(), goals.tolist(), strict=True)
        edit.append(np.array([done.get(key, -1) for key in keys], dtype=np.int64))
        edit[-1][setup.instances.frozen[rows]] = -1
        edited.append(changes)
    counts = [_length(path) for path in files]
    return Done(files, [np.arange(n) for n in counts], edit, edited)


def _length(path: Path) -> int:
    with open_result(path) as result:
        return len(result)


def _round(
    setup: Setup, parts: BagParts, name: str, items: list[Item], workers: Crew, progress: Progress | None
) -> Path:
    """One run in parts over `items`, or the share of it that `parts` is a shard of; the file it ends in."""
    ids, labels = setup.source.ids, setup.instances.labels
    # By id: rows of the source are other images when its order or its groups change.
    made_of = [(str(ids[row]), target, int(labels[row])) for row, target in items]
    digest = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()
    settings = {**setup.settings, "items": digest}
    path = parts.path_of(f"{name}-{digest[:32]}")
    run = round_of(path, settings, len(items), setup.s.batch, parts.shard, remote=parts.remote) if items else None
    if run is None:  # finished, or nothing is to be done
        if parts.shard is not None:
            parts.finish_pieces([])
        return path
    with run:
        missing = run.missing(progress or silent)
        run.push()  # what was done here when the store could not be reached
        pieces = [RoundPart(run.files, start, tuple(items[start:stop])) for start, stop in missing]
        n = sum(stop - start for start, stop in run.ranges)
        done = n - sum(len(piece.items) for piece in pieces)
        for piece, _ in workers.do(pieces):
            run.wrote(piece.start)
            done += len(piece.items)
            if progress is not None:
                progress("translating", done, n)
        if parts.shard is None:
            run.join(root_attributes(setup))
        else:
            run.push()
            parts.finish_pieces([f"{path.stem}/{run.files.path(start).name}" for start, _ in run.ranges])
    return path


def edit_items(setup: Setup, items: Sequence[Item], flip: ImageEditor, sham: ImageEditor) -> dict[str, np.ndarray]:
    """The arrays of one part (store.schema.SCHEMA): read, edit, judge."""
    rows, goals = (np.array(column) for column in zip(*items, strict=True))
    own = setup.instances.labels[rows] == goals
    pieces, places = [], []
    for editor, is_sham in ((flip, False), (sham, True)):
        for target in (0, 1):
            here = np.flatnonzero((own == is_sham) & (goals == target))
            if len(here):
                images = setup.source.read(rows[here])
                ids = [str(i) for i in setup.source.ids[rows[here]]]
                masks = setup.source.read_masks(rows[here]) if editor.s.mask == "data" else None
                edits = editor.edit(images, ids, target, masks)
                labels = setup.instances.labels[rows[here]]
                pieces.append(edit_arrays(setup.cast, images, ids, labels, target, edits))
                places.append(here)
    back = np.argsort(np.concatenate(places))
    # What the edits to one class alone come with, as a map of where they looked, no bag file holds.
    shared = [key for key in pieces[0] if key != "saliency"]
    return {key: np.concatenate([piece[key] for piece in pieces])[back] for key in shared}


def root_attributes(setup: Setup) -> dict[str, Any]:
    """What a round's file and the bag file both say of the run."""
    return {
        "seed": setup.s.seed,
        "models": setup.cast.hashes,
        "direction": "both",
        "schedule": setup.cast.schedule.config,
    }


def _failures(setup: Setup, path: Path, items: list[Item]) -> set[Item]:
    """The items that should have changed class and, to whoever accepts, did not. The judge is not asked."""
    with open_result(path) as result:
        who = next((who for who in ACCEPTING if f"prob/{who}" in result), None)
        if who is None:
            return set()
        p = result.prob(who)[:, 1]
    labels = setup.instances.labels
    return {
        (row, target) for (row, target), q in zip(items, p, strict=True) if labels[row] != target and q[target] <= 0.5
    }
