"""Do images and a model belong together? The one place that knows; a run, `doctor` and `evaluate` ask it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cfdiff.data.classes import turned
from cfdiff.data.names import fold
from cfdiff.errors import UserError

Shape = tuple[int, int, int]


class Misfit(NamedTuple):
    """What is wrong and what to do, each in words that go on a sentence."""

    problem: str
    advice: str

    @property
    def sentence(self) -> str:
        """The problem, as a sentence begins."""
        return f"{self.problem[0].upper()}{self.problem[1:]}"

    @property
    def error(self) -> UserError:
        """The same, to be raised."""
        return UserError(f"{self.sentence}: {self.advice}.")


def shape_misfit(images: str, shape: Shape, model: str, takes: Shape) -> Misfit | None:
    """None where the model takes images of this shape (H, W, C). `images` and `model` are what a sentence calls them:
    "cells.npz", "the guide 'a'"."""
    if shape == takes:
        return None
    return Misfit(
        f"the images of {images} are {size_in_words(shape)}, but {model} takes {size_in_words(takes)}",
        "convert the images (cfdiff data convert --size) or train a model for them",
    )


def class_misfit(images: str, classes: Sequence[str], model: str, known: Sequence[str] | None) -> Misfit | None:
    """None unless the two orders (negative, positive) contradict each other; names are compared folded."""
    if known is None or not turned(classes, known):
        return None
    by_fold = {fold(name): name for name in classes}
    negative, positive = (by_fold.get(fold(name), str(name)) for name in known)
    return Misfit(
        f"in {images} {classes[1]!r} is the positive class and {classes[0]!r} the negative one, but to {model} "
        f"{known[1]!r} is positive and {known[0]!r} negative",
        f"set --negative {negative} --positive {positive}",
    )


def size_in_words(shape: Shape) -> str:
    """(H, W, C) as messages say it."""
    height, width, channels = shape
    return f"{height}x{width} with {channels} channel{'s' if channels > 1 else ''}"
