"""The settings of an edit, which every command that edits takes. No torch here, so that `--help` stays quick."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
)

from cfdiff.edit.recipe import fitted_splits, read_recipes, recipe_of
from cfdiff.models.given import ModelFile, check_given
from cfdiff.registry import CONTROLS, EDITS, GUIDES, SOLVERS, OneOf
from cfdiff.settings import GUIDANCE, MODEL, PATH, PLACES, REGENERATE, RUN, Recipe, Settings, reason

USUAL_BATCH = 32
"""Images at once where nothing says how many."""
MOST_AT_ONCE = 256
"""Images at once that --batch-size auto chooses at most: on a GPU they take little longer than 64, and fit no worse."""


class EditSettings(Settings):
    """How an image is edited: shared by translate and everything that edits."""

    weights: str | None = Field(
        None,
        json_schema_extra=MODEL,
        description="Bundled name or folder with the models [default: those of --data]. A recipe beside them "
        "(edit.toml) stands in place of the defaults of this page; what you say stands above it.",
    )
    diffusion: Path | None = Field(
        None,
        json_schema_extra=MODEL,
        description="Model file of the diffusion model, or a bundled one, as malaria-cells/words.",
    )
    guide: Path | None = Field(None, json_schema_extra=MODEL, description="Model file of the noise-aware guide.")
    image_text: Path | None = Field(
        None,
        json_schema_extra=MODEL,
        description="Image-text model of --guides clip: a file of cfdiff train-clip, or a folder of a CLIP model.",
    )
    checker: tuple[ModelFile, ...] = Field(
        (), json_schema_extra=MODEL, description="Model file of the clean checker; give it again for more, averaged."
    )
    verifier: tuple[ModelFile, ...] = Field(
        (),
        json_schema_extra=MODEL,
        description="Model file of the verifier, which never steers and alone accepts an edit; give it again for more, "
        "averaged.",
    )
    judge: ModelFile | None = Field(None, json_schema_extra=MODEL, description="Model file of the independent judge.")
    depth: float = Field(
        0.3, gt=0, le=1, json_schema_extra=PATH, description="How far up the noise levels, a fraction of T."
    )
    steps: PositiveInt = Field(
        15, le=100_000, json_schema_extra=PATH, description="Levels of tau up to depth: S up, S down."
    )
    encode_per_step: PositiveInt = Field(
        1,
        le=1000,
        json_schema_extra=PATH,
        description="Levels that are encoded for each step of decode, which then takes every so many of them.",
    )
    spacing: Literal["uniform", "quadratic", "logsnr"] = Field(
        "uniform", json_schema_extra=PATH, description="Spacing of tau."
    )
    guides: Annotated[str, OneOf(GUIDES, join=True, also=("both",))] = Field(
        "both",
        json_schema_extra=GUIDANCE,
        description="The guide on x_l (noisy), the checker on the x0 estimate (clean), a class-conditional diffusion "
        "model (cfg), the likeness to a text (clip), or several, joined by +.",
    )
    exact: bool = Field(
        False,
        json_schema_extra=GUIDANCE,
        description="Clean gradient through the U-Net (slow) instead of the cheap Tweedie form.",
    )
    scale: NonNegativeFloat = Field(
        20.0, allow_inf_nan=False, json_schema_extra=GUIDANCE, description="Guidance scale; 0 returns the input."
    )
    w: NonNegativeFloat = Field(
        3.0,
        allow_inf_nan=False,
        json_schema_extra=GUIDANCE,
        description="Weight of the guide cfg, in the place of --scale: eps + w (eps(target) - eps(source)).",
    )
    base: Literal["none", "source"] = Field(
        "none",
        json_schema_extra=GUIDANCE,
        description="What a class-conditional diffusion model is told without guidance: nothing, or the image's class.",
    )
    ratio: PositiveFloat | None = Field(
        0.3,
        json_schema_extra=GUIDANCE,
        description="Guidance is at most this fraction of the network's own norm; inf is no limit, the plain scale.",
    )
    target: float = Field(
        0.95, gt=0, le=1, json_schema_extra=GUIDANCE, description="The checker's confidence at which an edit is enough."
    )
    accept: float = Field(
        0.9,
        gt=0,
        le=1,
        json_schema_extra=GUIDANCE,
        description="The confidence in the image as saved under which it is tried again: the verifier's, or without "
        "one the checker's, at most --target.",
    )
    trim: float = Field(
        0.95,
        ge=0,
        le=1,
        json_schema_extra=GUIDANCE,
        description="Keep of an edit only the place that it takes: the most changed pixels with which who accepts is "
        "still so sure, or as sure as it was; 0 keeps all.",
    )
    smooth: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (),
        json_schema_extra=GUIDANCE,
        description="Accept only what convinces who accepts alone, and in the mean of its log-probabilities with the "
        "guide's at these depths too, as 0.1,0.2,0.3.",
    )
    views: Literal["none", "flip", "dihedral"] = Field(
        "none",
        json_schema_extra=GUIDANCE,
        description="Mirror images that are as good as the image: of left and right (flip), or all eight symmetries of "
        "a square (dihedral). Guides are shown another one at each level (not in latents), and who accepts must be "
        "convinced by all.",
    )
    realism: NonNegativeFloat = Field(
        4.0,
        json_schema_extra=GUIDANCE,
        description="A try after the first that is more than so many times as hard to denoise as its source is no "
        "image any more, and not accepted; 0 asks nothing.",
    )
    closed_loop: bool = Field(
        True, json_schema_extra=GUIDANCE, description="Stop guiding a sample of which the checker is sure."
    )
    early: bool = Field(
        True,
        json_schema_extra=GUIDANCE,
        description="End the walk of an image as soon as it would be accepted as it stands, at depths up to .3.",
    )
    retries: NonNegativeInt = Field(
        4,
        le=100,
        json_schema_extra=GUIDANCE,
        description="Rungs of the ladder for images below --accept: 1.5 x stronger each, then twice 1.5 x deeper.",
    )
    settle: NonNegativeInt | None = Field(
        None,
        json_schema_extra=GUIDANCE,
        description="Retries after which an image that flips climbs no further, though it is below --accept [default: "
        "it climbs on].",
    )
    edit: Annotated[str, OneOf(EDITS, join=True, also=("auto",))] = Field(
        "anchored",
        json_schema_extra=GUIDANCE,
        description="Nudge it along its path, draw a place anew, one after the other for what was not accepted "
        "(anchored+regenerate), or the smaller accepted change of both (auto).",
    )
    inversion: Literal["ddim", "fixed-point", "noise"] = Field(
        "ddim", json_schema_extra=PATH, description="How the image is encoded."
    )
    anchored: bool = Field(
        True, json_schema_extra=PATH, description="Add the residual of the unguided path back: no guidance, no change."
    )
    solver: Annotated[str, OneOf(SOLVERS)] = Field("ddim", json_schema_extra=PATH, description="Solver of the decode.")
    eta: float = Field(0.0, ge=0, le=1, json_schema_extra=PATH, description="Noise of DDIM; 0 is deterministic.")
    clip: bool = Field(False, json_schema_extra=PATH, description="Clip the x0 estimate while decoding.")
    mask: Literal["none", "auto", "data", "object"] = Field(
        "none",
        json_schema_extra=GUIDANCE,
        description="Where to edit: anywhere, where a first pass changes most (auto), the data's masks, or the object "
        "that lies on a plain ground (object).",
    )
    mask_share: float = Field(
        0.15,
        gt=0,
        le=1,
        json_schema_extra=GUIDANCE,
        description="Share of pixels of --mask auto, before it is dilated.",
    )
    redraw_depth: float = Field(
        0.8,
        gt=0,
        le=1,
        json_schema_extra=REGENERATE,
        description="How far up the noise levels the drawing begins.",
    )
    redraw_steps: PositiveInt = Field(
        20, le=100_000, json_schema_extra=REGENERATE, description="Levels from there down."
    )
    redraw_times: PositiveInt = Field(
        2, le=100, json_schema_extra=REGENERATE, description="Times each step is taken, so that inside and outside fit."
    )
    redraw_share: float = Field(
        0.05,
        gt=0,
        le=1,
        json_schema_extra=REGENERATE,
        description="Share of pixels that are the place, before growing.",
    )
    redraw_mass: float | None = Field(
        None,
        gt=0,
        le=1,
        json_schema_extra=REGENERATE,
        description="In place of --redraw-share: the place is the fewest pixels that hold this share of all that "
        "points to a place, 1.75 x more each draw; so a small lesion gets a small place and a large one a large.",
    )
    redraw_find: Literal["guides", "guides+denoiser"] = Field(
        "guides",
        json_schema_extra=REGENERATE,
        description="Who finds the place: the gradients of the guides, or with them a class-conditional diffusion "
        "model, by where it does worse told the class asked for (12 network calls an image or tile).",
    )
    redraw_grow: PositiveInt = Field(
        5, le=1023, json_schema_extra=REGENERATE, description="Side of the square that the place is dilated by, odd."
    )
    redraw_ratio: PositiveFloat | None = Field(
        0.5, json_schema_extra=REGENERATE, description="As --ratio, of the regenerating edit."
    )
    redraws: PositiveInt = Field(
        3,
        le=100,
        json_schema_extra=REGENERATE,
        description="Draws at most, each from other noise, 1.5 x stronger, in a larger place; the fourth as the first.",
    )
    towards: dict[Literal["negative", "positive"], dict[str, Any]] = Field(
        {},
        json_schema_extra=GUIDANCE,
        description='What is otherwise in edits to one class, {"positive": {"steps": 8}}: recipes hold it.',
    )
    batch_size: PositiveInt | Literal["auto"] = Field(
        "auto",
        json_schema_extra=RUN,
        description="Images at once; also the unit of crash safety. auto: as many as the memory of a GPU takes, at "
        f"most {MOST_AT_ONCE}; elsewhere {USUAL_BATCH}, or fewer where the memory is short.",
    )
    precision: Literal["no", "bf16", "fp16"] = Field(
        "no", json_schema_extra=RUN, description="Autocast of the diffusion network."
    )
    compile: bool = Field(
        False, json_schema_extra=RUN, description="Compile the networks first, which takes minutes (torch.compile)."
    )
    device: str = Field("auto", json_schema_extra=RUN, description="auto, cpu, cuda or mps.")
    threads: PositiveInt | None = Field(None, le=4096, json_schema_extra=RUN, description="CPU threads [default: all].")
    seed: int = Field(0, json_schema_extra=RUN, description="Of every image's noise, and of --limit.")

    @field_validator("checker", "verifier", mode="before")
    @classmethod
    def _several(cls, given: Any) -> Any:
        """A config file may name one as a string."""
        several = given if isinstance(given, list | tuple) else () if given is None else (given,)
        return tuple(map(check_given, several))

    @field_validator("judge", mode="before")
    @classmethod
    def _told(cls, given: Any) -> Any:
        return check_given(given)

    @field_validator("redraw_grow")
    @classmethod
    def _odd(cls, side: int) -> int:
        if side % 2 == 0:
            raise ValueError(f"a square around a pixel has an odd side, as {side + 1}")
        return side

    @field_validator("ratio", "redraw_ratio")
    @classmethod
    def _no_limit(cls, ratio: float | None) -> float | None:
        """One word for no clamp: the ladder then strengthens the scale, and JSON knows no infinity."""
        return None if ratio == math.inf else ratio

    @field_validator("towards")
    @classmethod
    def _possible(cls, tables: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Each value as its setting holds it."""
        for table in tables.values():
            if wrong := sorted(set(table) - TOWARDS_SETTINGS):
                raise ValueError(f"no setting {wrong[0]!r} may differ by the class that is asked for")
        return {target: _checked(table) for target, table in tables.items()}

    def for_target(self, target: int) -> Self:
        """The settings of edits to the class `target` (0 negative, 1 positive), which differ by it no more."""
        if not self.towards:
            return self
        own = self.towards.get("positive" if target else "negative", {})
        return super().model_copy(update={**own, "towards": {}})  # not our own, which would merge the tables

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As pydantic's; what is changed is so in edits to either class."""
        told = self.over({"towards": self.towards}, update or {}) if self.towards else update
        return super().model_copy(update=told, deep=deep)

    @property
    def either(self) -> list[Self]:
        """The settings of edits to each class; one where they are the same."""
        return [self.for_target(target) for target in (0, 1)] if self.towards else [self]

    @classmethod
    def over(cls, lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
        """What the upper settings say, they say of edits to either class, but for what they say of one."""
        below, above = lower.get("towards"), upper.get("towards", {})
        if not (isinstance(below, dict) and isinstance(above, dict)):
            return {**lower, **upper}
        tables = {target: _without(table, upper) for target, table in below.items()}
        for target, table in above.items():
            both = isinstance(table, dict) and isinstance(tables.get(target), dict)
            tables[target] = {**tables[target], **table} if both else table
        return {**lower, **upper, "towards": {target: table for target, table in tables.items() if table}}

    @classmethod
    def recipe(cls, given: Mapping[str, Any]) -> Recipe | None:
        """The recipe of the weights that `given` leads to, and the splits that they were fitted with."""
        path = cls.recipe_path(given)
        if path is None:
            return None
        found = read_recipes(path, RECIPE_SETTINGS)
        splits = fitted_splits(path.parent, _asked(cls, given, "data")) if "splits" in cls.model_fields else None
        # Who holds no lines, as a bag, edits without.
        values = {name: value for name, value in found.values.items() if name in cls.model_fields}
        return Recipe(found.where, values if splits is None else {"splits": splits, **values})

    @classmethod
    def recipe_path(cls, given: Mapping[str, Any]) -> Path | None:
        """Where it would stand; None where another diffusion model is named than that of the weights."""
        if given.get("diffusion"):
            return None
        return recipe_of(_asked(cls, given, "weights"), _asked(cls, given, "data"))

    @property
    def batch(self) -> int:
        """Images at once, as a number: the usual one for an "auto" that nothing was found for (edit/batch.py)."""
        return USUAL_BATCH if self.batch_size == "auto" else self.batch_size

    @property
    def unguided(self) -> bool:
        """Whether no guidance is asked for, so that no edit may change anything."""
        return self.scale == 0 or (self.guide_names == ["cfg"] and self.w == 0)

    @property
    def texts(self) -> tuple[str | None, str | None]:
        """Towards which text and away from which one the guide clip leads; None stands for the text of the class."""
        return None, None

    @property
    def text_options(self) -> tuple[str, str]:
        """What the options of `texts` are called."""
        return "--to-text", "--from-text"

    @property
    def lock(self) -> tuple[str, Path | None]:
        """Which lines of the source are told to the denoiser, "none" or a name of registry.CONTROLS, and by which
        file."""
        return "none", None

    @property
    def guide_names(self) -> list[str]:
        """The names in registry.GUIDES that `guides` stands for."""
        return list(dict.fromkeys(self.guides.replace("both", "noisy+clean").split("+")))


class HeldSettings(EditSettings):
    """How an image is edited whose lines may be held where they are."""

    control: Annotated[str, OneOf(CONTROLS, also=("none",))] = Field(
        "none",
        json_schema_extra=GUIDANCE,
        description="Lines of the source that must not move, told to the diffusion model by a control branch "
        "(cfdiff train-control).",
    )
    control_model: Path | None = Field(
        None,
        json_schema_extra=MODEL,
        description="Model file of --control, or the folder of a ControlNetModel of diffusers [default: "
        "control.safetensors of the weights].",
    )

    @property
    def lock(self) -> tuple[str, Path | None]:
        """See `EditSettings`."""
        return self.control, self.control_model


RECIPE_SETTINGS = frozenset(HeldSettings.model_fields) - PLACES - {"seed", "batch_size", "precision", "compile"}
"""What may stand in a recipe: how an image is edited, not where anything lies, nor on what it runs."""
TOWARDS_SETTINGS = RECIPE_SETTINGS - {"towards", "mask", "control"}
"""What may be otherwise in edits to one class; what masks are read for is not."""


def _asked(model: type[Settings], given: Mapping[str, Any], name: str) -> str | None:
    """A setting as given, or its default; None where it is none of the model's, or no word (which is said later)."""
    field = model.model_fields.get(name)
    value = given.get(name, None if field is None else field.default)
    return value if isinstance(value, str) else None


def _checked(table: dict[str, Any]) -> dict[str, Any]:
    """Settings of an edit as their fields hold them; ValueError for one that is not possible."""
    try:
        valid = EditSettings(**table)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{first['loc'][0]} = {first['input']!r}, {reason(first)}") from error
    return {name: getattr(valid, name) for name in table}


def _without(table: Any, names: Mapping[str, Any]) -> Any:
    """A table without some names; what is no table, as it is, and is said where it is validated."""
    return {name: value for name, value in table.items() if name not in names} if isinstance(table, dict) else table
