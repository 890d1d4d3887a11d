"""The tasks as functions: `cfdiff.translate(data="cells/", limit=24)` does what `cfdiff translate` does.

The arguments are the options, with `_` for `-`, checked as the command line checks them. Only names stand here: the
settings are imported when a task is called or asked for help, and torch when it runs, so that `import cfdiff` is quick.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from cfdiff.errors import UserError
from cfdiff.progress import Progress, progress_bar, silent

if TYPE_CHECKING:
    from cfdiff.settings import Settings

S = TypeVar("S")  # the settings of a task
R = TypeVar("R")  # what it returns

_HIDDEN = {"json_"}  # how to print: a function returns
_ABOUT = {
    "config": "TOML file with any of these settings; those given here win.",
    "progress": "True shows a bar, or a line a minute in a log; False nothing; a function gets (what, done, n).",
}
_TAIL = """
Returns:
    What the command prints, with attributes.

Raises:
    cfdiff.UserError: a setting, the data, a model or an output cannot be used, in one sentence."""


@dataclass(frozen=True)
class Task(Generic[S, R]):
    """A task that can be called. `settings` and `run` say where they are: "module:attribute".

    Attributes:
        summary: what it does, in one line.
        first: what the bar says until the task says more.
        place: the setting that may be given by place; "" for none.
    """

    name: str
    summary: str
    settings: str
    run: str
    first: str
    place: str = ""

    def __call__(
        self,
        settings: S | str | os.PathLike[str] | None = None,
        /,
        *,
        config: str | os.PathLike[str] | None = None,
        progress: Progress | bool = True,
        **options: Any,
    ) -> R:
        """Check the settings, run the task, return what it found.

        Args:
            settings: a settings object, which `options` change; or the run, for a task of a finished run.

        Raises:
            UserError: a mistake of the caller, in one sentence.
        """
        resolved = self.resolve(settings, config, options)
        run: Callable[..., R] = _load(self.run)
        if "progress" not in inspect.signature(run).parameters:
            return run(resolved)
        told = nullcontext(progress or silent) if progress is not True else progress_bar(self.first)
        with told as advance:
            return run(resolved, advance)

    def resolve(self, given: Any, config: str | os.PathLike[str] | None, options: Mapping[str, Any]) -> Settings:
        """The settings object that all of it comes to."""
        from pathlib import Path

        from cfdiff.settings import resolve

        model = self.model
        values = {name: _plain(value) for name, value in options.items()}
        if isinstance(given, model):
            if config is not None:
                raise UserError(f"cfdiff.{self.name} takes a settings object or a config file, not both.")
            values = model.over({name: getattr(given, name) for name in given.model_fields_set}, values)
        elif given is not None:
            if not self.place or not isinstance(given, str | os.PathLike):
                kind = f"the {self.place} or " if self.place else ""
                raise UserError(
                    f"cfdiff.{self.name} takes {kind}a {model.__name__} by place, not {given!r}: name every other "
                    f"setting, as in cfdiff.{self.name}(seed=1)."
                )
            if self.place in values:
                raise UserError(f"cfdiff.{self.name} was given two values for {self.place!r}: leave one out.")
            values[self.place] = os.fspath(given)
        return resolve(model, None if config is None else Path(config), values)

    @property
    def model(self) -> type[Settings]:
        """The class of its settings."""
        return _load(self.settings)

    @property
    def __signature__(self) -> inspect.Signature:
        kinds = inspect.Parameter
        fields = {name: field for name, field in self.model.model_fields.items() if name not in _HIDDEN}
        own = [] if self.place else [kinds("settings", kinds.POSITIONAL_ONLY, default=None)]
        for name, field in sorted(fields.items(), key=lambda item: item[0] != self.place):
            kind = kinds.POSITIONAL_OR_KEYWORD if name == self.place else kinds.KEYWORD_ONLY
            default = kinds.empty if field.is_required() else field.get_default(call_default_factory=True)
            own.append(kinds(name, kind, default=default, annotation=field.annotation))
        own += [kinds(name, kinds.KEYWORD_ONLY, default=name == "progress" or None) for name in _ABOUT]
        return inspect.Signature(own)

    def describe(self) -> str:
        """Its documentation: every setting with what `--help` says of it."""
        model = self.model
        about = {} if self.place else {"settings": f"a {model.__name__}, which the arguments beside it change."}
        fields = model.model_fields.items()
        about |= {name: str(field.description) for name, field in fields if name not in _HIDDEN}
        lines = [f"    {name}: {words}" for name, words in (about | _ABOUT).items()]
        return "\n".join([self.summary, "", "Args:", *lines, _TAIL])


class TaskObject(Task[S, R]):
    """A task that has no package of its own to stand for it."""

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        return self.describe()


class TaskPackage(ModuleType):
    """A package (`cfdiff.translate`) that is called like the function in it, and is a package all the same."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._task(*arguments, **options)

    @property
    def _task(self) -> Task[Any, Any]:
        return TASKS[self.__name__.rpartition(".")[2]]

    @property
    def __signature__(self) -> inspect.Signature:
        return self._task.__signature__

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        return self._task.describe()


def make_callable(package: str) -> None:
    """Let a package of the name of a task be called: `make_callable(__name__)` in its `__init__`."""
    sys.modules[package].__class__ = TaskPackage


def _load(where: str) -> Any:
    module, _, attribute = where.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _plain(value: Any) -> Any:
    """Paths as strings, which every setting takes; arrays and numbers of numpy as lists and numbers."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.tolist() if hasattr(value, "tolist") else value


def _package(name: str, summary: str, settings: str, first: str, place: str = "") -> Task[Any, Any]:
    return Task(name, summary, f"cfdiff.{name}.settings:{settings}", f"cfdiff.{name}.run:{name}", first, place)


def _training(kind: str, summary: str) -> Task[Any, Any]:
    where = f"cfdiff.train.settings:{kind.capitalize()}Settings"
    return TaskObject(f"train_{kind}", summary, where, f"cfdiff.train.{kind}:train_{kind}", "training")


def _mil(kind: str, summary: str, first: str) -> Task[Any, Any]:
    settings = f"cfdiff.mil.settings:Mil{kind.capitalize()}Settings"
    return TaskObject(f"mil_{kind}", summary, settings, f"cfdiff.mil.{kind}:mil_{kind}", first)


def _model_file(name: str, summary: str, module: str, place: str) -> Task[Any, Any]:
    settings = f"cfdiff.modelfiles.settings:{name.title().replace('_', '')}Settings"
    return TaskObject(name, summary, settings, f"cfdiff.modelfiles.{module}:{name}", "reading", place)


_TASKS: tuple[Task[Any, Any], ...] = (
    _package("translate", "Turn negatives into positives, or the reverse.", "TranslateSettings", "translating"),
    _package("generate", "Draw images from noise, of a class or of any.", "GenerateSettings", "loading"),
    _package("bag", "Give bags of instances a chosen fraction of positives.", "BagSettings", "planning"),
    _package(
        "doctor", "Find what is wrong with data, models and settings.", "DoctorSettings", "checking what there is"
    ),
    _package("tune", "Find the settings that flip enough with the smallest change.", "TuneSettings", "opening"),
    _package("fit", "Make models and settings for a data set, in a given time.", "FitSettings", "looking", "data"),
    _package("evaluate", "Measure a finished run with every figure.", "EvaluateSettings", "reading", "run"),
    _package("join", "Make one result of the shards of a job array.", "JoinSettings", "joining", "run"),
    _package("report", "Show a run as one HTML page.", "ReportSettings", "reading", "run"),
    _package("export", "Write a run back as DICOM or NIfTI.", "ExportSettings", "reading", "run"),
    _package("zero_shot", "See what an image-text model knows of images.", "ZeroShotSettings", "opening", "model"),
    TaskObject(
        "show",
        "Draw images of a run as a panel for a paper.",
        "cfdiff.figures.settings:ShowSettings",
        "cfdiff.figures.show:show",
        "drawing",
        "run",
    ),
    _model_file("import_adm", "Make a model file of a diffusion checkpoint of guided-diffusion.", "adm", "checkpoint"),
    _model_file(
        "import_adm_classifier", "Make a guide of a classifier checkpoint of guided-diffusion.", "adm", "checkpoint"
    ),
    _model_file("inspect_model", "Say what is in a model file or folder.", "inspect", "model"),
    _training("autoencoder", "Train the autoencoder of a latent space."),
    _training("diffusion", "Train the diffusion model on images."),
    _training("classifier", "Train a guide, a checker or a judge."),
    TaskObject(
        "adapt",
        "Adapt a diffusion model to a new laboratory by a few images.",
        "cfdiff.train.settings:AdaptSettings",
        "cfdiff.train.adapt:adapt",
        "training",
    ),
    _training("clip", "Train an image-text model on images and their captions."),
    _training("control", "Train a control branch, which keeps lines where they are."),
    _package(
        "supervise", "Train a classifier on counterfactual pairs as well as on images.", "SuperviseSettings", "training"
    ),
    _mil("train", "Train a bag model on real bags and on the same bags at several mixes.", "training"),
    _mil("evaluate", "Measure a bag model on real bags of patients that it does not know.", "opening"),
    _mil("explain", "See what a bag model looks at, and how its answer follows the mix.", "opening"),
)
TASKS: dict[str, Task[Any, Any]] = {task.name: task for task in _TASKS}
"""Every task by its name; `--help` of the program takes the summaries from here."""
