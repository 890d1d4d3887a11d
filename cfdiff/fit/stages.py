"""The stages of a fit: each does one thing with the other commands' own functions, and can be done again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cfdiff.data.source import Source
from cfdiff.data.splitting import JUDGE, TEST, TRAIN, VAL, VERIFIER, own_split
from cfdiff.doctor.lines import Report
from cfdiff.fit.classifiers import classifier_network
from cfdiff.fit.folder import CLASSES, FitFolder, State
from cfdiff.fit.plan import SECOND
from cfdiff.fit.settings import FitSettings
from cfdiff.fit.space import autoencoder_of
from cfdiff.progress import Progress
from cfdiff.roles import STEERING
from cfdiff.train.result import TrainResult
from cfdiff.translate.summary import TranslateSummary
from cfdiff.tune.result import TuneResult

ALONE = 1000
"""Images of each class that a verifier needs to learn from its own groups alone; with fewer it learns from those of the
guide too, and then another architecture is what tells it apart."""
SURE = 0.85
"""Validation accuracy of the first verifier from which a second is worth its time: one that has hardly learned says 1/2
of everything, and averaged with it no edit is accepted."""
SEEDS = {"autoencoder": 0, "diffusion": 0, "guide": 0, "checker": 0, "verifier": 2, SECOND: 3, "judge": 1}
SHOWN = 96
"""Images a direction of the runs at the end, at most; where time is short, fewer."""
LEAST_SHOWN = 8


@dataclass(frozen=True, eq=False)
class Fit:
    """What every stage knows: the settings, the folder, the data with its splits, and what was found of it."""

    s: FitSettings
    folder: FitFolder
    source: Source
    state: State

    def split(self, role: str) -> str:
        """How the data calls the split of a role."""
        name = own_split(self.source, role)
        assert name is not None
        return name

    def count(self, role: str, label: int) -> int:
        """Images of a class in the split of a role."""
        return int(np.sum((self.source.splits == self.split(role)) & (self.source.labels == label)))

    @property
    def data(self) -> dict[str, Any]:
        """The settings that say which images, for any command."""
        told = self.s.model_dump(include={"data", "layout", "reading", "negative", "positive", "group_key"})
        return told | {"splits": self.folder.splits}

    @property
    def machine(self) -> dict[str, Any]:
        """The settings that say where."""
        return {"device": self.s.device, "threads": self.s.threads}


def train(fit: Fit, role: str, minutes: float, progress: Progress) -> TrainResult:
    """Train the model of a role, or go on with it, until it took so many minutes in all."""
    from cfdiff.train.autoencoder import train_autoencoder
    from cfdiff.train.classifier import train_classifier
    from cfdiff.train.diffusion import train_diffusion
    from cfdiff.train.settings import AutoencoderSettings, ClassifierSettings, DiffusionSettings

    train_split, verifier_split = fit.split(TRAIN), fit.split(VERIFIER)
    alone = min(fit.count(VERIFIER, label) for label in (0, 1)) >= ALONE
    split = {
        "autoencoder": f"{train_split}+{verifier_split}",  # it gives no verdict, so it may know them
        "diffusion": f"{train_split}+{verifier_split}",
        "verifier": verifier_split if alone else f"{train_split}+{verifier_split}",
        "judge": fit.split(JUDGE),
        **dict.fromkeys(fit.state.begun, f"{train_split}+{verifier_split}"),  # what they begin from knows both
    }.get(role, train_split)
    file = fit.folder.path / "autoencoder" / "model.safetensors"
    latent: dict[str, Any] = {} if fit.state.space == "pixel" else {"space": fit.state.space, "autoencoder": file}
    common: dict[str, Any] = {
        **fit.data,
        **fit.machine,
        "split": split,
        "val_split": fit.split(VAL),
        "out": fit.folder.path / role,
        "augment": fit.state.augment,
        "max_minutes": minutes,
        "seed": fit.s.seed + SEEDS[role],
    }
    if role == "autoencoder":  # in float32: what bfloat16 loses, every image that it decodes would lose
        if (fit.folder.path / "diffusion" / "model.safetensors").exists():  # whose latents must stay what they are
            return TrainResult.of(file)
        return train_autoencoder(AutoencoderSettings(**common, **autoencoder_of(fit.source.shape)), progress)
    common["precision"] = fit.state.precision
    if role == "diffusion":
        wide: dict[str, Any] = {"width": fit.state.width, "condition": "class", "batch_size": fit.state.batch, **latent}
        return train_diffusion(DiffusionSettings(**common, **wide), progress)
    kind: dict[str, Any] = {"noisy": role == "guide", "intercept": True, **fit.state.light}
    if role in STEERING and latent:
        kind |= {**latent, "gain": 0.0, **dict.fromkeys(fit.state.light, 0.0), "shift": 0}  # each is encoded once
    if role in fit.state.begun:
        kind["init"] = fit.folder.path / "diffusion" / "model.safetensors"
    else:
        kind |= classifier_network(role, fit.state.space, fit.source.shape)
    if role in fit.state.batches:
        kind["batch_size"] = fit.state.batches[role]
    return train_classifier(ClassifierSettings(**common, **kind), progress)


def has_second(fit: Fit, first: TrainResult) -> bool:
    """Whether a second verifier is trained, or was: else its time goes to the first, which needs it."""
    there = (fit.folder.path / SECOND / "model.safetensors").exists()
    return there or (SECOND not in fit.state.done and (first.val_accuracy or 0.0) >= SURE)


def check(fit: Fit, progress: Progress) -> Report:
    """What doctor says of the models, with edits of the cheap kind that the searches begin with."""
    from cfdiff.doctor.run import doctor
    from cfdiff.doctor.settings import DoctorSettings
    from cfdiff.tune.space import CHEAP

    settings = {**fit.data, **fit.machine, **CHEAP, "weights": str(fit.folder.path), "split": fit.split(VAL)}
    return doctor(DoctorSettings(**settings), progress)


def show(
    fit: Fit, found: Mapping[str, TuneResult], seconds: float, progress: Progress
) -> Mapping[str, TranslateSummary]:
    """Both directions on test images with their recipes: a result and a picture of each; as many images as time allows.

    What one takes the searches know; where they had nothing to try any more, a few images of each direction tell.
    """
    from cfdiff.settings import resolve
    from cfdiff.translate.run import translate
    from cfdiff.translate.settings import TranslateSettings

    def run(start: str, limit: int, out: Path, picture: Path | None) -> TranslateSummary:
        values = {**fit.data, **fit.machine, "weights": str(fit.folder.path), "split": fit.split(TEST)}
        values |= {"from": start, "limit": limit, "out": out, "preview": picture, "force": True, "seed": fit.s.seed}
        whole = translate(resolve(TranslateSettings, None, values), progress)
        assert isinstance(whole, TranslateSummary)  # not a shard of one
        return whole

    def tried(start: str) -> float:
        probe = fit.folder.path / "probe.h5"
        try:
            return run(start, LEAST_SHOWN, probe, None).seconds_per_image or 1e-3
        finally:
            probe.unlink(missing_ok=True)

    began = time.monotonic()
    pair = sum(found[start].seconds_per_image(start) or tried(start) for start in CLASSES)
    limit = int(np.clip(0.8 * (seconds - (time.monotonic() - began)) / pair, LEAST_SHOWN, SHOWN))
    shown = {}
    for start in CLASSES:
        out = fit.folder.result(start)
        shown[start] = run(start, limit, out, out.with_suffix(".png"))
    return shown


def moved(fit: Fit, start: str, progress: Progress) -> float | None:
    """Measure the result of a direction, write its page, and say how far its edits went to the target class by KID."""
    from cfdiff.evaluate.run import evaluate
    from cfdiff.evaluate.settings import EvaluateSettings
    from cfdiff.report.run import report
    from cfdiff.report.settings import ReportSettings

    run = fit.folder.result(start)
    figures, weights = run.with_suffix(".json"), str(fit.folder.path)
    measured = evaluate(
        EvaluateSettings(
            run=run,
            data=fit.s.data,
            layout=fit.s.layout,
            reading=fit.s.reading,
            splits=fit.folder.splits,
            weights=weights,
            faithfulness=False,
            out=figures,
            force=True,
            **fit.machine,
        ),
        progress,
    )
    whose = {"data": fit.s.data, "layout": fit.s.layout, "reading": fit.s.reading}
    masks: dict[str, Any] = whose if fit.source.mask_reader is not None else {}
    page = run.with_suffix(".html")
    report(ReportSettings(run=run, evaluation=figures, weights=weights, out=page, force=True, **masks))
    figure = next((f for name, f in measured.sections["realistic"].figures.items() if name.startswith("moved")), None)
    return None if figure is None else figure.all.value
