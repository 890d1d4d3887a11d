"""The edited images of a translate result or of a bag file, in one shape."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cfdiff.errors import UserError
from cfdiff.hdf5 import format_of
from cfdiff.metrics import validity
from cfdiff.roles import ACCEPTING, STEERING, WITNESSES, file_hashes
from cfdiff.store import bag_schema
from cfdiff.store.bags import Bags, open_bags
from cfdiff.store.recall import Recall
from cfdiff.store.result import open_result

Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Run:
    """N edited images; the pixels are read on demand.

    Attributes:
        settings, models: as the file stores them; models is part -> sha256.
        ids, label, target: (N,); groups: (N,) str, or None where the file has fewer than two.
        prob: those of roles.WITNESSES that the run had -> (N, 2 stages, 2 classes).
        read: rows, rising -> source and counterfactual (B, H, W, C) as stored.
        masks: rows -> (B, H, W) where the images were allowed to change; None where anywhere.
        saliency: rows -> (B, H, W) in [0, 1], where the class stands; None where no edit looked.
        quarantined: (N,) bool, the images that no edit of could be saved.
        bags: the open file, where it is a bag file.
        recall: role -> what its model says of real images of the class asked for; empty where the file does not say.
    """

    path: Path
    direction: str
    settings: dict[str, Any]
    models: dict[str, str]
    ids: np.ndarray
    label: np.ndarray
    target: np.ndarray
    groups: np.ndarray | None
    prob: dict[str, np.ndarray]
    shape: tuple[int, int, int]
    dtype: np.dtype
    read: Callable[[np.ndarray], Pair]
    masks: Callable[[np.ndarray], np.ndarray] | None
    quarantined: np.ndarray
    bags: Bags | None = None
    recall: dict[str, Recall] = field(default_factory=dict)
    saliency: Callable[[np.ndarray], np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def steering_hashes(self) -> set[str]:
        """sha256 of the files of all models that steered an edit or accepted it."""
        return set().union(*(file_hashes(self.models.get(role, "")) for role in (*STEERING, *ACCEPTING)))

    @property
    def classes(self) -> tuple[str, str]:
        """Names of the negative and the positive class."""
        negative, positive = self.settings["classes"]
        return negative, positive

    def batches(self, size: int) -> Iterator[np.ndarray]:
        """The rows, `size` at a time; no batch holds two targets, as an edit goes to one class."""
        for target in (0, 1):
            rows = np.flatnonzero(self.target == target)
            yield from (rows[i : i + size] for i in range(0, len(rows), size))

    def p_target(self, who: str) -> np.ndarray:
        """(N, 2 stages) probability of the target class, before and after."""
        return self.prob[who][np.arange(len(self)), :, self.target]

    def flipped(self, who: str) -> np.ndarray:
        """(N,) bool: `who` sees the target class in the image as saved, and an edit it is."""
        return validity.flipped(self.p_target(who)[:, 1]) & ~self.quarantined


@contextmanager
def open_run(path: Path) -> Iterator[Run]:
    """Open a result or a bag file. Raises UserError if it is missing, damaged or neither."""
    if is_bag_file(path):
        with open_bags(path) as bags:
            yield _of_bags(bags)
        return
    with open_result(path) as r:
        everywhere = "mask" not in r

        def read(rows: np.ndarray) -> Pair:
            return r.source[rows], r.counterfactual[rows]

        yield Run(
            path=path,
            direction=r.attrs["direction"],
            settings=r.settings,
            models=r.attrs["models"],
            ids=r["id"][:],
            label=r["label"][:],
            target=r["target"][:],
            groups=_at_least_two(r["group"][:] if "group" in r else None),
            prob={who: r.prob(who) for who in WITNESSES if f"prob/{who}" in r},
            shape=r.source.shape[1:],
            dtype=r.source.dtype,
            read=read,
            masks=None if everywhere else lambda rows: r["mask"][rows],
            quarantined=r.quarantined,
            recall=r.recall,
            saliency=(lambda rows: r["saliency"][rows]) if "saliency" in r else None,
        )


_FOR_GOOD = ExitStack()


def open_run_for_good(path: Path) -> Run:
    """As `open_run`, for as long as the process lives: what a worker does."""
    return _FOR_GOOD.enter_context(open_run(path))


def is_bag_file(path: Path) -> bool:
    """Whether `path` says that it is a bag file; `open_bags` says whether it is a sound one."""
    return path.is_file() and format_of(path) == bag_schema.FORMAT


def _of_bags(bags: Bags) -> Run:
    """The instances that were changed to the other class, each once; shams and replaced failures are left out."""
    settings = bags.settings
    edits, rows = bags.edits()
    if len(rows) == 0:
        raise UserError(
            f"{bags.path.name} has no edited instance, so there is nothing to measure: ask for other mixes."
        )
    instance = bags.read("row/instance")[rows]
    owner = np.searchsorted(bags.read("bag/offset"), instance, side="right") - 1
    picture = bags.read("edit/source")[edits]
    first_source = bags.images("source", picture[:1])

    def read(some: np.ndarray) -> Pair:
        return bags.images("source", picture[some]), bags.images("counterfactual", edits[some])

    return Run(
        path=bags.path,
        direction=f"{len(bags.read('bag/name'))} bags, {settings['mode']} mode",
        settings=settings,
        models=bags.attrs["models"],
        ids=bags.read("instance/id")[instance],
        label=bags.read("instance/label")[instance],
        target=bags.read("edit/target")[edits],
        # A drawn bag mixes patients, so only bags that are groups tell which images belong together.
        groups=_at_least_two(bags.read("bag/name")[owner] if settings.get("bag_size") is None else None),
        prob={who: bags.read(f"prob/{who}")[rows] for who in WITNESSES if f"prob/{who}" in bags},
        shape=first_source.shape[1:],
        dtype=first_source.dtype,
        read=read,
        masks=None,
        quarantined=np.zeros(len(rows), bool),  # such an instance is no edit of a bag
        bags=bags,
    )


def _at_least_two(groups: np.ndarray | None) -> np.ndarray | None:
    return groups if groups is not None and len(np.unique(groups)) > 1 else None
