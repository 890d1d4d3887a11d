"""Which judge measures a run, and how it is asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cfdiff.data.match import class_misfit, shape_misfit
from cfdiff.data.values import to_model
from cfdiff.edit.roles import probabilities
from cfdiff.errors import UserError
from cfdiff.evaluate.origin import bundled_data
from cfdiff.evaluate.settings import EvaluateSettings
from cfdiff.models.bundled import WEIGHTS, role_file, weights_folder
from cfdiff.models.checkpoint import Model, load_model
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


def find_judge(s: EvaluateSettings, run: Run, device: torch.device) -> Judge | None:
    """--judge, or the one in --weights, or that of the run's bundled data; None where none of these is there.

    A judge that nobody named and that is not fit for the run is not at hand either.

    Raises:
        UserError: the one named takes other images, is one of the models that steered, or (unless --judge names it) is
            not the one that judged the run.
    """
    path = s.judge or _judge_file(s.weights, bundled_data(run))
    if path is None:
        return None
    model = load_model(path, "clean-classifier", device)
    own = run.models.get("judge")
    fault = _fault(model, None if s.judge is not None else own, run)
    if fault is None:
        return Judge(model, device, another=model.sha256 != own)
    if s.judge is None and s.weights is None:
        return None
    raise UserError(fault)


def _fault(model: Model, own: str | None, run: Run) -> str | None:
    """Why a judge cannot judge the run, a sentence; None where it can. `own`: the sha256 that it must have, if any."""
    if own is not None and model.sha256 != own:
        return (
            f"The judge at hand, sha256 {model.sha256[:12]}, is not the one that judged {run.path.name}, {own[:12]}: "
            "name the run's folder with --weights, or this or another judge with --judge."
        )
    who = f"the judge {model.name!r}"
    if misfit := shape_misfit(run.path.name, run.shape, who, model.shape):
        return f"{misfit.sentence}: name a judge that was trained on such images with --judge."
    if model.sha256 in run.steering_hashes:
        return (
            "The judge is the very model that steered or accepted, so its verdict means nothing: name another --judge."
        )
    if misfit := class_misfit(run.path.name, run.classes, who, model.card.data.get("classes")):
        return f"{misfit.sentence}: name a judge with the run's classes."
    return None


def _judge_file(weights: str | None, bundled: str | None) -> Path | None:
    if weights is None:
        return None if bundled is None else role_file(WEIGHTS / bundled, "judge")
    return role_file(weights_folder(weights), "judge")


def need(judge: Judge | None, what: str) -> Judge:
    """The judge; UserError where there is none for `what`."""
    if judge is None:
        raise UserError(f"{what} asks the judge, and none is at hand: name one with --judge or --weights.")
    return judge
