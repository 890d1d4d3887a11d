"""Which settings to try next: optuna's constrained TPE, as a function of the seed and the trials so far."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from cfdiff.engine import NoiseSchedule
from cfdiff.tune.settings import TuneSettings
from cfdiff.tune.trial import Goal, Trial, Values, shortfalls

STARTUP = 10
"""Trials at random before the model of the good and the bad ones speaks (optuna's default)."""
DEPTH, STEPS = (0.15, 0.7), (6, 40)


def space(s: TuneSettings, schedule: NoiseSchedule) -> dict[str, BaseDistribution]:
    """The range of each tuned setting, widened to hold the starting one; any steps in it fit into any depth."""
    shallow = min(DEPTH[0], s.depth) if "depth" in s.tune else s.depth
    if "steps" not in s.tune:
        shallow = max(shallow, min(s.depth, s.steps / schedule.T))
    most = max(s.steps, min(STEPS[1], schedule.level_of(shallow)))
    shallow = max(shallow, min(s.depth, most / schedule.T))
    ranges: dict[str, Callable[[], BaseDistribution]] = {
        "ratio": lambda: FloatDistribution(min(0.05, s.ratio), max(1.0, s.ratio), log=True),
        "depth": lambda: FloatDistribution(shallow, max(DEPTH[1], s.depth)),
        "steps": lambda: IntDistribution(min(STEPS[0], s.steps), most),
        "scale": lambda: FloatDistribution(min(2.0, s.scale), max(100.0, s.scale), log=True),
        "target": lambda: FloatDistribution(min(s.margin, s.target), max(0.99, s.margin, s.target)),
        "accept": lambda: FloatDistribution(min(s.margin, s.accept), max(0.99, s.margin, s.accept)),
        "retries": lambda: IntDistribution(0, max(6, s.retries)),
    }
    return {name: ranges[name]() for name in s.tune}


def propose(trials: Sequence[Trial], ranges: dict[str, BaseDistribution], goal: Goal, seed: int) -> Values:
    """The settings of trial number len(trials), rounded to three digits as they will be written down.

    A study is built from the trials each time, with a sampler of its own seed, so that a search that was stopped
    proposes what it would have proposed. TPE with constraints: Watanabe & Hutter 2023, as optuna has it.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    own = int.from_bytes(hashlib.sha256(f"{seed}/{len(trials)}".encode()).digest()[:4])
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=own, n_startup_trials=STARTUP))
    study.add_trials([_told(trial, ranges, goal) for trial in trials])
    return {name: _round(value, ranges[name]) for name, value in study.ask(ranges).params.items()}


def _told(trial: Trial, ranges: dict[str, BaseDistribution], goal: Goal) -> FrozenTrial:
    complete = trial.state == "complete"
    return create_trial(
        state=TrialState.COMPLETE if complete else TrialState.PRUNED,
        value=trial.change if complete else None,
        params=trial.values,
        distributions=ranges,
        intermediate_values={trial.images: trial.change},
        constraints=shortfalls(trial.flip(goal.margin), trial.calls, goal),
    )


def _round(value: float | int, allowed: BaseDistribution) -> float | int:
    if isinstance(allowed, FloatDistribution):
        return min(max(float(f"{value:.3g}"), allowed.low), allowed.high)
    return int(value)
