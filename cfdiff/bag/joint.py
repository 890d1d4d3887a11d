"""Joint mode: the whole bag is guided to the exact count, then checked, restored and corrected.

The checker counts what would be saved. Instances whose class it sees unchanged go back to their source, byte for
byte; where the count is off, or a flip is weak, those nearest to the border are edited one by one. The
judge is not asked.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cfdiff.bag.instance import Done, root_attributes
from cfdiff.bag.plan import Goal
from cfdiff.bag.settings import BagSettings
from cfdiff.bag.setup import Plan, Setup
from cfdiff.data.values import as_saved, to_model
from cfdiff.edit.cast import probabilities
from cfdiff.edit.editor import Editor, only_within
from cfdiff.edit.kept import Edits
from cfdiff.edit.memory import in_halves
from cfdiff.edit.verdicts import edit_arrays
from cfdiff.engine import Guidance
from cfdiff.engine.joint import count_reached, exact_count, join_paths
from cfdiff.engine.mixture import free_count
from cfdiff.errors import UserError
from cfdiff.progress import Progress
from cfdiff.registry import GUIDES
from cfdiff.store import RunParts, open_result
from cfdiff.store.bags import BagParts, round_of
from cfdiff.store.parts import wait_for
from cfdiff.store.remote import RemoteParts
from cfdiff.store.result import Result, is_result_of
from cfdiff.workers.crew import Elsewhere, crew


class BagWriter:
    """Edits whole bags, each into a file of its own. A piece is the number of a goal."""

    def __init__(self, setup: Setup, folder: Path) -> None:
        self.setup, self.folder = setup, folder
        self.editor = JointEditor(setup.cast, setup.s)
        for target in (0, 1):
            self.editor.towards(target).kinds()  # a guide that knows no bags is said before any computation

    def __call__(self, number: int) -> None:
        """Write the file of a goal's bag, unless it is there."""
        goal = self.setup.goals[number]
        run = _run_of(self.setup, self.folder, goal)
        if run is None:
            return
        with run:
            for start, _ in run.todo():
                # A bag is not done in halves, but one that does not fit the memory is said in a sentence.
                run.write(start, in_halves(lambda goals: joint_arrays(self.setup, self.editor, goals[0]), [goal]))
            run.join(root_attributes(self.setup))


def bag_writer(plan: Plan, folder: Path) -> BagWriter:
    """A `BagWriter` in a process of its own; UserError where it sees other data or models."""
    return BagWriter(plan.set_up(), folder)


def _run_of(setup: Setup, folder: Path, goal: Goal) -> RunParts | None:
    """The run of one bag at one mix, whose file lies in `folder`; None where that is finished."""
    path, settings, n = _file_of(setup, folder, goal)
    # A worker that died may hold it for the moment that the system takes to notice.
    return round_of(path, settings, n, n, patience=60)


def _file_of(setup: Setup, folder: Path, goal: Goal) -> tuple[Path, dict[str, Any], int]:
    """Of one bag at one mix: its file, the settings that stand in it, and its instances."""
    name = _name(setup, goal)
    return folder / f"{name}.h5", {**setup.settings, "bag": name}, len(setup.bags[goal.bag])


def edit_jointly(setup: Setup, parts: BagParts, progress: Progress | None = None) -> Done | None:
    """Edit every bag at every mix as a whole; each is a unit of crash safety, of workers and of shards.

    Returns:
        The edits; None of a shard.

    Raises:
        UserError: with `on_fail` error, when a bag does not reach its count.
    """
    writer = BagWriter(setup, parts.folder)
    names = [_name(setup, goal) for goal in setup.goals]
    numbers = {name: number for number, name in reversed(list(enumerate(names)))}  # equal bags are one piece of work
    if parts.shard is not None:
        numbers = dict(parts.shard.share(list(numbers.items())))
    files = {number: _file_of(setup, parts.folder, setup.goals[number]) for number in numbers.values()}
    left = [number for number, file in files.items() if not is_result_of(*file)]
    remote = parts.remote
    if remote is not None:
        there = remote.sizes()
        left = [n for n in left if files[n][0].name not in there or not _fetched(remote, *files[n])]
        remote.put_all([files[n][0] for n in files.keys() - set(left)])
    finished = len(numbers) - len(left)
    elsewhere = Elsewhere(bag_writer, (Plan.of(setup), parts.folder))
    with crew(setup.s, lambda: writer, elsewhere) as workers:
        for number, _ in workers.do(left):
            if remote is not None:
                wait_for(files[number][0])
                remote.put(files[number][0])
            finished += 1
            if progress is not None:
                progress("editing bags", finished, len(numbers))
    if parts.shard is not None:
        if remote is not None:
            remote.put_all([path for path, _, _ in files.values()])
        parts.finish_pieces(list(numbers))
        return None
    return _collect(setup, [parts.path_of(name) for name in names])


def _fetched(remote: RemoteParts, path: Path, settings: dict[str, Any], n: int) -> bool:
    """Whether the file of a bag lay at the remote, whole and of this run, and is here now."""
    return remote.fetch_file(path, lambda scratch: is_result_of(scratch, settings, n))


def _name(setup: Setup, goal: Goal) -> str:
    """What a bag at a mix is made of, as a name: not its number, which is another bag's when the groups change."""
    bag = setup.bags[goal.bag]
    labels, frozen = setup.instances.labels[bag.rows], setup.instances.frozen[bag.rows]
    made_of = [bag.keys.tolist(), labels.tolist(), frozen.tolist(), goal.wanted]
    return f"joint-{hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:32]}"


def _collect(setup: Setup, files: list[Path]) -> Done:
    """From the file of each goal to the edits of the run, in the order of the goals."""
    keep, edit, edited = [], [], []
    count = 0
    for path, goal in zip(files, setup.goals, strict=True):
        bag = setup.bags[goal.bag]
        with open_result(path) as result:
            changed = result["target"][:] != result["label"][:]
            # A free instance that was put back, because the checker saw it in the other class, is no sham.
            sham = differs(result) if setup.s.untouched == "sham" else np.zeros(len(bag), bool)
            here = np.flatnonzero(changed | (sham & ~setup.instances.frozen[bag.rows]))
        index = np.full(len(bag), -1, dtype=np.int64)
        index[here] = count + np.arange(len(here))
        count += len(here)
        keep.append(here)
        edit.append(index)
        edited.append(changed)
    return Done(files, keep, edit, edited)


def differs(result: Result) -> np.ndarray:
    """(N,) bool: the counterfactual is not the source byte for byte."""
    return np.array([(result.counterfactual[i] != result.source[i]).any() for i in range(len(result))], bool)


def joint_arrays(setup: Setup, editor: JointEditor, goal: Goal) -> dict[str, np.ndarray]:
    """The arrays of one bag (store.schema.SCHEMA); `target` is the class that each instance ended in."""
    bag = setup.bags[goal.bag]
    labels = setup.instances.labels[bag.rows]
    images = setup.source.read(bag.rows)
    edits, z = editor.edit_bag(images, bag.keys.tolist(), labels, setup.instances.frozen[bag.rows], goal.wanted)
    if setup.s.on_fail == "error" and int(z.sum()) != goal.wanted:
        raise UserError(
            f"Bag {bag.name!r} has {int(z.sum())} positives to the checker instead of {goal.wanted}: raise --retries, "
            "--ratio or --scale, or use --on-fail replace (with --force)."
        )
    pieces, places = [], []
    for target in (0, 1):
        here = np.flatnonzero(z == target)
        if len(here):
            ids = [str(i) for i in setup.source.ids[bag.rows[here]]]
            pieces.append(edit_arrays(setup.cast, images[here], ids, labels[here], target, take(edits, here)))
            places.append(here)
    back = np.argsort(np.concatenate(places))
    return {key: np.concatenate([piece[key] for piece in pieces])[back] for key in pieces[0]}


class JointEditor(Editor):
    """Edits a whole bag to a count."""

    s: BagSettings

    def edit_bag(
        self, images: np.ndarray, ids: list[str], labels: np.ndarray, frozen: np.ndarray, k: int
    ) -> tuple[Edits, np.ndarray]:
        """Edit (n, H, W, C) stored images of classes `labels` so that k are positive; `frozen` ones stay.

        Returns:
            The edits, and the class z (n,) that each instance ended in: the checker's where it was edited, else its
            label. z sums to k, unless the checker would not flip enough of them.
        """
        if (own := self.towards(int(k > labels.sum()))) is not self:
            return own.edit_bag(images, ids, labels, frozen, k)
        n, checker, free = len(images), self.cast.checker, np.flatnonzero(~frozen)
        assert checker is not None, "joint mode counts by the checker"
        source_p = self._check(images)
        edits = replace(Edits.none(images, True, [self.s.edit]), accepting=source_p.copy())
        if not len(free):
            return edits, labels.copy()
        wanted = free_count(k, len(free), (labels[frozen] == 1).tolist())
        saved = images.copy()
        saved[free], calls, guided = self._decode_bag(
            images[free], [ids[i] for i in free.tolist()], labels[free], wanted
        )
        p = self._check(saved)
        edits.network_calls[free] += calls
        edits.guide_calls[free] += guided
        edits.ratio[free] = np.inf if self.s.ratio is None else self.s.ratio
        edits.depth[free] = self.s.depth

        other = 1 - labels[free]
        flipped = free[(p[free, other] > 0.5) & (source_p[free, other] <= 0.5)]
        z = labels.copy()
        z[flipped] = 1 - labels[flipped]
        if self.s.on_fail == "keep":
            corrected = np.zeros(n, bool)
        else:
            z, corrected = self._correct(images, ids, labels, frozen, k, z, saved, p, edits)
        changed = z != labels
        if self.s.untouched == "sham":
            changed |= ~frozen & ~corrected & (p[np.arange(n), labels] > 0.5)
        edits.counterfactual[changed] = saved[changed]
        assert edits.accepting is not None
        edits.accepting[changed] = p[changed]
        return edits, z

    def _decode_bag(
        self, images: np.ndarray, ids: list[str], labels: np.ndarray, k: int
    ) -> tuple[np.ndarray, int, int]:
        """The jointly guided images as saved, network calls and guided steps an image."""
        cast, s = self.cast, self.s
        x0 = to_model(images).to(cast.device)
        z = torch.cat([cast.space.encode(some) for some in x0.split(s.batch)])
        source = torch.from_numpy(labels.astype(np.int64)).to(cast.device)
        parts = [slice(i, i + s.batch) for i in range(0, len(images), s.batch)]
        path = join_paths([self.encode(z[part], ids[part], s.depth, source[part]) for part in parts])
        posterior = exact_count(k)
        guidance = Guidance(
            cast.schedule,
            [kind.joint(cast, s, posterior) for kind in self.kinds()],
            s.scale,
            s.ratio,
            torch.zeros(len(images), dtype=torch.int64),
            enough=count_reached(cast.clean_log_prob, k, s.target, s.batch) if s.closed_loop else None,
        )
        mask = self.mask(self.where(images), np.arange(len(images)))
        held = None if mask is None else cast.space.mask(mask)
        found = self.walk(path, ids, guidance if s.scale else None, held, s.batch)
        saved = as_saved(images, x0, only_within(mask, cast.space.saved(x0, z, found.z), x0))[0]
        return saved, path.calls + int(found.network_calls.max()), int(found.guided.max())

    def kinds(self) -> list[Any]:
        """The kinds of guides; UserError for one that knows no bags."""
        for name in self.s.guide_names:
            if GUIDES[name].joint is None:
                raise UserError(f"The guide {name} cannot steer a whole bag: leave it out, or use --mode instance.")
        return [GUIDES[name] for name in self.s.guide_names]

    def _correct(
        self,
        images: np.ndarray,
        ids: list[str],
        labels: np.ndarray,
        frozen: np.ndarray,
        k: int,
        z: np.ndarray,
        saved: np.ndarray,
        p: np.ndarray,
        edits: Edits,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Settle z on k positives and edit, one by one, what is to flip and has not, or not surely.

        `saved`, `p` and `edits` take the new images in. An instance that does not flip gives way to the next.

        Returns:
            z, and (n,) bool which instances were edited again.
        """
        stuck, tried = frozen.copy(), np.zeros(len(labels), bool)
        while True:
            z = settle(z, labels, p[:, 1], k, stuck)
            sure = p[np.arange(len(z)), z] >= self.acceptance.least
            todo = np.flatnonzero((z != labels) & ~sure & ~tried)
            if not len(todo):
                return z, tried
            for target in (0, 1):
                for start in range(0, len(todo), self.s.batch):
                    rows = todo[start : start + self.s.batch]
                    rows = rows[z[rows] == target]
                    if not len(rows):
                        continue
                    again = self.edit(images[rows], [ids[i] for i in rows.tolist()], target)
                    assert again.accepting is not None
                    edits.network_calls[rows] += again.network_calls
                    edits.guide_calls[rows] += again.guide_calls
                    better = again.accepting[:, target] > p[rows, target]
                    kept = rows[better]
                    saved[kept], p[kept] = again.counterfactual[better], again.accepting[better]
                    edits.ratio[kept], edits.depth[kept] = again.ratio[better], again.depth[better]
                    edits.retries[kept] = again.retries[better] + 1
            tried[todo] = True
            lost = todo[p[todo, z[todo]] <= 0.5]
            z[lost] = labels[lost]
            stuck[lost] = True

    def _check(self, images: np.ndarray) -> np.ndarray:
        """The verifier's p(class) of images as saved, (n, 2); the checker's where there is none."""
        assert self.cast.accepting is not None
        return probabilities(self.cast.accepting, to_model(images).to(self.cast.device)).numpy()


def settle(z: np.ndarray, labels: np.ndarray, p: np.ndarray, k: int, stuck: np.ndarray) -> np.ndarray:
    """The assignment (n,) nearest to z with k positives, or as near to k as instances that are not `stuck` allow.

    First the least sure flips the wrong way are taken back, then those flip that are nearest to the border: both by
    the checker's probability of positive, p (n,).
    """
    z = z.copy()
    short = k - int(z.sum())
    if short == 0:
        return z
    goal = 1 if short > 0 else 0
    nearness = p if goal == 1 else 1 - p
    may = (z != goal) & (~stuck | (labels == goal))  # to take a flip back is always possible
    order = np.lexsort((np.arange(len(z)), -nearness, labels != goal))
    z[order[may[order]][: abs(short)]] = goal
    return z


def take(edits: Edits, rows: np.ndarray) -> Edits:
    """Some of the edits."""
    return Edits(
        *(None if array is None else array[rows] for array in vars(edits).values())  # type: ignore[arg-type]
    )
