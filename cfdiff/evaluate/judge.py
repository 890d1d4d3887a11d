"""Which judges measure a run, and how they are asked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from cfdiff.data.match import class_misfit, shape_misfit
from cfdiff.data.values import to_model
from cfdiff.edit.cast import probabilities
from cfdiff.edit.tiling import tiles_of
from cfdiff.errors import UserError
from cfdiff.evaluate.origin import bundled_data, tiling
from cfdiff.evaluate.settings import EvaluateSettings
from cfdiff.models.bundled import WEIGHTS, role_file, weights_folder
from cfdiff.models.checkpoint import Model
from cfdiff.models.foreign import check_images, load_classifier
from cfdiff.models.given import ModelFile
from cfdiff.roles import file_hashes
from cfdiff.store.runs import Run


@dataclass(frozen=True)
class Judge:
    """A judge at hand. `another`: it is not the one whose probabilities the file holds."""

    model: Model
    device: torch.device
    another: bool

    @property
    def title(self) -> str:
        """How figures name it: "judge (regnetx_002)"; another one with its file's name."""
        arch = getattr(self.model.net.config, "arch", type(self.model.net).__name__)
        return f"{self.model.name} ({arch})" if self.another else f"judge ({arch})"

    def predict(self, images: np.ndarray, exact: bool = True) -> np.ndarray:
        """Probabilities (B, 2) of stored images, or of floats in [0, 1], (B, H, W, C); `exact`: to the last bit."""
        return probabilities(self.model, to_model(images).to(self.device), exact=exact).numpy()


def find_judges(s: EvaluateSettings, run: Run, device: torch.device) -> tuple[Judge, ...]:
    """Every --judge, or the one in --weights, or that of the run's bundled data; empty where none of these is there.

    The first is the one that decides what has flipped. A judge that nobody named and that is not fit for the run is not
    at hand either.

    Raises:
        UserError: one named takes other images, is one of the models that steered, or another's twin, or (unless
            --judge names it) is not the one that judged the run.
    """
    own = run.models.get("judge")
    if s.judge:
        models = [_load(path, device, run) for path in s.judge]
        twins = [model.name for i, model in enumerate(models) if any(_same(model, m) for m in models[:i])]
        if twins:
            raise UserError(
                f"--judge names the same model twice ({twins[0]!r}), which has one opinion: name each judge once."
            )
        if faults := [fault for model in models if (fault := _fault(model, None, run)) is not None]:
            raise UserError(faults[0])
        return tuple(Judge(model, device, another=model.sha256 != own) for model in models)
    path = _judge_file(s.weights, bundled_data(run))
    if path is None:
        return ()
    model = _load(path, device, run)
    fault = _fault(model, own, run)
    if fault is None:
        return (Judge(model, device, another=model.sha256 != own),)
    if s.weights is None:
        return ()
    raise UserError(fault)


def role_of(number: int) -> str:
    """The name of the judge that was named as number 0, 1, ... in figures and files: "judge", "judge_2", ..."""
    return "judge" if number == 0 else f"judge_{number + 1}"


def _load(path: ModelFile, device: torch.device, run: Run) -> Model:
    """A judge that sees images as the run's own models did: whole, or their tiles."""
    return replace(load_classifier(path, device), tiles=tiles_of(tiling(run)))


def _fault(model: Model, own: str | None, run: Run) -> str | None:
    """Why a judge cannot judge the run, a sentence; None where it can. `own`: the sha256 that it must have, if any."""
    if own is not None and model.sha256 != own:
        return (
            f"The judge at hand, sha256 {model.sha256[:12]}, is not the one that judged {run.path.name}, {own[:12]}: "
            "name the run's folder with --weights, or this or another judge with --judge."
        )
    who = f"the judge {model.name!r}"
    if misfit := shape_misfit(run.path.name, run.shape, who, model.takes(run.shape)):
        return f"{misfit.sentence}: name a judge that was trained on such images with --judge."
    if file_hashes(model.sha256) & run.steering_hashes:
        return (
            "The judge is the very model that steered or accepted, so its verdict means nothing: name another --judge."
        )
    if misfit := class_misfit(run.path.name, run.classes, who, model.card.data.get("classes")):
        return f"{misfit.sentence}: name a judge with the run's classes."
    check_images(model, run.shape if model.tiles is None else model.tiles.shape(run.shape), steers=False)
    return None


def _same(a: Model, b: Model) -> bool:
    """Whether two are one file, however each is described."""
    return bool(file_hashes(a.sha256) & file_hashes(b.sha256))


def _judge_file(weights: str | None, bundled: str | None) -> Path | None:
    if weights is None:
        return None if bundled is None else role_file(WEIGHTS / bundled, "judge")
    return role_file(weights_folder(weights), "judge")


def need(judge: Judge | None, what: str) -> Judge:
    """The judge; UserError where there is none for `what`."""
    if judge is None:
        raise UserError(f"{what} asks the judge, and none is at hand: name one with --judge or --weights.")
    return judge
