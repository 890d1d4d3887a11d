"""cfdiff tune: the smallest change that flips enough images, found on validation images with no masks.

The verifier decides in the search, or without one the checker; the judge is asked once at the end, on images that the
search did not see, so that its verdict stays an independent one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution

from cfdiff.edit.cast import Cast
from cfdiff.edit.editor import Editor
from cfdiff.edit.recipe import NAME, TOWARDS
from cfdiff.edit.roles import load_cast
from cfdiff.errors import UserError
from cfdiff.figures.panel import FORMATS
from cfdiff.figures.tune import trade_off
from cfdiff.metrics.intervals import share_interval
from cfdiff.progress import Progress, silent
from cfdiff.store import check_output
from cfdiff.store.output import make_folder
from cfdiff.tune.budget import Budget, OutOfTime
from cfdiff.tune.choice import choose, complete, front, leader
from cfdiff.tune.compare import on_held_out, on_tuning, warnings
from cfdiff.tune.config import changed, check_recipe, started_from, write_config
from cfdiff.tune.images import Halves, edited, open_halves
from cfdiff.tune.log import TrialLog
from cfdiff.tune.propose import propose
from cfdiff.tune.result import DecidedBy, Measured, Member, TuneResult
from cfdiff.tune.settings import TUNE_PLACES, TUNED, TuneSettings
from cfdiff.tune.space import CHEAP, known, settle, space
from cfdiff.tune.trial import Goal, Outcome, Trial, Values, missed, run_trial


def tune(s: TuneSettings, progress: Progress = silent) -> TuneResult:
    """Run (or continue) a search, compare its choice with the start on held-out images, write config and plot.

    With `max_minutes` all of it ends then, within a batch of images: a slow machine tries fewer settings, on fewer
    images, and compares fewer. With `pick` nothing is tried: a member of the front of the search so far is written.

    Raises:
        UserError: data, models, settings or outputs are not usable; said before anything is computed.
    """
    budget = Budget(s.max_minutes)
    out = s.out or Path("runs") / "tuned.toml"
    if s.out is None:
        make_folder(out.parent)
    check_output(out, s.force)
    plot = s.plot or out.with_suffix(".png")
    _check_plot(plot, s.force)
    rounds = rounds_of(s.images)
    halves = open_halves(s, rounds)
    cast = load_cast(s, s.data, halves.whole)
    if cast.device.type != "cpu":  # a few images take as long as a batch, and the first of all far longer
        rounds = [n for n in rounds if 2 * n >= s.images]
    who = _check_margin(s, cast)
    check_recipe(out, s, halves.tuning)
    Editor(cast, s)  # an impossible depth or step count is said before any computation
    ranges = space(s, cast)
    log = TrialLog(out, _identity(s, halves, cast))
    goal = Goal(s.flip, s.margin, s.max_calls)
    if s.pick is None:
        trials = search(s, cast, halves, rounds, ranges, goal, log, budget, progress)
        best = choose(trials, goal)
        images = budget.compared(trials[0].images)
        held_out = on_held_out(s, cast, halves.held_out, trials[0], best, images, who, budget, progress)
    else:
        trials = log.load(force=False)
        best, held_out = _picked(s.pick, trials, goal, log.path), []
    comparison = on_tuning(trials[0], best, s.margin, who) + held_out
    result = TuneResult(
        config=out,
        plot=plot,
        data=halves.whole.name,
        data_sha256=halves.whole.fingerprint,
        models=cast.hashes,
        decided_by=who,
        goal=goal,
        reached=missed(best, goal) == 0,
        trials=len(trials),
        complete=len(complete(trials)),
        started_from=started_from(s),
        start=trials[0].values,
        chosen=best.values,
        trial=best.number,
        held={name: value for name, value in changed(s, out).items() if name not in best.values},
        front=tuple(members(trials, goal)),
        held_out_by=halves.apart,
        comparison=tuple(comparison),
        picked=s.pick,
        warnings=(*_warnings(s, halves, ranges, trials, comparison), *_overruled(out)),
        pace=budget.pace,
    )
    _plot(plot, result, trials)
    write_config(out, s, result)
    return result


def rounds_of(images: int) -> list[int]:
    """How many images a trial has seen after each round: an eighth, a quarter, a half, all."""
    return sorted({max(1, images // part) for part in (8, 4, 2, 1)})


def search(
    s: TuneSettings,
    cast: Cast,
    halves: Halves,
    rounds: Sequence[int],
    ranges: dict[str, BaseDistribution],
    goal: Goal,
    log: TrialLog,
    budget: Budget,
    progress: Progress = silent,
) -> list[Trial]:
    """All trials, the starting settings first; those in the log are not repeated. The judge is out of reach."""
    blind = replace(cast, judge=None)
    first = known(s, ranges, cast)

    def measure(values: Values, start: int, stop: int) -> dict[str, Outcome]:
        editor = Editor(blind, s.model_copy(update=values))
        parts = {name: budget.timed(edited(editor, p, start, stop)) for name, p in halves.tuning.items()}
        return {name: sum((outcome for outcome, _ in batches), Outcome()) for name, batches in parts.items()}

    trials = log.load(s.force)[: s.trials]
    if not trials:
        progress("trying", 0, s.trials)
        trials.append(run_trial(0, first[0], measure, budget.rounds(rounds), goal, None))
        log.save(trials)
    rounds = _enough(rounds, trials[0].images)
    compared = budget.compared(rounds[-1])
    held_out = sum(min(len(pictures), compared) for pictures in halves.held_out.values())
    while len(trials) < s.trials:
        budget.keep(held_out * (trials[0].calls + leader(trials, goal).calls))
        if budget.out:
            break
        progress("trying", len(trials), s.trials)
        try:
            trials.append(_next(s, trials, first, ranges, measure, rounds, goal))
        except OutOfTime:
            break
        log.save(trials)
    return trials


def _next(
    s: TuneSettings,
    trials: list[Trial],
    first: Sequence[Values],
    ranges: dict[str, BaseDistribution],
    measure: Callable[[Values, int, int], dict[str, Outcome]],
    rounds: Sequence[int],
    goal: Goal,
) -> Trial:
    """The trial after `trials`; settings that come again are not tried again."""
    number = len(trials)
    values = first[number] if number < len(first) else settle(propose(trials, ranges, goal, s.seed), s)
    same = [trial for trial in trials if trial.values == values]
    if same:
        return replace(same[0], number=number)
    # The cheap one sees all images whatever it does, so that the front says what its few calls cost.
    cheap = number < len(first) and values.items() >= CHEAP.items()
    return run_trial(number, values, measure, rounds, goal, None if cheap else leader(trials, goal))


def members(trials: Sequence[Trial], goal: Goal) -> list[Member]:
    """The Pareto front with its numbers."""
    found = []
    for k, trial in enumerate(front(trials, goal.margin), 1):
        worse = min(trial.outcome.values(), key=lambda outcome: float(outcome.hits(goal.margin).mean()))
        found.append(
            Member(
                k=k,
                trial=trial.number,
                values=trial.values,
                flipped=trial.flip(goal.margin),
                flipped_95=share_interval(worse.hits(goal.margin), worse.groups or None),
                change=trial.change,
                calls=trial.calls,
                price=trial.price,
                reached=missed(trial, goal) == 0,
            )
        )
    return found


def _picked(k: int, trials: Sequence[Trial], goal: Goal, log: Path) -> Trial:
    if not trials:
        raise UserError(f"There is no search to pick from, for there is no {log}: leave --pick out first.")
    found = front(trials, goal.margin)
    if k > len(found):
        raise UserError(f"The Pareto front of {log.name} has {len(found)} members: --pick one of 1 to {len(found)}.")
    return found[k - 1]


def _enough(rounds: Sequence[int], images: int) -> list[int]:
    """The rounds that it takes to see as many images as the start has seen."""
    return [*(r for r in rounds if r < images), images]


def _warnings(
    s: TuneSettings,
    halves: Halves,
    ranges: dict[str, BaseDistribution],
    trials: Sequence[Trial],
    comparison: Sequence[Measured],
) -> list[str]:
    found = warnings(halves.whole.splits, comparison)
    if s.tune != TUNED and (left_out := [name for name in s.tune if name not in ranges]):
        found.append(f"Not searched, for these models and settings leave no choice for it: {', '.join(left_out)}.")
    asked = min(s.images, max(map(len, halves.tuning.values())))
    if trials[0].images < asked:
        found.append(f"The time was enough for {trials[0].images} of {asked} images a direction.")
    if s.pick is not None:
        found.append(
            "A member that is picked is not tried on held-out images, and on the tuning ones the best of many trials "
            "looks better than it is: evaluate a run of it on images of its own."
        )
    return found


def _overruled(out: Path) -> list[str]:
    above = [name for name in TOWARDS.values() if out.name == NAME and out.with_name(name).is_file()]
    if not above:
        return []
    return [
        f"{' and '.join(above)} beside {NAME} stand above it, so that what was found here holds only where they say "
        "nothing: search them anew, each with its --from, or remove them."
    ]


def _plot(out: Path, result: TuneResult, trials: Sequence[Trial]) -> None:
    trade_off(
        np.array([trial.flip(result.goal.margin) for trial in trials]),
        np.array([trial.change for trial in trials]),
        np.array([trial.calls for trial in trials]),
        np.array([trial.state == "complete" for trial in trials]),
        front=np.array([member.trial for member in result.front]),
        chosen=result.trial,
        goal=result.goal.flip,
        start_name=result.started_from,
        decided_by=result.decided_by,
        out=out,
    )


def _identity(s: TuneSettings, halves: Halves, cast: Cast) -> dict[str, Any]:
    """All that the figures of the trials depend on, without places."""
    return {
        **s.model_dump(mode="json", exclude=TUNE_PLACES, by_alias=True),
        "data": halves.whole.name,
        "data_sha256": halves.whole.fingerprint,
        "models": {part: digest for part, digest in cast.hashes.items() if part != "judge"},
    }


def _check_margin(s: TuneSettings, cast: Cast) -> DecidedBy:
    """Who decides, and that edits do not end before it is convinced."""
    if cast.accepting is None:
        raise UserError(
            "A search needs a verifier or a checker, which decides what has flipped: name one with --verifier or "
            "--checker."
        )
    who: DecidedBy = "checker" if cast.verifier is None else "verifier"
    enough = min(s.accept, s.target)
    if s.margin > enough and not {"accept", "target"} & set(s.tune):
        raise UserError(
            f"Edits end where the {who} gives {enough:g} (--accept, at most --target), so few would reach --margin "
            f"{s.margin:g}: raise both to it, or lower --margin."
        )
    return who


def _check_plot(plot: Path, force: bool) -> None:
    if plot.suffix.lower() not in FORMATS:
        raise UserError(f"The plot {plot.name!r} should end in one of {', '.join(FORMATS)}.")
    if plot.is_file() and not force:
        raise UserError(f"{plot} exists already: choose another --plot, or replace it with --force.")
    check_output(plot, force=True)
