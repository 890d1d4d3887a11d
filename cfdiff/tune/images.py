"""The images of a search: a half to tune on, the other half held out for the figures that one may quote."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cfdiff.data.open import open_told
from cfdiff.data.source import Source, class_index, random_subset
from cfdiff.data.values import mean_change, to_model
from cfdiff.edit.cast import Cast, probabilities
from cfdiff.edit.editor import Editor
from cfdiff.errors import UserError
from cfdiff.tune.settings import TuneSettings
from cfdiff.tune.trial import Outcome

WORDS = ("negative", "positive")


@dataclass(frozen=True, eq=False)
class Pictures:
    """Images of one class (n, H, W, C) as read, in the order in which a search takes them, and the class asked for.

    groups (n,): of whom (a patient, a slide) each image is; None where the data does not say.
    """

    images: np.ndarray
    ids: list[str]
    target: int
    groups: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class Halves:
    """By direction ("negative", "positive": the class started from).

    Attributes:
        apart: "groups" where no patient (slide, ...) is in both halves, else "images".
    """

    whole: Source
    tuning: dict[str, Pictures]
    held_out: dict[str, Pictures]
    apart: Literal["groups", "images"]


def open_halves(s: TuneSettings, rungs: Sequence[int]) -> Halves:
    """Open the split and draw both halves, spread over the groups; each depends on the seed and the ids only.

    Raises:
        UserError: there is no such split, no such class, or fewer than two images of a class.
    """
    whole = open_told(s)
    known = [] if whole.splits is None else [str(name) for name in np.unique(whole.splits)]
    if s.split != "all":
        if missing := [name for name in s.split.split("+") if name not in known]:
            has = f"it has {', '.join(known)}" if known else "it has no splits"
            raise UserError(
                f"{whole.name} has no split {missing[0]!r} to tune on ({has}): name another with --split, or take "
                "--split all if none of these images is for testing."
            )
        whole = whole.narrow(s.split)
    starts = (0, 1) if s.from_ == "both" else (class_index(s.from_, whole, "--from"),)
    for start in starts:
        if (n := int((whole.labels == start).sum())) < 2:
            raise UserError(
                f"Split {s.split!r} of {whole.name} has {n} images of class {whole.classes[start]!r}, and tuning needs "
                "two at least: choose another --split, or --from the other class."
            )
    first, apart = _first_half(whole, starts, s.seed)
    sides = [
        {WORDS[start]: _pictures(whole.select(np.flatnonzero(side & (whole.labels == start))), rungs, s.seed, 1 - start)
         for start in starts}
        for side in (first, ~first)
    ]  # fmt: skip
    return Halves(whole, sides[0], sides[1], apart)


def _first_half(source: Source, starts: Sequence[int], seed: int) -> tuple[np.ndarray, Literal["groups", "images"]]:
    """(N,) bool. Half of the groups, where that leaves images of all classes on both sides; else half of the images."""
    if source.groups is not None:
        names = source.groups.astype(str)
        drawn = sorted(np.unique(names).tolist(), key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
        side = np.isin(names, drawn[: (len(drawn) + 1) // 2])
        if all(np.any(source.labels[half] == start) for half in (side, ~side) for start in starts):
            return side, "groups"
    side = np.zeros(len(source), bool)
    for start in starts:
        rows = np.flatnonzero(source.labels == start)
        side[np.isin(source.ids, random_subset(source.select(rows), len(rows) // 2, seed).ids)] = True
    return side, "images"


def _pictures(source: Source, rungs: Sequence[int], seed: int, target: int) -> Pictures:
    """The first `rungs[k]` images are spread over the groups for each k."""
    place = {image: row for row, image in enumerate(source.ids.tolist())}
    rows: dict[int, None] = {}
    for rung in rungs:
        rows.update(dict.fromkeys(place[image] for image in random_subset(source, rung, seed).ids.tolist()))
    order = np.array(list(rows))
    groups = None if source.groups is None else source.groups[order]
    return Pictures(source.read(order), [str(image) for image in source.ids[order]], target, groups)


def edited(editor: Editor, pictures: Pictures, start: int, stop: int) -> Iterator[tuple[Outcome, np.ndarray]]:
    """Edit a range of the images batch by batch: what came out, and the edits as they would be saved."""
    cast, target = editor.cast, pictures.target
    stop = min(stop, len(pictures))
    for a in range(start, stop, editor.s.batch):
        b = min(a + editor.s.batch, stop)
        images = pictures.images[a:b]
        edits = editor.edit(images, pictures.ids[a:b], target)
        sure = editor.acceptance.asked(edits.counterfactual, pictures.ids[a:b], target)[1]
        checker: tuple[float, ...] = ()
        if cast.seconding is not None:
            checker = tuple(probability(cast, "checker", edits.counterfactual, target).tolist())
        yield (
            Outcome(
                tuple(mean_change(images, edits.counterfactual).tolist()),
                tuple(sure.tolist()),
                tuple(edits.network_calls.tolist()),
                checker,
                () if pictures.groups is None else tuple(map(str, pictures.groups[a:b])),
            ),
            edits.counterfactual,
        )


def probability(cast: Cast, role: str, saved: np.ndarray, target: int) -> np.ndarray:
    """(n,) what the cast's model of a role gives saved images (n, H, W, C) of the class `target`."""
    return probabilities(getattr(cast, role), to_model(saved).to(cast.device)).numpy()[:, target]
