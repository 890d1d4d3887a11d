"""cfdiff fit: look, split, train, check, tune, show, each in its share of the time; a stopped one goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cfdiff.data.open import open_told
from cfdiff.data.source import Source, random_subset
from cfdiff.data.split_file import read_splits, write_splits
from cfdiff.data.splitting import LEAST as FEWEST
from cfdiff.data.splitting import SHARES, SplitPlan, plan_splits, poor, spelled, too_few
from cfdiff.data.values import unit
from cfdiff.doctor.lines import Report
from cfdiff.doctor.path import APART
from cfdiff.edit.roles import pick_device
from cfdiff.errors import UserError
from cfdiff.files import atomic
from cfdiff.fit.classifiers import LIGHT, begun
from cfdiff.fit.folder import FitFolder, State
from cfdiff.fit.look import few, look
from cfdiff.fit.pace import fitting_batch, fitting_batches, fitting_network, images_a_second
from cfdiff.fit.plan import LEAST, SECOND, Clock, shares_of, trainings
from cfdiff.fit.result import FitResult
from cfdiff.fit.settings import FitSettings
from cfdiff.fit.space import fitting_space, seen_by_diffusion
from cfdiff.fit.stages import Fit, check, has_second, moved, show, train
from cfdiff.fit.symmetry import fitting_augment
from cfdiff.fit.tuning import goes_on, lowered, tune
from cfdiff.models.autoencoder import need_diffusers
from cfdiff.progress import Progress, silent
from cfdiff.roles import CLASSIFIERS
from cfdiff.train.result import TrainResult
from cfdiff.translate.summary import TranslateSummary
from cfdiff.tune.result import TuneResult

KEEP_SECONDS = 5
"""Between notes of how far a stage is: what a kill costs of the count of time."""


def fit(s: FitSettings, progress: Progress = silent) -> FitResult:
    """Fit a data set, or go on with a fit that was stopped.

    Raises:
        UserError: one class only, too few images or groups, sizes that do not fit, too little time for a first model,
            a folder with something else in it: said before any training.
    """
    if s.threads:
        torch.set_num_threads(s.threads)
    device = pick_device(s.device)
    source = open_told(s)
    folder = FitFolder(s.out or Path("runs") / Path(source.name).name.partition(".")[0])
    _refuse_inside(folder.path, Path(s.data))
    space = fitting_space(s.space, source.shape)
    notes = look(source, space, s.data)
    if space == "latent":
        need_diffusers()
    plan = None if folder.splits.is_file() else _planned(source, s.seed)  # refused before the folder is made
    with folder.owned():
        of = {"data": source.name, "fingerprint": source.fingerprint, "seed": s.seed, "classes": list(source.classes)}
        there = folder.read(of, s.force)
        if there is not None and folder.splits.is_file():  # as it was divided, whatever would be planned by now
            splits = read_splits(folder.splits, source)
            plan = SplitPlan(splits, tuple(poor(source, splits)))
        plan = plan or _planned(source, s.seed)
        work = Fit(s, folder, replace(source, splits=plan.splits), there or _begin(s, of, source, device, space))
        if there is None and s.force and folder.taken:
            folder.clear()
        write_splits(source, plan.splits, folder.splits)
        folder.write(work.state)
        return _Runner(work, (*notes, *plan.notes), progress).run()


def _begin(s: FitSettings, of: dict[str, Any], source: Source, device: torch.device, space: str) -> State:
    """What is found out of machine and data before anything is trained."""
    minutes = s.minutes * shares_of(space)["diffusion"]
    seen = seen_by_diffusion(space, source.shape)
    width, precision = fitting_network(seen, minutes, device)
    batch = fitting_batch(60 * minutes * images_a_second(seen, width, device, precision))
    batches = fitting_batches(source.shape, space, s.minutes, device, precision, width)
    some = random_subset(source, few(source), s.seed)
    augment = fitting_augment(unit(some.read(np.arange(len(some)))))
    sizes: dict[str, Any] = {"precision": precision, "batch": batch, "batches": batches}
    return State(of, width, augment, space=space, light=LIGHT, begun=[*begun(space)], **sizes)


def _refuse_inside(out: Path, data: Path) -> None:
    """A fit writes pictures, which a folder of images that it lies in would hold as images of its own."""
    if data.is_dir() and out.resolve().is_relative_to(data.resolve()):
        raise UserError(
            f"{out} lies in the folder of images {data}, which would then hold the fit's pictures too: give another "
            "--out."
        )


def _planned(source: Source, seed: int) -> SplitPlan:
    """The plan; UserError where a split lacks a class: its model, the search or the figures would fail hours later."""
    plan = plan_splits(source, seed)
    for role in SHARES:
        name = spelled(role, set(plan.splits.tolist()))
        if name is not None and (short := too_few(source, plan.splits, role, name)) is not None:
            raise UserError(
                f"{short}, and a fit needs {FEWEST.get(role, 1)} there at least: give more of them, or leave the "
                "data's own splits out."
            )
    return plan


class _Runner:
    """Goes through the stages, keeps the time, and tells of it."""

    def __init__(self, fit: Fit, notes: tuple[str, ...], progress: Progress) -> None:
        self.fit, self.notes, self.progress = fit, notes, progress
        self.state = fit.state
        self.shares = shares_of(fit.state.space)

    def run(self) -> FitResult:
        trained: dict[str, TrainResult] = {}
        before = self.fit.folder.models()
        for role in trainings(self.fit.state.space):
            with self._stage(role) as (seconds, tell):
                if role == SECOND and not has_second(self.fit, trained["verifier"]):
                    role, seconds = "verifier", seconds + self.state.used["verifier"]
                trained[role] = train(self.fit, role, seconds / 60, tell)
        with self._stage("doctor") as (_, tell):
            checked = check(self.fit, tell)
        with self._stage("tune") as (seconds, tell):
            # A search has its trials in a log, and goes on with them where the models are the same and it begins alike.
            same = self.fit.folder.models() == before and goes_on(self.fit, trained["guide"])
            spent = self.state.used.get("tune", 0.0) if same else 0.0
            found = tune(self.fit, trained["guide"], max(seconds - spent, LEAST * seconds) / 60, tell)
        with self._stage("show") as (seconds, tell):
            shown = show(self.fit, found, seconds, tell)
            went, unmeasured = dict[str, float | None](), list[str]()
            for start, summary in shown.items():
                try:
                    went[start] = moved(self.fit, start, tell)
                except UserError as error:  # what was edited stands: the card says the rest
                    went[start] = None
                    unmeasured.append(f"{summary.direction}: not measured further. {error}")
        result = self._result(trained, checked, found, dict(shown), went, unmeasured)
        self._write_card(result)
        return result

    @contextmanager
    def _stage(self, name: str) -> Iterator[tuple[float, Progress]]:
        """(seconds that the stage may take in all, its progress); what it took is written down as it goes.

        A stage that was done when the fit was stopped is gone through again: a training that has had its time, or a
        search that is in its log, costs no more than a look; where there is more time than before, it goes on.
        """
        clock = Clock(60 * self.fit.s.minutes, self.state.used, self.shares)
        allotted, before, started = clock.allotted(name), clock.used.get(name, 0.0), time.monotonic()
        written = started

        def note(done: bool) -> None:
            state = self.state.with_time(name, before + time.monotonic() - started)
            self.state = state.ended(name) if done else state
            self.fit.folder.write(self.state)

        def tell(what: str, done: int, n: int) -> None:
            nonlocal written
            now = time.monotonic()
            if now - written > KEEP_SECONDS:
                written = now
                note(False)
            elapsed = clock.elapsed + now - started
            left = max(0.0, clock.limit - elapsed) / 60
            place = list(self.shares).index(name) + 1
            stage = f"{name} ({place} of {len(self.shares)}), {left:.0f} min left in all: {what}"
            self.progress(stage, int(min(elapsed, clock.limit)), int(clock.limit))

        tell("begins", 0, 1)
        yield allotted, tell
        note(True)

    def _result(
        self,
        trained: dict[str, TrainResult],
        checked: Report,
        found: Mapping[str, TuneResult],
        shown: dict[str, TranslateSummary],
        went: dict[str, float | None],
        unmeasured: list[str],
    ) -> FitResult:
        fit = self.fit
        told = [line for line in checked.lines if line.status == "fail" or (line.name == "confound" and line.advice)]
        warnings = [f"{line.name}: {line.figure}. {line.advice}" for line in told]
        warnings += [
            *dict.fromkeys(w for one in found.values() for w in one.warnings),
            *lowered(found),
            *(w for summary in shown.values() for w in _doubts(summary)),
            *unmeasured,
        ]
        return FitResult(
            out=fit.folder.path,
            data=fit.source.name,
            images=len(fit.source),
            groups=None if fit.source.groups is None else len(np.unique(fit.source.groups)),
            minutes=Clock(0.0, self.state.used).elapsed / 60,
            accuracy={
                role: model.val_accuracy for role, model in trained.items() if role.partition("-")[0] in CLASSIFIERS
            },
            reconstruction=None if "autoencoder" not in trained else trained["autoencoder"].figures(),
            recipe={name: one.recipe for name, one in found.items()},
            reached={name: one.reached for name, one in found.items()},
            directions=shown,
            moved=went,
            notes=self.notes,
            warnings=tuple(warnings),
        )

    def _write_card(self, result: FitResult) -> None:
        folder = self.fit.folder.path
        for name, text in (
            ("card.json", json.dumps(result.as_json(), indent=1) + "\n"),
            ("card.md", "\n".join(result.lines()) + "\n"),
        ):
            with atomic(folder / name) as scratch:
                scratch.write_text(text)


def _doubts(s: TranslateSummary) -> list[str]:
    """Why not to believe the edits of a direction, from their summary."""
    recall = s.recall.get("judge")
    if s.flipped_judge is None or s.flipped_verifier is None:
        return []
    found = []
    if s.flipped_verifier - s.flipped_judge > APART:
        found.append(
            f"{s.direction}: the verifier accepts {s.flipped_verifier:.0%} and the judge {s.flipped_judge:.0%}, so the "
            "edits convince the models that were at work more than another one: more --minutes, or more groups."
        )
    elif recall is not None and s.flipped_judge < recall.low:
        found.append(
            f"{s.direction}: the judge takes {s.flipped_judge:.0%} of the edits for the target, and {recall.share:.0%} "
            "of real images of it: the edits fall short of real ones; more --minutes."
        )
    return found
