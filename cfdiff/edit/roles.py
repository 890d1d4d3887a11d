"""The models of a run, checked against each other and against the data before anything is computed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from cfdiff.data.match import class_misfit, shape_misfit
from cfdiff.data.source import Kind
from cfdiff.edit.cast import Cast
from cfdiff.edit.recipe import weights_name
from cfdiff.edit.settings import EditSettings
from cfdiff.engine.tiles import Tiles
from cfdiff.errors import UserError
from cfdiff.models.bundled import role_files, weights_folder
from cfdiff.models.checkpoint import PIXELS, Model, load_diffusion, load_model
from cfdiff.models.compiled import compile_networks
from cfdiff.models.ensemble import ensemble
from cfdiff.models.foreign import check_images, load_classifier
from cfdiff.models.given import ModelFile
from cfdiff.models.image_text import load_clip
from cfdiff.registry import GUIDES
from cfdiff.remote import shown
from cfdiff.roles import ACCEPTING, ROLES, STEERING, file_hashes, in_words, option

KINDS = {
    "diffusion": "diffusion",
    "guide": "noisy-classifier",
    "image_text": "clip",
    "checker": "clean-classifier",
    "verifier": "clean-classifier",
    "judge": "clean-classifier",
}


def load_cast(s: EditSettings, data: str, source: Kind, tiles: Tiles | None = None) -> Cast:
    """Load the models that the settings name, or the bundled ones of the data set, and check that all fit and suffice.

    With `tiles` they are to fit the tiles of the images, and what they say of an image is what they say of its tiles.

    Raises:
        UserError: a model is missing or unreadable, or does not fit the images, the schedule or the classes.
    """
    cast = load_models(s, data, source, tiles=tiles)
    for own in s.either:
        _check_needs(cast, own)
    return cast


def load_models(
    s: EditSettings,
    data: str,
    source: Kind,
    roles: Collection[str] = ROLES,
    given: Mapping[str, Model] | None = None,
    tiles: Tiles | None = None,
) -> Cast:
    """The models of some roles, the diffusion model among them, checked against the images and one another.

    `given` are those that are loaded already, by role.

    Raises:
        UserError: as `load_cast`, but that nothing is missing is not looked at.
    """
    if s.threads:
        torch.set_num_threads(s.threads)
    device, loaded = pick_device(s.device), given or {}
    models: dict[str, Model | None] = {}
    for role in ROLES:
        paths = model_paths(s, data, role) if role in roles and role not in loaded else ()
        found = [loaded[role]] if role in loaded else [load_role(path, role, device) for path in paths]
        for model in found:
            _check_model(model, role, source, tiles)
        one = ensemble(found)
        models[role] = one if one is None else replace(one, tiles=tiles)
    if not at_home(models["diffusion"], models["guide"]) and not s.guide and not _asks_guide(s):
        models["guide"] = None  # it came along with the others' folder, and nothing asks it
    if not s.image_text and not _asks(s, "image_text"):
        models["image_text"] = None  # as that
    cast = Cast(**models, device=device, precision=s.precision)  # type: ignore[arg-type]
    _check_apart(cast)
    if s.compile:
        asked = dict.fromkeys(("diffusion", *STEERING, *ACCEPTING))
        nets = [one.net for role in asked if (one := models[role]) is not None]
        compile_networks(nets, device, None if s.batch_size == "auto" else s.batch_size)
    return cast


def load_role(path: ModelFile, role: str, device: torch.device) -> Model:
    """The model of a file for a role; UserError where it is of another kind, cannot be read, or has no space."""
    if KINDS[role] == "clean-classifier":
        return load_classifier(path, device, steers=role in STEERING)
    assert isinstance(path, Path), "diffusion models and guides are files"
    if role == "image_text":
        return load_clip(path, device)
    if role != "diffusion":
        return load_model(path, KINDS[role], device)
    model = load_diffusion(path, device)
    _ = model.space  # says now what is missing
    return model


def model_paths(s: EditSettings, data: str, role: str) -> tuple[ModelFile, ...]:
    """The files of one of `ROLES` that the settings name, or those of the bundled data; () where there are none.

    Raises:
        UserError: there is no diffusion model.
    """
    given: ModelFile | tuple[ModelFile, ...] | None = getattr(s, role)
    if given:
        return given if isinstance(given, tuple) else (given,)
    weights = weights_name(s.weights, data)
    if weights is None:
        if role == "diffusion":
            raise UserError(
                f"cfdiff has no weights for {Path(shown(data)).name!r}: make some (cfdiff fit) and name their folder "
                "with --weights, or each with --diffusion, --guide, --checker and --judge."
            )
        return ()
    paths = role_files(weights_folder(weights), role)
    if not paths and role == "diffusion":
        raise UserError(
            f"The folder {weights} holds no diffusion.safetensors and no diffusion/model.safetensors: "
            f"it should hold {', '.join(ROLES)}."
        )
    return paths


def _check_model(model: Model, role: str, source: Kind, tiles: Tiles | None) -> None:
    who = f"the {role} model {model.name!r}"
    name, shape = source.name, source.shape
    if tiles is not None and (shape := tiles.shape(shape)) != source.shape:
        name = f"{name}, cut into tiles,"
    takes = model.takes(shape)
    misfit = shape_misfit(name, shape, who, takes)
    if misfit is not None and role == "diffusion" and (advice := tile_advice(source.shape, takes)) is not None:
        misfit = misfit._replace(advice=advice)  # where that one fits and another does not, the models are of two sizes
    misfit = misfit or class_misfit(source.name, source.classes, who, model.card.data.get("classes"))
    if misfit is not None:
        raise misfit.error
    check_images(model, shape, steers=role in STEERING)


def tile_advice(images: tuple[int, int, int], takes: tuple[int, int, int]) -> str | None:
    """What to do about images (H, W, C) that are larger than a model takes, in tiles or else; None for others."""
    height, width, channels = takes
    if channels != images[2] or height != width or min(images[:2]) < height:
        return None
    return f"translate or bag them in tiles (--tile {height}), or convert them (cfdiff data convert --size {height})"


def at_home(diffusion: Model | None, guide: Model | None) -> bool:
    """Whether the two run in one space; where one of them is missing nothing says that they do not."""
    if diffusion is None or guide is None:
        return True
    return (diffusion.card.space or PIXELS) == (guide.card.space or PIXELS)


def _asks_guide(s: EditSettings) -> bool:
    return any(own.smooth for own in s.either) or _asks(s, "guide")


def _asks(s: EditSettings, role: str) -> bool:
    """Whether a guide of the settings is made of the model of a role."""
    return any(GUIDES[name].role == role for own in s.either for name in own.guide_names)


def _check_apart(cast: Cast) -> None:
    """Guide and diffusion model fit; verifier and judge are none of those whose word they are to check."""
    if cast.guide is not None and not at_home(cast.diffusion, cast.guide):
        raise UserError(
            f"The guide {cast.guide.name!r} sees {_space(cast.guide)}, and the diffusion model "
            f"{cast.diffusion.name!r} runs in {_space(cast.diffusion)}: train a guide in the same space (--space, and "
            "the same --autoencoder), or use --guides clean."
        )
    if cast.guide is not None and not cast.guide.schedule.same_as(cast.schedule):
        raise UserError(
            f"The guide {cast.guide.name!r} was trained on the noise schedule {_schedule(cast.guide)}, the diffusion "
            f"model {cast.diffusion.name!r} on {_schedule(cast.diffusion)}: train a guide with "
            "--schedule-of and that model."
        )
    for role, others in (("verifier", STEERING), ("judge", (*STEERING, *ACCEPTING))):
        model: Model | None = getattr(cast, role)
        known = {part for other in others for part in file_hashes(cast.hashes.get(other, ""))}
        if model is not None and file_hashes(model.sha256) & known:
            raise UserError(
                f"The {role} is the very model that steers or accepts, so its verdict means nothing: name another "
                f"--{role}."
            )


def check_guides(cast: Cast, s: EditSettings) -> None:
    """Raise UserError where a guide of the settings has no model, or one that cannot steer."""
    for name in s.guide_names:
        role = GUIDES[name].role
        if getattr(cast, role) is None:
            others = [other for other in GUIDES if GUIDES[other].role not in (role, "diffusion", "image_text")]
            raise UserError(
                f"--guides {s.guides} needs {in_words(role)}: name one with {option(role)}, or use --guides "
                f"{' or '.join(others)}."
            )
        GUIDES[name].make(cast, s)  # says so where a model cannot steer
        if role == "guide" and cast.guide_max_level == 0:
            raise UserError(
                "The guide was at chance at every noise level when it was validated, so it cannot steer: "
                "train it longer, or use --guides clean."
            )


def _check_needs(cast: Cast, s: EditSettings) -> None:
    check_guides(cast, s)
    told = cast.diffusion.knows_classes or (s.texts != (None, None) and cast.diffusion.reads)
    if s.base != "none" and not told:
        raise UserError(
            f"--base {s.base} tells the diffusion model a class, and {cast.diffusion.name!r} knows none: train one "
            "with --condition class, or use --base none."
        )
    if s.redraw_find != "guides" and not told:
        raise UserError(
            f"--redraw-find {s.redraw_find} asks the diffusion model where a class stands, and "
            f"{cast.diffusion.name!r} knows none: train one with --condition class, or use --redraw-find guides."
        )
    if not cast.denoise.told_nothing and (s.base == "none" or s.exact):
        raise UserError(
            f"{cast.diffusion.name!r} must always be told a class, for it has none that means nothing: use "
            "--base source and not --exact."
        )
    if cast.checker is None and (s.closed_loop or (s.retries and cast.accepting is None)):
        raise UserError(
            "The closed loop and the retries need a checker: name one with --checker, or use --open-loop --retries 0."
        )
    if s.smooth and cast.guide is None:
        raise UserError("--smooth asks the guide, and there is none: name one with --guide, or leave --smooth out.")


def pick_device(name: str) -> torch.device:
    """The device of that name, or for "auto" the best one here; UserError if it cannot be used."""
    # float32 is float32 here: a GPU would round to 10 bits by itself, and at high noise x0_hat is that error times
    # 1 / sqrt(ab). Trainings, which it only speeds up, allow it again.
    torch.backends.cudnn.allow_tf32 = False
    if name == "auto":
        best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(best)
    try:
        device = torch.device(name)
        torch.empty(1, device=device).item()  # "meta" can be allocated, but not read
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"The device {name!r} cannot be used here: take --device cpu, or cuda on a machine with a GPU."
        ) from error
    return device


def _space(model: Model) -> str:
    """Where a model runs, in words."""
    told = dict(model.card.space or PIXELS)
    name = told.pop("name")
    return f"the space {name!r}" + "".join(f", {key} {str(value)[:12]}" for key, value in told.items())


def _schedule(model: Model) -> str:
    config = model.card.schedule or {}
    return f"{config.get('name')} with {config.get('T', len(config.get('betas', [])))} steps"
