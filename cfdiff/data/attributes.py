"""What can be said of an image without a person: class, kind of defect, brightness and colour, and a spot on it.

Captions are made of these (`captions.py`). What is measured is measured with fixed numbers or over all images of a
source, so that a caption says the same in every split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from scipy import ndimage  # type: ignore[import-untyped]

from cfdiff.data.source import OTHER, Source, require_masks

Spot = Literal["mask", "dark", "none"]
BATCH = 256
QUARTERS = ("very dark", "dark", "bright", "very bright")
SIZES = ("small", "middle-sized", "large")
SIZE_BOUNDS = (0.006, 0.016)
"""Shares of the image's pixels below which a spot is small, and middle-sized: thirds of the malaria cells' spots."""
CENTRAL = 0.3
"""A spot whose middle is nearer to that of the object than this share of the object's reach is at the centre."""
RIM, DARKER, DEVIATIONS, LEAST = 3, 20 / 255, 3.0, 5 / 48**2
"""Of a dark spot: pixels of the object's rim that are left out, how much darker than its median it is at least (in
[0, 1] and in robust deviations), and the smallest share of the image's pixels that is one. Of the bundled cells 88 % of
the parasitized have one so, and 6 % of the uninfected."""
HUES = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
HUE_BOUNDS = (15, 45, 70, 160, 200, 255, 290, 345)
"""Degrees at which the next of `HUES` begins; beyond the last it is red again."""
PALE = 0.08
"""Mean saturation below which an image has no colour."""


@dataclass(frozen=True)
class Words:
    """How images of a source are spoken of.

    Attributes:
        noun: what is on them.
        spot: where one spot on the object is found: the data's masks, the darkest place of the object, or not at all.
        columns: columns of the data whose values are said, as "with VALUE"; several values are joined by +.
    """

    noun: str = "image"
    spot: Spot = "none"
    columns: tuple[str, ...] = ()


BUNDLED_WORDS = {
    "malaria-cells": Words("cell", "dark"),
    "malaria-cells-rgb": Words("cell", "dark"),
    "deeppcb": Words("circuit board", "mask", ("defect",)),
    "pneumoniamnist": Words("chest X-ray"),
}


def words_for(source: Source, data: str) -> Words:
    """Those of a bundled data set, else "image" with its masks where there are any."""
    return BUNDLED_WORDS.get(str(data)) or Words(spot="none" if source.mask_reader is None else "mask")


def attributes(source: Source, words: Words) -> dict[str, np.ndarray]:
    """Name -> (N,) str, what is said of each image; "" where there is nothing to say.

    `class`, the columns of `words`, and of what these do not name: `brightness` (quartiles over the source, of the
    object's own pixels: those that are not black), `colour` where images have one, `size` and `place` of the spot.

    Raises:
        UserError: a column or the masks are not there.
    """
    if words.spot == "mask":
        require_masks(source, "--spot mask", "--spot dark or none")
    found = {"class": class_names(source)}
    for name in words.columns:
        found[name] = source.column(name, "--columns")
    brightness, colour, size, place = [], [], [], []
    for start in range(0, len(source), BATCH):
        rows = np.arange(start, min(start + BATCH, len(source)))
        images = source.read(rows)
        unit = images.astype(np.float32) / (np.iinfo(images.dtype).max if images.dtype.kind == "u" else 1)
        masks = source.read_masks(rows) if words.spot == "mask" else None
        for i, image in enumerate(unit):
            gray = image.mean(axis=2)
            own = gray > 0
            brightness.append(float(gray[own].mean()) if own.any() else 0.0)
            colour.append(_colour(image, own) if image.shape[2] == 3 else "")
            spot = masks[i] if masks is not None else dark_spot(gray, own) if words.spot == "dark" else None
            size.append("" if spot is None else _size(spot))
            place.append("" if spot is None else _place(spot, own if words.spot == "dark" else np.ones_like(own)))
    bounds = np.quantile(brightness, [0.25, 0.5, 0.75])
    measured = {"brightness": np.array(QUARTERS)[np.searchsorted(bounds, brightness)]}
    if any(colour):
        measured["colour"] = np.array(colour)
    if words.spot != "none":
        measured |= {"size": np.array(size), "place": np.array(place)}
    return found | {name: values for name, values in measured.items() if name not in found}


def class_names(source: Source) -> np.ndarray:
    """(N,) str, the class of each image; "" of another than the two."""
    known = {0: source.classes[0], 1: source.classes[1], OTHER: ""}
    return np.array([known[int(label)] for label in source.labels])


def sentences(found: dict[str, np.ndarray], words: Words) -> list[str]:
    """One caption an image, of clauses that commas part: "a parasitized cell, dark, with a small spot at the left".

    Brightness and colour are one clause, "dark red".
    """
    n = len(found["class"])
    said = []
    for i in range(n):
        told = {name: str(values[i]) for name, values in found.items()}
        measured = {name: value for name, value in told.items() if name not in words.columns}
        clauses = [named(told["class"], words.noun)]
        shade = f"{measured.get('brightness', '')} {measured.get('colour', '')}".strip()
        clauses += [shade] if shade else []
        for name in words.columns:
            clauses += [f"with {_article(kind)} {kind}" for kind in told[name].split("+") if kind]
        if measured.get("size") and measured.get("place"):
            kind = "dark spot" if words.spot == "dark" else "spot"
            size = measured["size"]
            clauses.append(f"with {_article(size)} {size} {kind} at the {measured['place']}")
        said.append(", ".join(clauses))
    return said


def named(kind: str, noun: str) -> str:
    """What an image of a class is called, "an uninfected cell": the first clause of its caption."""
    subject = f"{kind} {noun}".strip()
    return f"{_article(subject)} {subject}"


def dark_spot(gray: np.ndarray, own: np.ndarray) -> np.ndarray:
    """(H, W) bool, the largest place of an object `own` that is far darker than most of it; empty where there is none.

    gray (H, W) is in [0, 1]. Far is by the median absolute deviation, so that a rough texture is no spot.
    """
    inner = ndimage.binary_erosion(own, iterations=RIM)
    if not inner.any():
        return np.zeros_like(own)
    values = gray[inner]
    median = float(np.median(values))
    deviation = 1.4826 * float(np.median(np.abs(values - median)))
    numbers, count = ndimage.label(inner & (gray < median - max(DARKER, DEVIATIONS * deviation)))
    if not count:
        return np.zeros_like(own)
    areas = np.bincount(numbers.ravel())[1:]
    largest = numbers == 1 + int(areas.argmax())
    return largest if areas.max() >= LEAST * gray.size else np.zeros_like(own)


def _size(spot: np.ndarray) -> str:
    return SIZES[int(np.searchsorted(SIZE_BOUNDS, spot.mean(), side="right"))] if spot.any() else ""


def _place(spot: np.ndarray, own: np.ndarray) -> str:
    """Where the middle of the spot lies on the object: at its centre, or towards one of four sides."""
    if not spot.any():
        return ""
    rows, columns = np.nonzero(own)
    middle = np.array([rows.mean(), columns.mean()])
    reach = max(1.0, (np.ptp(rows) + np.ptp(columns)) / 4)
    down, right = (np.array([part.mean() for part in np.nonzero(spot)]) - middle) / reach
    if np.hypot(down, right) < CENTRAL:
        return "centre"
    return ("bottom" if down > 0 else "top") if abs(down) > abs(right) else ("right" if right > 0 else "left")


def _colour(image: np.ndarray, own: np.ndarray) -> str:
    """The name of the mean hue of an RGB image (H, W, 3) in [0, 1]; "" where it is gray."""
    if not own.any():
        return ""
    r, g, b = image[own].mean(axis=0)
    most, least = max(r, g, b), min(r, g, b)
    if most == 0 or (most - least) / most < PALE:
        return ""
    spread = most - least
    sixth = ((g - b) / spread) % 6 if most == r else (b - r) / spread + 2 if most == g else (r - g) / spread + 4
    return HUES[int(np.searchsorted(HUE_BOUNDS, 60 * sixth, side="right")) % len(HUES)]


def _article(words: str) -> str:
    return "an" if words[:1].lower() in "aeiou" else "a"


def told_columns(given: str | None) -> tuple[str, ...] | None:
    """`--columns stage,stain` as names; None where it is not given."""
    return None if given is None else tuple(name.strip() for name in given.split(",") if name.strip())


def describe(
    source: Source,
    data: str | Path,
    noun: str | None = None,
    spot: Spot | None = None,
    columns: Sequence[str] | None = None,
) -> tuple[list[str], dict[str, np.ndarray]]:
    """One caption an image, and the attributes that it is made of; what is not given is as `words_for` has it."""
    usual = words_for(source, str(data))
    own = tuple(name for name in dict.fromkeys(usual.columns if columns is None else columns) if name != "class")
    words = Words(noun or usual.noun, spot or usual.spot, own)
    found = attributes(source, words)
    return sentences(found, words), found
