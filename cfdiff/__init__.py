"""Counterfactual negative <-> positive guided diffusion.

`cfdiff.translate(data="cells/", from_="negative", limit=24, out="run.h5")` does what the command does: docs/python.md.
Everything is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cfdiff.version import __version__ as __version__

if TYPE_CHECKING:  # what a type checker sees; at run time `__getattr__` finds the same
    from collections.abc import Callable
    from typing import Concatenate, ParamSpec, TypeVar

    from cfdiff.api import Task
    from cfdiff.bag.run import bag as _bag
    from cfdiff.bag.settings import BagSettings as BagSettings
    from cfdiff.data.open import open_source as open_source
    from cfdiff.doctor.run import doctor as _doctor
    from cfdiff.doctor.settings import DoctorSettings as DoctorSettings
    from cfdiff.errors import UserError as UserError
    from cfdiff.evaluate.run import evaluate as _evaluate
    from cfdiff.evaluate.settings import EvaluateSettings as EvaluateSettings
    from cfdiff.export.run import export as _export
    from cfdiff.export.settings import ExportSettings as ExportSettings
    from cfdiff.figures.settings import ShowSettings as ShowSettings
    from cfdiff.figures.show import show as _show
    from cfdiff.fit.run import fit as _fit
    from cfdiff.fit.settings import FitSettings as FitSettings
    from cfdiff.generate.run import generate as _generate
    from cfdiff.generate.settings import GenerateSettings as GenerateSettings
    from cfdiff.join.run import join as _join
    from cfdiff.join.settings import JoinSettings as JoinSettings
    from cfdiff.mil.evaluate import mil_evaluate as _mil_evaluate
    from cfdiff.mil.explain import mil_explain as _mil_explain
    from cfdiff.mil.settings import MilEvaluateSettings as MilEvaluateSettings
    from cfdiff.mil.settings import MilExplainSettings as MilExplainSettings
    from cfdiff.mil.settings import MilTrainSettings as MilTrainSettings
    from cfdiff.mil.train import mil_train as _mil_train
    from cfdiff.modelfiles.adm import import_adm as _import_adm
    from cfdiff.modelfiles.adm import import_adm_classifier as _import_adm_classifier
    from cfdiff.modelfiles.inspect import inspect_model as _inspect_model
    from cfdiff.modelfiles.settings import ImportAdmClassifierSettings as ImportAdmClassifierSettings
    from cfdiff.modelfiles.settings import ImportAdmSettings as ImportAdmSettings
    from cfdiff.modelfiles.settings import InspectModelSettings as InspectModelSettings
    from cfdiff.models.given import as_classifier as as_classifier
    from cfdiff.report.run import report as _report
    from cfdiff.report.settings import ReportSettings as ReportSettings
    from cfdiff.store.bags import open_bags as open_bags
    from cfdiff.store.result import open_result as open_result
    from cfdiff.store.samples import open_samples as open_samples
    from cfdiff.supervise.run import supervise as _supervise
    from cfdiff.supervise.settings import SuperviseSettings as SuperviseSettings
    from cfdiff.train.adapt import adapt as _adapt
    from cfdiff.train.autoencoder import train_autoencoder as _train_autoencoder
    from cfdiff.train.classifier import train_classifier as _train_classifier
    from cfdiff.train.clip import train_clip as _train_clip
    from cfdiff.train.control import train_control as _train_control
    from cfdiff.train.diffusion import train_diffusion as _train_diffusion
    from cfdiff.train.settings import AdaptSettings as AdaptSettings
    from cfdiff.train.settings import AutoencoderSettings as AutoencoderSettings
    from cfdiff.train.settings import ClassifierSettings as ClassifierSettings
    from cfdiff.train.settings import ClipSettings as ClipSettings
    from cfdiff.train.settings import ControlSettings as ControlSettings
    from cfdiff.train.settings import DiffusionSettings as DiffusionSettings
    from cfdiff.translate.run import translate as _translate
    from cfdiff.translate.settings import TranslateSettings as TranslateSettings
    from cfdiff.tune.run import tune as _tune
    from cfdiff.tune.settings import TuneSettings as TuneSettings
    from cfdiff.zero_shot.run import zero_shot as _zero_shot
    from cfdiff.zero_shot.settings import ZeroShotSettings as ZeroShotSettings

    P = ParamSpec("P")
    S = TypeVar("S")
    R = TypeVar("R")

    def _as_task(run: Callable[Concatenate[S, P], R]) -> Task[S, R]: ...

    translate, bag, tune, doctor = _as_task(_translate), _as_task(_bag), _as_task(_tune), _as_task(_doctor)
    fit, generate, join = _as_task(_fit), _as_task(_generate), _as_task(_join)
    supervise = _as_task(_supervise)
    evaluate, report, show = _as_task(_evaluate), _as_task(_report), _as_task(_show)
    export = _as_task(_export)
    import_adm, import_adm_classifier = _as_task(_import_adm), _as_task(_import_adm_classifier)
    inspect_model = _as_task(_inspect_model)
    train_autoencoder, adapt = _as_task(_train_autoencoder), _as_task(_adapt)
    train_diffusion, train_classifier = _as_task(_train_diffusion), _as_task(_train_classifier)
    train_clip, zero_shot = _as_task(_train_clip), _as_task(_zero_shot)
    train_control = _as_task(_train_control)
    mil_train, mil_evaluate, mil_explain = _as_task(_mil_train), _as_task(_mil_evaluate), _as_task(_mil_explain)

# Called like functions: cfdiff/api.py.
_PACKAGES = (
    *("fit", "translate", "generate", "bag", "doctor", "tune", "evaluate", "join", "report", "export"),
    *("supervise", "zero_shot"),
)
_OBJECTS = (
    "show",
    *("import_adm", "import_adm_classifier", "inspect_model"),
    *("train_autoencoder", "train_diffusion", "train_classifier", "train_clip", "train_control", "adapt"),
    *("mil_train", "mil_evaluate", "mil_explain"),
)
_FROM = {
    "open_result": "cfdiff.store.result",
    "open_bags": "cfdiff.store.bags",
    "open_samples": "cfdiff.store.samples",
    "open_source": "cfdiff.data.open",
    "UserError": "cfdiff.errors",
    "as_classifier": "cfdiff.models.given",
    "FitSettings": "cfdiff.fit.settings",
    "TranslateSettings": "cfdiff.translate.settings",
    "GenerateSettings": "cfdiff.generate.settings",
    "BagSettings": "cfdiff.bag.settings",
    "DoctorSettings": "cfdiff.doctor.settings",
    "TuneSettings": "cfdiff.tune.settings",
    "EvaluateSettings": "cfdiff.evaluate.settings",
    "JoinSettings": "cfdiff.join.settings",
    "ReportSettings": "cfdiff.report.settings",
    "ShowSettings": "cfdiff.figures.settings",
    "ExportSettings": "cfdiff.export.settings",
    "ImportAdmSettings": "cfdiff.modelfiles.settings",
    "ImportAdmClassifierSettings": "cfdiff.modelfiles.settings",
    "InspectModelSettings": "cfdiff.modelfiles.settings",
    "AdaptSettings": "cfdiff.train.settings",
    "AutoencoderSettings": "cfdiff.train.settings",
    "DiffusionSettings": "cfdiff.train.settings",
    "ClassifierSettings": "cfdiff.train.settings",
    "ClipSettings": "cfdiff.train.settings",
    "ControlSettings": "cfdiff.train.settings",
    "ZeroShotSettings": "cfdiff.zero_shot.settings",
    "SuperviseSettings": "cfdiff.supervise.settings",
    "MilTrainSettings": "cfdiff.mil.settings",
    "MilEvaluateSettings": "cfdiff.mil.settings",
    "MilExplainSettings": "cfdiff.mil.settings",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name in _PACKAGES:
        return importlib.import_module(f"cfdiff.{name}")
    if name in _OBJECTS:
        return importlib.import_module("cfdiff.api").TASKS[name]
    if name in _FROM:
        return getattr(importlib.import_module(_FROM[name]), name)
    raise AttributeError(f"module 'cfdiff' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PACKAGES, *_OBJECTS, *_FROM})
