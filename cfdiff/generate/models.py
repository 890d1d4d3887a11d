"""The models of a generation, what they draw, and what leads them to a class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from cfdiff.data.bundled import BUNDLED
from cfdiff.data.match import class_misfit, shape_misfit
from cfdiff.data.open import open_source
from cfdiff.data.source import Source
from cfdiff.edit.cast import Cast
from cfdiff.edit.roles import check_guides, load_models, load_role, model_paths, pick_device
from cfdiff.edit.settings import EditSettings
from cfdiff.edit.texts import check_said, say_the_same
from cfdiff.engine import Guidance, Guide
from cfdiff.errors import UserError
from cfdiff.generate.settings import GenerateSettings
from cfdiff.models.checkpoint import Model
from cfdiff.models.encoders import NOTHING
from cfdiff.models.prompted import asked
from cfdiff.registry import GUIDES

USUAL = "malaria-cells"


@dataclass(frozen=True)
class Canvas:
    """What the images are like that are drawn: as the real ones, or where there are none as the model's own, 8-bit."""

    name: str
    shape: tuple[int, int, int]
    classes: tuple[str, str]
    dtype: np.dtype


@dataclass(frozen=True)
class Leading:
    """What leads to the class.

    Attributes:
        names: guides of registry.GUIDES whose gradients are added.
        told: the walk itself is told the class: classifier-free guidance with w = 1, or a model that must be told.
        edit: the settings that registry.GUIDES makes these guides by.
    """

    names: tuple[str, ...]
    told: bool
    edit: EditSettings

    @property
    def words(self) -> str:
        """As a result says it."""
        return "+".join([*(["told"] if self.told else []), *self.names]) or "none"

    def guidance(self, cast: Cast, target: torch.Tensor, ratio: float | None) -> Guidance | None:
        """Towards `target` (B,) int64; None where nothing guides."""
        if not self.names:
            return None
        guides: list[Guide] = [GUIDES[name].make(cast, self.edit) for name in self.names]
        return Guidance(cast.schedule, guides, self.edit.scale, ratio, target)


def open_real(s: GenerateSettings, diffusion: Model) -> Source | None:
    """All real images that there are to compare with: those that are named, else the bundled ones of the weights where
    they are such as the diffusion model draws; None where there are none."""
    spec = s.data or _edit_settings(s).weights
    if spec is None or (s.data is None and spec not in BUNDLED):
        return None
    real = open_source(
        spec, layout=s.layout, reading=s.reading, negative=s.negative, positive=s.positive, splits=s.splits
    )
    if s.data is None and s.diffusion is not None:
        who, known = f"the diffusion model {diffusion.name!r}", diffusion.card.data.get("classes")
        shape = shape_misfit(real.name, real.shape, who, diffusion.takes(real.shape))
        if shape is not None or class_misfit(real.name, real.classes, who, known) is not None:
            return None
    return real


def load_drawing(s: GenerateSettings) -> Model:
    """The diffusion model; UserError where there is none, or it cannot be read."""
    if s.threads:
        torch.set_num_threads(s.threads)
    return load_role(model_paths(_edit_settings(s), s.data or "", "diffusion")[0], "diffusion", pick_device(s.device))


def canvas_of(model: Model, real: Source | None) -> Canvas:
    """What a diffusion model draws."""
    if real is not None:
        return Canvas(real.name, real.shape, real.classes, real.dtype)
    known = model.card.data.get("classes")
    negative, positive = map(str, known) if known is not None and len(known) == 2 else ("negative", "positive")
    return Canvas(model.name, model.shape, (negative, positive), np.dtype(np.uint8))


class DrawSettings(EditSettings):
    """What the making of models and guides is told, with the words of a generation."""

    to_text: str | None = None
    from_text: str | None = None

    @property
    def texts(self) -> tuple[str | None, str | None]:
        """See `EditSettings`."""
        return self.to_text, self.from_text

    @property
    def text_options(self) -> tuple[str, str]:
        """See `EditSettings`."""
        return "--text", "--negative-text"


def load(s: GenerateSettings, diffusion: Model, real: Source | None, wanted: bool) -> tuple[Cast, Canvas, Leading]:
    """The models that this takes beside the diffusion model, what they draw, and, where a class is `wanted`, what leads
    there.

    Raises:
        UserError: a model is missing, unreadable or does not fit, or cannot do what is asked.
    """
    canvas = canvas_of(diffusion, real)
    if s.text is not None or s.negative_text is not None:
        diffusion = worded(s, diffusion)
    leading = leading_of(s, diffusion, wanted)
    roles = {"diffusion", "judge", *(GUIDES[name].role for name in leading.names)}
    cast = load_models(leading.edit, s.data or "", canvas, roles, {"diffusion": diffusion})
    if leading.names:
        check_guides(cast, leading.edit)
    return cast, canvas, leading


def worded(s: GenerateSettings, diffusion: Model) -> Model:
    """The diffusion model that stands for the texts of the settings, where it reads any.

    Raises:
        UserError: nobody reads them, or they lead nowhere.
    """
    if s.text is None:
        raise UserError("--negative-text says what the image is to be less of: say with --text what it is to be.")
    edit = _edit_settings(s)
    check_said(edit)
    if diffusion.reads and "clip" not in s.guides.split("+"):
        if any(GUIDES[name].role != "diffusion" for name in _named(s, "cfg")) and s.class_ is None:
            raise UserError(f"--guides {s.guides} leads to a class: name it with --class, or use --guides cfg.")
        if not asked(diffusion, s.negative_text or NOTHING, s.text).knows_classes:
            raise say_the_same(edit)
        return asked(diffusion, s.text, s.text, s.negative_text)
    if "clip" not in s.guides.split("+"):
        raise UserError(
            f"{diffusion.name!r} reads no words, so it cannot be told --text: train one with train-diffusion "
            "--condition text, or use --guides clip and name an image-text model with --image-text."
        )
    return diffusion


def _named(s: GenerateSettings, auto: str) -> list[str]:
    return list(dict.fromkeys((auto if s.guides == "auto" else s.guides).split("+")))


def leading_of(s: GenerateSettings, diffusion: Model, wanted: bool) -> Leading:
    """Which guides are asked for; a strength of 0 asks for none.

    Raises:
        UserError: the model must be told a class and is not, or against what it does not know.
    """
    must = diffusion.conditional and not diffusion.card.told_nothing
    if not wanted:
        if must:
            raise UserError(
                f"{diffusion.name!r} must always be told a class, for it has none that means nothing: name one with "
                "--class."
            )
        return Leading((), False, _edit_settings(s))
    knows = diffusion.conditional if s.text is not None else diffusion.knows_classes
    own = "cfg" if knows else "noisy"
    names_of = _named(s, own)
    implied = [name for name in names_of if GUIDES[name].role == "diffusion"]  # by the diffusion model itself
    others = [name for name in names_of if name not in implied and s.scale]
    told = must or bool(implied and s.w == 1 and knows)
    if must and implied and s.w != 1:
        raise UserError(
            f"{diffusion.name!r} has no class that means nothing, which --w {s.w:g} weighs against: use --w 1."
        )
    names = others + (implied if s.w and not told else [])
    # Guidance multiplies all by one scale, and cfg divides its weight by it: alone it needs some scale.
    edit = _edit_settings(s, guides="+".join(names) or "both", scale=s.scale if others else 1.0, w=s.w)
    if implied and names and not told:
        edit = edit.model_copy(update={"base": "source"})  # what the walk's eps stands for: here, nothing
    return Leading(tuple(names), told, edit)


def _edit_settings(s: GenerateSettings, **more: object) -> DrawSettings:
    """What the loading of models and the making of guides ask of the settings."""
    models = ("weights", "diffusion", "guide", "image_text", "checker", "judge")
    shared = {name: getattr(s, name) for name in (*models, "device")}
    if s.weights is None and s.data is None and s.diffusion is None:
        shared["weights"] = USUAL
    shared |= {name: getattr(s, name) for name in ("threads", "precision", "batch_size", "seed")}
    away = NOTHING if s.text is not None and s.negative_text is None else s.negative_text
    words = {"to_text": s.text, "from_text": away}
    return DrawSettings(**{**shared, **words, **more})
