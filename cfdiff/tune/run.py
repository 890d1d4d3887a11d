"""cfdiff tune: the smallest change that flips enough images, found on validation images with no masks.

The checker decides in the search; the judge is asked once at the end, on images that the search did not see, so that
its verdict stays an independent one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from optuna.distributions import BaseDistribution

from cfdiff.data.values import to_model
from cfdiff.edit.editor import Editor
from cfdiff.edit.roles import Cast, load_cast, probabilities
from cfdiff.errors import UserError
from cfdiff.figures.panel import FORMATS
from cfdiff.figures.tune import trade_off
from cfdiff.metrics.intervals import mean_interval, over, share_interval
from cfdiff.progress import Progress, silent
from cfdiff.store import check_output
from cfdiff.store.output import make_folder
from cfdiff.tune.config import changed, write_config
from cfdiff.tune.images import Halves, Pictures, edited, open_halves
from cfdiff.tune.log import TrialLog
from cfdiff.tune.propose import propose, space
from cfdiff.tune.result import Measured, TuneResult
from cfdiff.tune.settings import TUNE_PLACES, TuneSettings
from cfdiff.tune.trial import Goal, Outcome, Trial, Values, choose, leader, missed, pareto, run_trial


def tune(s: TuneSettings, progress: Progress = silent) -> TuneResult:
    """Run (or continue) a search, compare its choice with the start on held-out images, write config and plot.

    Raises:
        UserError: data, models, settings or outputs are not usable; said before anything is computed.
    """
    out = s.out or Path("runs") / "tuned.toml"
    if s.out is None:
        make_folder(out.parent)
    check_output(out, s.force)
    plot = s.plot or out.with_suffix(".png")
    _check_plot(plot, s.force)
    rungs = rounds(s.images)
    halves = open_halves(s, rungs)
    cast = load_cast(s, s.data, halves.whole)
    _check_margin(s, cast)
    Editor(cast, s)  # an impossible depth or step count is said before any computation
    log = TrialLog(out, _identity(s, halves, cast))
    goal = Goal(s.flip, s.margin, s.max_calls)
    trials = search(s, cast, halves.tuning, rungs, goal, log, progress)
    best = choose(trials, goal)
    comparison = _on_tuning(halves, trials[0], best, s.margin) + _on_held_out(
        s, cast, halves, trials[0], best, progress
    )
    result = TuneResult(
        config=out,
        plot=plot,
        data=halves.whole.name,
        data_sha256=halves.whole.fingerprint,
        models=cast.hashes,
        goal=goal,
        reached=missed(best, goal) == 0,
        trials=len(trials),
        complete=sum(trial.state == "complete" for trial in trials),
        start=trials[0].values,
        chosen=best.values,
        held_out_by=halves.apart,
        comparison=tuple(comparison),
        warnings=tuple(_warnings(halves.whole.splits, comparison)),
    )
    _plot(plot, s, trials, best)
    write_config(out, s, result)
    return result


def rounds(images: int) -> list[int]:
    """How many images a trial has seen after each round: an eighth, a quarter, a half, all."""
    return sorted({max(1, images // part) for part in (8, 4, 2, 1)})


def search(
    s: TuneSettings,
    cast: Cast,
    tuning: dict[str, Pictures],
    rungs: list[int],
    goal: Goal,
    log: TrialLog,
    progress: Progress = silent,
) -> list[Trial]:
    """All trials, the starting settings first; those in the log are not repeated. The judge is out of reach."""
    blind = replace(cast, judge=None)
    ranges = space(s, cast.schedule)
    stop_at = None if s.max_minutes is None else time.monotonic() + 60 * s.max_minutes

    def measure(values: Values, start: int, stop: int) -> dict[str, Outcome]:
        editor = Editor(blind, _with(s, values))
        parts = {name: [o for o, _ in edited(editor, p, start, stop)] for name, p in tuning.items()}
        return {name: sum(outcomes, Outcome()) for name, outcomes in parts.items()}

    trials = log.load(s.force)[: s.trials]
    while len(trials) < s.trials and not (trials and stop_at is not None and time.monotonic() > stop_at):
        progress("trying", len(trials), s.trials)
        trials.append(_next(s, trials, ranges, measure, rungs, goal))
        log.save(trials)
    return trials


def _next(
    s: TuneSettings,
    trials: list[Trial],
    ranges: dict[str, BaseDistribution],
    measure: Callable[[Values, int, int], dict[str, Outcome]],
    rungs: list[int],
    goal: Goal,
) -> Trial:
    """The trial after `trials`; settings that come again are not tried again."""
    if not trials:
        start: Values = {str(name): getattr(s, name) for name in s.tune}
        return run_trial(0, start, measure, rungs, goal, None)
    values = propose(trials, ranges, goal, s.seed)
    same = [trial for trial in trials if trial.values == values]
    if same:
        return replace(same[0], number=len(trials))
    return run_trial(len(trials), values, measure, rungs, goal, leader(trials, goal))


def _with(s: TuneSettings, values: Values) -> TuneSettings:
    return s.model_copy(update=values)


def _on_tuning(halves: Halves, start: Trial, best: Trial, margin: float) -> list[Measured]:
    return [
        _measured("tuning", name, direction, outcome, margin, halves.tuning[direction].groups)
        for name, trial in _both(start, best)
        for direction, outcome in trial.outcome.items()
    ]


def _on_held_out(
    s: TuneSettings, cast: Cast, halves: Halves, start: Trial, best: Trial, progress: Progress
) -> list[Measured]:
    """Both settings on images that the search did not see; of the chosen ones also the difference, image by image."""
    rows: list[Measured] = []
    before: dict[str, Outcome] = {}
    for name, trial in _both(start, best):
        if name == "chosen" and best is start:  # which are known
            rows += [replace(row, settings=name) for row in rows]
            break
        editor = Editor(cast, _with(s, trial.values))
        for direction, pictures in halves.held_out.items():
            progress("comparing on held-out images", len(rows), 2 * len(halves.held_out))
            outcome, judged = _judged(editor, pictures)
            row = _measured("held-out", name, direction, outcome, s.margin, pictures.groups)
            if cast.judge is not None:
                hits = judged > 0.5
                row = replace(
                    row, flipped_judge=float(hits.mean()), flipped_judge_95=share_interval(hits, pictures.groups)
                )
            if direction in before:
                less = np.array(outcome.change) - np.array(before[direction].change)
                between = mean_interval(less, pictures.groups, (-1, 1))
                row = replace(row, change_against_start=float(less.mean()), change_against_start_95=between)
            before[direction] = outcome
            rows.append(row)
    return rows


def _both(start: Trial, best: Trial) -> tuple[tuple[Literal["start", "chosen"], Trial], ...]:
    return ("start", start), ("chosen", best)


def _judged(editor: Editor, pictures: Pictures) -> tuple[Outcome, np.ndarray]:
    """What became of all images, and the judge's probability of the target, (n,); empty where there is no judge."""
    cast, outcome, judged = editor.cast, Outcome(), []
    for more, saved in edited(editor, pictures, 0, len(pictures)):
        outcome += more
        if cast.judge is not None:
            judged.append(probabilities(cast.judge, to_model(saved).to(cast.device)).numpy()[:, pictures.target])
    return outcome, np.concatenate(judged or [np.zeros(0)])


def _measured(
    images: Literal["tuning", "held-out"],
    settings: Literal["start", "chosen"],
    direction: str,
    outcome: Outcome,
    margin: float,
    of_all: np.ndarray | None,
) -> Measured:
    """What became of the first images, whose groups are the first of `of_all`; intervals are over groups, if any."""
    groups = None if of_all is None else of_all[: len(outcome)]
    by = over(groups)
    change, hits = np.array(outcome.change), np.array(outcome.checker) >= margin
    return Measured(
        images=images,
        settings=settings,
        from_=direction,
        n=len(outcome),
        groups=len(np.unique(groups)) if groups is not None and by == "groups" else None,
        intervals_over=by,
        flipped_checker=float(hits.mean()),
        flipped_checker_95=share_interval(hits, groups),
        mean_abs_difference=float(change.mean()),
        mean_abs_difference_95=mean_interval(change, groups, (0, 1)),
        network_calls=float(np.mean(outcome.calls)),
    )


def _warnings(splits: np.ndarray | None, comparison: Sequence[Measured]) -> list[str]:
    """What to know before one uses the choice; `splits` (N,) are those of the images that were asked for."""
    found = []
    if splits is not None and "test" in splits.astype(str):
        found.append("The settings are fitted to the test split: no figure on its images is an honest one any more.")
    held = {(row.settings, row.from_): row for row in comparison if row.images == "held-out"}
    for (settings, direction), row in held.items():
        start = held["start", direction]
        if settings == "start" or row.flipped_judge is None or start.flipped_judge_95 is None:
            continue
        if row.flipped_judge < start.flipped_judge_95[0]:
            found.append(
                f"From {direction}, the judge sees {row.flipped_judge:.1%} of the held-out images flipped, and "
                f"{start.flipped_judge:.1%} with the starting settings: the edits please the checker alone, so "
                "raise --margin."
            )
    return found


def _plot(out: Path, s: TuneSettings, trials: list[Trial], best: Trial) -> None:
    flip = np.array([trial.flip(s.margin) for trial in trials])
    change = np.array([trial.change for trial in trials])
    complete = np.array([trial.state == "complete" for trial in trials])
    all_seen = np.flatnonzero(complete)
    trade_off(
        flip,
        change,
        np.array([trial.values.get("depth", s.depth) for trial in trials]),
        np.array([trial.calls for trial in trials]),
        complete,
        front=all_seen[pareto(flip[complete], change[complete])],
        chosen=best.number,
        goal=s.flip,
        start_name=start_name(s),
        out=out,
    )


def start_name(s: TuneSettings) -> str:
    """What the starting settings are called: "default" where they all are, the tuned ones and the others."""
    return "given" if changed(s) else "default"


def _identity(s: TuneSettings, halves: Halves, cast: Cast) -> dict[str, Any]:
    """All that the figures of the trials depend on, without places."""
    return {
        **s.model_dump(mode="json", exclude=TUNE_PLACES, by_alias=True),
        "data": halves.whole.name,
        "data_sha256": halves.whole.fingerprint,
        "models": {part: digest for part, digest in cast.hashes.items() if part != "judge"},
    }


def _check_margin(s: TuneSettings, cast: Cast) -> None:
    if cast.checker is None:
        raise UserError("A search needs a checker, which decides what has flipped: name one with --checker.")
    enough = min(s.accept, s.target)
    if s.margin > enough and not {"accept", "target"} & set(s.tune):
        raise UserError(
            f"Edits end where the checker gives {enough:g} (--accept, at most --target), so few would reach --margin "
            f"{s.margin:g}: raise both to it, or lower --margin."
        )


def _check_plot(plot: Path, force: bool) -> None:
    if plot.suffix.lower() not in FORMATS:
        raise UserError(f"The plot {plot.name!r} should end in one of {', '.join(FORMATS)}.")
    if plot.is_file() and not force:
        raise UserError(f"{plot} exists already: choose another --plot, or replace it with --force.")
    check_output(plot, force=True)
