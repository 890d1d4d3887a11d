"""Bags in memory: contents of instances, each once, and bags as lists of places in them, at one mix or several."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from cfdiff.engine import seed_of
from cfdiff.errors import UserError

UNKNOWN = -1
"""The label of an instance, or the class of a bag, of which nothing is said."""


@dataclass(frozen=True, eq=False)
class Series:
    """One bag in V versions (mixes) of the same n instances, in the same order.

    Attributes:
        name: of the bag.
        group: patient; models may not be measured on patients that they learned from.
        rows: (V, n) int64 places in the contents.
        labels: (V, n) int8 of each instance, or UNKNOWN.
        classes: (V,) int8 class of the bag, or UNKNOWN.
        real: whether the first version is the bag as it was found.
        split: as the data calls it; "" for none.
        ids: (n,) str of the instances in their source; None where bags are features.
        mix_of: the bag of which a table of `cfdiff bag --export` says that it is a mix; "" where none does.
        requested: the mix that such a table says was asked for; "" where none does.
    """

    name: str
    group: str
    rows: np.ndarray
    labels: np.ndarray
    classes: np.ndarray
    real: bool = True
    split: str = ""
    ids: np.ndarray | None = None
    mix_of: str = ""
    requested: str = ""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def size(self) -> int:
        """n."""
        return self.rows.shape[1]

    @property
    def known(self) -> bool:
        """Whether the label of every instance is known."""
        return bool((self.labels != UNKNOWN).all())

    @property
    def positives(self) -> np.ndarray:
        """(V,) int64 positive instances."""
        return (self.labels == 1).sum(1)

    @property
    def mixes(self) -> np.ndarray:
        """(V,) fraction of positives."""
        return self.positives / self.size

    def version(self, which: Sequence[int] | np.ndarray) -> Series:
        """Only some versions."""
        chosen = np.asarray(which, dtype=np.int64)
        real = self.real and len(chosen) > 0 and chosen[0] == 0
        return replace(
            self, rows=self.rows[chosen], labels=self.labels[chosen], classes=self.classes[chosen], real=real
        )

    def part(self, places: np.ndarray, name: str) -> Series:
        """The bag of some of its instances; its class is anew that of its instances where these are known."""
        labels = self.labels[:, places]
        classes = class_of(labels) if self.known else self.classes
        ids = None if self.ids is None else self.ids[places]
        return replace(self, name=name, rows=self.rows[:, places], labels=labels, classes=classes, ids=ids)


@dataclass(frozen=True, eq=False)
class BagSet:
    """Bags and the contents of their instances.

    Attributes:
        name: of the data, for messages and cards.
        contents: (P, D) float32 features, or (P, H, W, C) images as stored.
        series: the bags.
        names: of the negative and the positive class.
        models: role -> sha256 of what edited them, as `named_models` writes it; empty for data, or where none is told.
        encoder: what made the features; "" for images, or where none is told.
    """

    name: str
    contents: np.ndarray
    series: tuple[Series, ...]
    names: tuple[str, str] = ("negative", "positive")
    models: tuple[tuple[str, str], ...] = ()
    encoder: str = ""

    @property
    def images(self) -> bool:
        """Whether instances are images."""
        return self.contents.ndim == 4

    @property
    def groups(self) -> list[str]:
        """Patients, sorted."""
        return sorted({one.group for one in self.series})

    @property
    def group_of_ids(self) -> dict[str, str]:
        """The patient of each instance that has an id in its source."""
        return {i: one.group for one in self.series if one.ids is not None for i in one.ids.tolist()}

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) over all that a training may depend on."""
        h = hashlib.sha256(f"{self.contents.shape}{self.contents.dtype}{self.names}{self.models}".encode())
        h.update(np.ascontiguousarray(self.contents).tobytes())
        for one in self.series:
            h.update(f"\0{one.name}\0{one.group}\0{one.real}\0{one.rows.shape}".encode())
            for array in (one.rows, one.labels, one.classes):
                h.update(np.ascontiguousarray(array).tobytes())
        return h.hexdigest()

    def only(self, keep: Callable[[Series], bool]) -> BagSet:
        """The bags for which `keep` is true."""
        return replace(self, series=tuple(one for one in self.series if keep(one)))

    def cut(self, size: int | None, seed: int) -> BagSet:
        """Bags of at most `size` instances: larger ones are dealt into parts of nearly equal size, by hash of the seed.

        A part of a positive bag may hold no positive: its class is anew that of its instances, where they are known.
        """
        if size is None:
            return self
        parts: list[Series] = []
        for one in self.series:
            k = -(-one.size // size)
            if k == 1:
                parts.append(one)
                continue
            order = np.random.default_rng(seed_of(seed, f"cut/{one.name}")).permutation(one.size)
            parts += [one.part(np.sort(order[i::k]), f"{one.name}#{i + 1}") for i in range(k)]
        return replace(self, series=tuple(parts))

    def joined(self, other: BagSet) -> BagSet:
        """These bags, then those of another set of the same kind of instances.

        Raises:
            UserError: the instances are of other kinds or widths.
        """
        check_contents(self, other)
        moved = tuple(replace(one, rows=one.rows + len(self.contents)) for one in other.series)
        contents = np.concatenate([self.contents, other.contents])
        models = tuple(sorted({*self.models, *other.models}))
        encoder = self.encoder or other.encoder
        return replace(self, contents=contents, series=self.series + moved, models=models, encoder=encoder)


def named_models(models: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Role -> what a file says of the hashes of its models, in a form that compares."""
    return tuple(sorted((role, json.dumps(value)) for role, value in models.items()))


def class_of(labels: np.ndarray) -> np.ndarray:
    """(V,) int8: positive where any instance (V, n) is, the standard assumption of multiple-instance learning."""
    return (labels == 1).any(axis=-1).astype(np.int8)


def check_contents(first: BagSet, second: BagSet) -> None:
    """Raise UserError unless the instances of both are of one kind and size."""
    if first.images != second.images:
        kinds = [f"{one.name} holds {'images' if one.images else 'features'}" for one in (first, second)]
        raise UserError(f"{kinds[0]} and {kinds[1]}: give both as one or the other (cfdiff bag --export).")
    if first.contents.shape[1:] != second.contents.shape[1:] or (
        first.images and first.contents.dtype != second.contents.dtype
    ):
        what = "images" if first.images else "features"
        raise UserError(
            f"{second.name} has {what} of {shape_words(second.contents)}, but {first.name} of "
            f"{shape_words(first.contents)}: make both with the same model, or from the same data."
        )
    check_encoder(first.encoder, first.name, second.encoder, second.name)


def check_encoder(first: str, one: str, second: str, other: str) -> None:
    """Raise UserError where the features of two sets of bags are of other encoders: their numbers mean other things.

    Args:
        first, second: the encoders, "" for unknown. one, other: what a message calls the sets.
    """
    if first and second and first != second:
        names = [told.split()[0] for told in (second, first)]
        how = f"other weights of {names[0]}" if names[0] == names[1] else " and ".join(names)
        raise UserError(
            f"The features of {other} are of another encoder than those of {one} ({how}): export both with the same "
            "--features or judge."
        )


def shape_words(contents: np.ndarray) -> str:
    """ "512 numbers", or "48x48x1 uint8"."""
    if contents.ndim == 2:
        return f"{contents.shape[1]} numbers"
    return f"{'x'.join(map(str, contents.shape[1:]))} {contents.dtype}"
