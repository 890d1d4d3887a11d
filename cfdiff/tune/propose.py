"""Which settings to try next: optuna's constrained TPE, as a function of the seed and the trials so far."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from cfdiff.tune.trial import Goal, Trial, Value, Values

STARTUP = 10
"""Trials before the model of the good and the bad ones speaks, the known ones among them (optuna's default)."""


def propose(trials: Sequence[Trial], ranges: dict[str, BaseDistribution], goal: Goal, seed: int) -> Values:
    """The settings of trial number len(trials), numbers rounded to three digits as they will be written down.

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
        value=trial.price if complete else None,
        params=trial.values,
        distributions=ranges,
        intermediate_values={trial.images: trial.price},
        constraints=trial.shortfalls(goal),
    )


def _round(value: Value, allowed: BaseDistribution) -> Value:
    if isinstance(allowed, FloatDistribution):
        return min(max(float(f"{value:.3g}"), allowed.low), allowed.high)
    return value
