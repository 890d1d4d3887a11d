"""Checks of the images: do they fit the models, do their values make sense, do they survive being saved."""

from __future__ import annotations

import numpy as np

from cfdiff.data.match import Misfit, class_misfit, shape_misfit
from cfdiff.data.values import to_model, to_saved, unit
from cfdiff.doctor.context import Context, Line
from cfdiff.models.checkpoint import Model
from cfdiff.models.foreign import foreign_members

DARK = 0.25
"""Images whose brightest pixel is below this share of full scale are likely stored in the wrong range."""
UNLIKE, FAINT = 3.0, 0.02
FLOAT_ROUNDING = 1e-6


def shapes(context: Context) -> list[Line]:
    """Height, width and channels of the images against each model."""
    lines = []
    for role, model in context.models.items():
        misfit = shape_misfit(context.data.name, context.data.shape, f"the {role}", model.takes(context.data.shape))
        figure = f"images {size(context.data.shape)}, model {size(model.takes(context.data.shape))}{_resized(model)}"
        advice = "" if misfit is None else _advice(misfit)
        lines.append(Line(f"size ({role})", "fail" if misfit else "ok", figure, advice))
    return lines


def _resized(model: Model) -> str:
    """What a described classifier makes of them."""
    sizes = {size for net in foreign_members(model) if not isinstance(size := net.description.size, str)}
    return "".join(f", resized to {height}x{width}" for height, width in sorted(sizes))


def values(context: Context) -> list[Line]:
    """The range of pixel values in [0, 1] units; constant images; data stored in the wrong range."""
    images = unit(context.stored)
    low, high = float(images.min()), float(images.max())
    constant = int((images.max(axis=(1, 2, 3)) == images.min(axis=(1, 2, 3))).sum())
    figure = f"{context.data.dtype}, from {low:.3f} to {high:.3f} of full scale, {constant} of one value only"
    found = {"low": low, "high": high, "constant": float(constant)}
    if high == 0:
        return [Line("values", "warn", figure, "Every pixel is 0: look at what the reader takes as images.", found)]
    if constant:
        return [Line("values", "warn", figure, "Images of one value show nothing: remove them.", found)]
    unlike = _unlike_the_training(context, float(images.mean()))
    if unlike:
        return [Line("values", "warn", f"{figure}, mean {images.mean():.3f}", unlike, found)]
    if high < DARK:
        advice = (
            "The images use a small part of their range (12 bits stored as 16, or 0 to 1 divided by 255 again?): "
            "scale them as the models' training data were."
        )
        return [Line("values", "warn", figure, advice, found)]
    return [Line("values", "ok", figure, values=found)]


def _unlike_the_training(context: Context, mean: float) -> str:
    """What to do where the images are far brighter or darker than those that a model learned from; "" where not.

    Far: beyond UNLIKE of the standard deviations of single images. Cards of older models do not tell.
    """
    for role, model in context.models.items():
        told = model.card.data.get("brightness")
        if told is not None and abs(mean - told["mean"]) > max(UNLIKE * told["std"], FAINT):
            return (
                f"The {role} learned from images of mean {told['mean']:.3f} (deviation {told['std']:.3f}): are these "
                "inverted, or scaled otherwise? Make them alike, or train on these."
            )
    return ""


def classes(context: Context) -> list[Line]:
    """How many images of each class, and whether each model's card calls the same class positive."""
    names = context.data.classes
    counts = [int((context.labels == k).sum()) for k in (0, 1)]
    figure = f"negative {names[0]} ({counts[0]} images), positive {names[1]} ({counts[1]} images)"
    missing = [name for name, count in zip(names, counts, strict=True) if not count]
    if missing:
        advice = (
            f"There is no image of {missing[0]!r} here, so the direction cannot be checked: choose another --split."
        )
        lines = [Line("classes", "warn", figure, advice)]
    else:
        lines = [Line("classes", "ok", figure)]
    for role, model in context.models.items():
        told = model.card.data.get("classes")
        misfit = class_misfit(context.data.name, names, "this model", told)
        if misfit is not None:
            lines.append(Line(f"classes ({role})", "fail", misfit.problem, _advice(misfit)))
    return lines


def _advice(misfit: Misfit) -> str:
    return f"{misfit.advice[0].upper()}{misfit.advice[1:]}."


def round_trip(context: Context) -> list[Line]:
    """to_saved(to_model(x)) against x: an image that nothing changed must be saved as it was."""
    images = context.stored
    back = to_saved(to_model(images), images.dtype)
    error = float(np.abs(unit(back).astype(np.float64) - unit(images)).max())
    step = "none (float)" if images.dtype.kind == "f" else f"{rounding_step(images.dtype):.2g}"
    figure = f"largest error {error:.1g}, rounding step {step}"
    if error > (FLOAT_ROUNDING if images.dtype.kind == "f" else 0):
        return [Line("saving", "fail", figure, "Save the images as uint8 or uint16 first.", {"error": error})]
    return [Line("saving", "ok", figure, values={"error": error})]


def rounding_step(dtype: np.dtype) -> float:
    """The step between two values of a stored image in [0, 1] units; 0 for floats."""
    return 0.0 if dtype.kind == "f" else 1 / float(np.iinfo(dtype).max)


def size(shape: tuple[int, int, int]) -> str:
    """(H, W, C) in words."""
    return f"{shape[0]}x{shape[1]}, {shape[2]} channel{'s' if shape[2] > 1 else ''}"
