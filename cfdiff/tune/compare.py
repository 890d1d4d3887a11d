"""The start beside the choice: on the images that were searched on, and on those that the search did not see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from cfdiff.data.distinct import distinct
from cfdiff.data.splitting import TEST, spelled
from cfdiff.edit.cast import Cast
from cfdiff.edit.editor import Editor
from cfdiff.metrics.intervals import mean_interval, over, share_interval
from cfdiff.progress import Progress
from cfdiff.tune.budget import Budget
from cfdiff.tune.images import Pictures, edited, probability
from cfdiff.tune.result import DecidedBy, Measured, Which
from cfdiff.tune.settings import TuneSettings
from cfdiff.tune.trial import Outcome, Trial

JUDGED = 0.5
"""What the judge must give an image to have flipped, as everywhere else."""


def on_tuning(start: Trial, best: Trial, margin: float, who: DecidedBy) -> list[Measured]:
    """What the search knows of both."""
    both: tuple[tuple[Which, Trial], ...] = (("start", start), ("chosen", best))
    return [
        measured("tuning", name, direction, outcome, margin, who)
        for name, trial in both
        for direction, outcome in trial.outcome.items()
    ]


def on_held_out(
    s: TuneSettings,
    cast: Cast,
    held_out: Mapping[str, Pictures],
    start: Trial,
    best: Trial,
    images: int,
    who: DecidedBy,
    budget: Budget,
    progress: Progress,
) -> list[Measured]:
    """Both settings on the same images that the search did not see; of the choice also the difference, image by image.

    Both take turns batch by batch, so that where the time ends, both have seen as much.
    """
    trials: dict[Which, Trial] = {"start": start} if best is start else {"start": start, "chosen": best}
    editors = {name: Editor(cast, s.model_copy(update=trial.values)) for name, trial in trials.items()}
    seen: dict[tuple[Which, str], Outcome] = {(name, d): Outcome() for name in editors for d in held_out}
    judged: dict[tuple[Which, str], list[np.ndarray]] = {key: [] for key in seen}
    most = min(images, max(map(len, held_out.values())))
    for a in range(0, most, s.batch_size):
        if a and budget.left <= 0:
            break
        progress("comparing on held-out images", a, most)
        for direction, pictures in held_out.items():
            for name, editor in editors.items():
                for more, saved in edited(editor, pictures, a, min(a + s.batch_size, most)):
                    seen[name, direction] += more
                    if cast.judge is not None:
                        judged[name, direction].append(probability(cast, "judge", saved, pictures.target))
    rows = []
    for (name, direction), outcome in seen.items():
        row = measured("held-out", name, direction, outcome, s.margin, who)
        row = _with_judge(row, judged[name, direction], outcome)
        rows.append(row if name == "start" else _against(row, outcome, seen["start", direction]))
    if best is start:  # which are known
        rows += [replace(row, settings="chosen") for row in rows]
    return rows


def measured(
    images: Literal["tuning", "held-out"],
    settings: Which,
    direction: str,
    outcome: Outcome,
    margin: float,
    who: DecidedBy,
) -> Measured:
    """What became of the images of one direction; intervals are over groups, if any."""
    groups = outcome.groups or None
    by = over(groups)
    change, hits = np.array(outcome.change), outcome.hits(margin)
    row = Measured(
        images=images,
        settings=settings,
        from_=direction,
        n=len(outcome),
        groups=len(np.unique(outcome.groups)) if by == "groups" else None,
        intervals_over=by,
        decided_by=who,
        flipped=float(hits.mean()),
        flipped_95=share_interval(hits, groups),
        mean_abs_difference=float(change.mean()),
        mean_abs_difference_95=mean_interval(change, groups, (0, 1)),
        network_calls=float(np.mean(outcome.calls)),
    )
    if not outcome.checker:
        return row
    checked = np.array(outcome.checker) >= margin
    return replace(row, flipped_checker=float(checked.mean()), flipped_checker_95=share_interval(checked, groups))


def _with_judge(row: Measured, judged: Sequence[np.ndarray], outcome: Outcome) -> Measured:
    if not judged:
        return row
    hits = np.concatenate(judged) > JUDGED
    between = share_interval(hits, outcome.groups or None)
    return replace(row, flipped_judge=float(hits.mean()), flipped_judge_95=between)


def _against(row: Measured, outcome: Outcome, start: Outcome) -> Measured:
    less = np.array(outcome.change) - np.array(start.change)
    between = mean_interval(less, outcome.groups or None, (-1, 1))
    return replace(row, change_against_start=float(less.mean()), change_against_start_95=between)


def warnings(splits: np.ndarray | None, comparison: Sequence[Measured]) -> list[str]:
    """What to know before one uses the choice; `splits` (N,) are those of the images that were asked for."""
    found = []
    if splits is not None and spelled(TEST, distinct(splits.astype(str))[0].tolist()) is not None:
        found.append("The settings are fitted to the test split: no figure on its images is an honest one any more.")
    held = {(row.settings, row.from_): row for row in comparison if row.images == "held-out"}
    for (settings, direction), row in held.items():
        start = held["start", direction]
        if settings == "start" or row.flipped_judge is None or start.flipped_judge_95 is None:
            continue
        if row.flipped_judge < start.flipped_judge_95[0]:
            found.append(
                f"From {direction}, the judge sees {row.flipped_judge:.1%} of the held-out images flipped, and "
                f"{start.flipped_judge:.1%} with the starting settings: the edits please the {row.decided_by} alone, "
                "so raise --margin."
            )
    return found
