"""Near the true twin? Edited images against the other image of their pair, which is read from the data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np

from cfdiff.data.pairs import twins
from cfdiff.data.source import Source
from cfdiff.data.values import unit
from cfdiff.errors import UserError
from cfdiff.evaluate.origin import bundled_data, open_beside, rows_of
from cfdiff.evaluate.result import PairSection, TwinsOfGroup
from cfdiff.evaluate.settings import EvaluateSettings
from cfdiff.metrics.columns import Columns, Entry, Figure, entry_of
from cfdiff.metrics.intervals import bootstrap_rows, over
from cfdiff.metrics.pairs import TwinScores, against_twin, error_inside, error_removed, restored_inside
from cfdiff.store.runs import Run

QUESTION = "Near the true twin?"
KIND_KEYS = ("defect", "kind")
"""Columns that say what is wrong in an image; the first that is there is taken."""
LEAST = 5
"""Images of a kind that get figures of their own; rarer kinds are taken together."""
OTHERS = "other kinds"
MASKED = ("restored_inside", "inside_before", "inside_after", "error_best")
"""Values of an image that need masks."""


@dataclass(frozen=True, eq=False)
class Twins:
    """The twins of a run's images.

    Attributes:
        source: the data that they are in.
        rows, twin: (N,) rows of the run's images and of their twins in it; twin is -1 where there is none.
        kinds: (N,) str, "" for none; None where the data does not say.
    """

    source: Source
    rows: np.ndarray
    twin: np.ndarray
    kinds: np.ndarray | None


def find_twins(s: EvaluateSettings, run: Run) -> Twins | None:
    """The twins of the class that each image was edited to; None where nobody asked and the data has none.

    Raises:
        UserError: --pair and there is no data at hand, or no pair in it; or it is other data than the run's.
    """
    spec = None if s.pair is False else s.data or bundled_data(run)
    if spec is None:
        if s.pair:
            raise UserError(f"--pair looks for the twins of {run.path.name} in its data: name that with --data.")
        return None
    source = open_beside(s, run, spec, keep_other=True)
    if source.pairs is None and not s.pair:
        return None
    try:
        other = twins(source)
    except UserError:  # a column of that name which says something else: no matter to who did not ask
        if s.pair:
            raise
        return None
    rows = rows_of(run, source, s.batch_size)
    twin = other[rows]
    twin[source.labels[twin] != run.target] = -1
    if not (twin >= 0).any():
        if s.pair:
            raise UserError(f"No image of {run.path.name} has a twin in {source.name}: --pair needs data with pairs.")
        return None
    return Twins(source, rows, twin, _kinds(source, rows, twin))


def _kinds(source: Source, rows: np.ndarray, twin: np.ndarray) -> np.ndarray | None:
    """(N,) what is wrong in the image, or else in its twin; kinds of fewer than LEAST images are OTHERS."""
    key = next((key for key in KIND_KEYS if key in source.columns), None)
    if key is None:
        return None
    said = source.column(key)
    kinds = np.where(said[rows] != "", said[rows], np.where(twin >= 0, said[twin], ""))
    counts = Counter(kinds[twin >= 0].tolist())
    return np.array([OTHERS if kind and counts[kind] < LEAST else kind for kind in kinds.tolist()])


def near_twins(
    run: Run, found: Twins, columns: Columns, values: dict[str, np.ndarray], batch: int, done: Callable[[int], None]
) -> PairSection:
    """The figures over all images, by kind and by group; the values of each image go to `values` as pair/NAME."""
    scores, inside = _measure(run, found, batch, done)
    figures = {
        "error_before": columns.mean("mean |source - twin|", scores.error_before, within=(0, 1)),
        "error_after": columns.mean("mean |counterfactual - twin|", scores.error_after, "lower", within=(0, 1)),
        **_figures(scores, columns, "", ""),
    }
    if inside is not None:
        figures |= _inside(scores, inside, columns)
    for kind in [] if found.kinds is None else sorted(set(found.kinds.tolist()) - {""}, key=lambda k: (k == OTHERS, k)):
        own = {name: np.where(found.kinds == kind, v, np.nan) for name, v in vars(scores).items()}
        figures |= _figures(TwinScores(**own), columns, f"/{kind}", f", {kind}")
    values |= {f"pair/{name}": v for name, v in {**vars(scores), **(inside or {})}.items()}
    return PairSection(QUESTION, figures, pairs=int((found.twin >= 0).sum()), by_group=_by_group(run, scores))


def _measure(
    run: Run, found: Twins, batch: int, done: Callable[[int], None]
) -> tuple[TwinScores, dict[str, np.ndarray] | None]:
    """(N,) of everything, NaN without a twin; and what masks add, where the data has them."""
    every = {f.name: np.full(len(run), np.nan) for f in fields(TwinScores)}
    masked = {name: np.full(len(run), np.nan) for name in MASKED}
    have = np.flatnonzero(found.twin >= 0)
    marked = False
    for start in range(0, len(have), batch):
        here = have[start : start + batch]
        source, cf = (unit(stage) for stage in run.read(here))
        twin = unit(found.source.read(found.twin[here]))
        for name, scores in vars(against_twin(source, cf, twin)).items():
            every[name][here] = scores
        masks, others = (found.source.read_masks(rows[here]) for rows in (found.rows, found.twin))
        if masks is not None and others is not None:
            lesion = masks | others  # that of the sound image is empty
            marked = marked or bool(lesion.any())
            masked["restored_inside"][here] = restored_inside(source, cf, twin, lesion)
            masked["inside_before"][here] = error_inside(source, twin, lesion)
            masked["inside_after"][here] = error_inside(cf, twin, lesion)
            masked["error_best"][here] = error_inside(source, twin, ~lesion)
        done(len(here))
    return TwinScores(**every), masked if marked else None


def _figures(scores: TwinScores, columns: Columns, key: str, of: str) -> dict[str, Figure]:
    """The figures of some images, whose names end in `key` and labels in `of`."""
    return {
        f"error_removed{key}": _removed(f"error removed{of}", scores.error_before, scores.error_after, columns),
        f"restored{key}": columns.mean(
            f"pixels of the true difference restored{of}", scores.restored, "higher", "share", (0, 1)
        ),
        f"sound_changed{key}": columns.mean(
            f"other pixels changed by more than 16/255{of}", scores.sound_changed, "lower", "share", (0, 1)
        ),
        f"twin_dice{key}": columns.mean(
            f"Dice: changed against the true difference{of}", scores.dice, "higher", within=(0, 1)
        ),
    }


def _inside(scores: TwinScores, inside: dict[str, np.ndarray], columns: Columns) -> dict[str, Figure]:
    """What masks tell apart: the lesion, and how else two photographs of one place differ."""
    label = "error removed by a perfect edit inside the masks"
    best = _removed(label, scores.error_before, inside["error_best"], columns, None)
    removed = _removed("error removed, inside the masks", inside["inside_before"], inside["inside_after"], columns)
    restored = columns.mean(
        "pixels of the true difference restored, inside the masks", inside["restored_inside"], "higher", "share", (0, 1)
    )
    return {"error_removed_best": best, "error_removed_inside": removed, "restored_inside": restored}


def _removed(
    label: str, before: np.ndarray, after: np.ndarray, columns: Columns, better: str | None = "higher"
) -> Figure:
    """A ratio of sums, so bootstrapped."""

    def entry(rows: np.ndarray) -> Entry:
        rows = rows[~np.isnan(before[rows])]
        if not len(rows):
            return entry_of(None, None, 0, None)
        groups = columns.groups_of(rows)
        interval = bootstrap_rows(
            len(rows),
            groups,
            lambda drawn: error_removed(before[rows[drawn]], after[rows[drawn]]),
            columns.n_boot,
            columns.seed,
            (-np.inf, 1),
        )
        value = error_removed(before[rows], after[rows])
        return entry_of(value, interval, len(rows), f"bootstrap over {over(groups)}")

    return columns.of_rows(label, entry, better)


def _by_group(run: Run, scores: TwinScores) -> dict[str, TwinsOfGroup]:
    """Group -> its figures; empty without groups."""
    found = {}
    for name in [] if run.groups is None else np.unique(run.groups).tolist():
        rows = (run.groups == name) & ~np.isnan(scores.error_before)
        if rows.any():
            before, after = scores.error_before[rows], scores.error_after[rows]
            removed = entry_of(error_removed(before, after), None, 0, None).value
            found[str(name)] = TwinsOfGroup(int(rows.sum()), float(before.mean()), float(after.mean()), removed)
    return found
