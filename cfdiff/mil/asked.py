"""What the settings of a training ask for that its data, model or target leave without effect: refused, or said."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cfdiff.errors import UserError
from cfdiff.mil.batches import FEW
from cfdiff.mil.series import BagSet, Series
from cfdiff.mil.settings import DEFAULT_WEIGHTS, MilTrainSettings
from cfdiff.mil.targets import Target
from cfdiff.models.bag_network import BagNetwork
from cfdiff.registry import BAG_TARGETS, MIXTURE_LOSSES
from cfdiff.settings import changed, first_changed

OF_MIXTURES = ("losses", "weights", "versions", "low", "permute")
"""Settings that are of mixtures alone."""
OF_NEW_ONES = ("arch", "arch_kwargs")
"""Settings that shape an encoder, which one of a file has already."""
OF_ENCODERS = (*OF_NEW_ONES, "frozen")
"""Settings that are of instances that pass an encoder."""


def weights_of(s: MilTrainSettings) -> dict[str, float]:
    """Loss of mixtures -> its weight, of those that count.

    Where the losses are the default, that which the target's own loss is already is not counted twice.

    Raises:
        UserError: a weight is of no loss that is asked for, or a loss is asked for twice.
    """
    target: Target = BAG_TARGETS[s.target]
    names = s.losses.split("+")
    if target.same in names and "label" in names:
        if changed(s, "losses"):
            raise UserError(
                f"Of --target {s.target} the losses label and {target.same} are the same: leave one out of --losses."
            )
        names.remove(target.same)
    for name in s.weights:
        if name not in MIXTURE_LOSSES:
            raise UserError(f"--weights names the loss {name!r}: the known ones are {', '.join(MIXTURE_LOSSES)}.")
        twin = {"label": target.same, target.same: "label"}.get(name)
        if name not in names and twin in names:
            raise UserError(
                f"--weights names the loss {name!r}, which of --target {s.target} is the same as {twin}, and that is "
                f"asked for: give the weight to {twin}."
            )
        if name not in names:
            raise UserError(f"--weights names the loss {name!r}, which is not asked for: add it to --losses.")
    found = {name: s.weights.get(name, DEFAULT_WEIGHTS.get(name, 1.0)) for name in names}
    return {name: weight for name, weight in found.items() if weight}


def check_mixtures(s: MilTrainSettings, mixes: BagSet, mixtures: str) -> None:
    """Raise UserError where something is asked of mixtures, and there are none; `mixtures` is where they come from."""
    if mixes.series:
        return
    if option := first_changed(s, OF_MIXTURES):
        raise UserError(
            f"{option} is of mixtures, and this training has none ({mixtures}): name some with --mixtures, or "
            "leave it out."
        )


def check_encoder_options(s: MilTrainSettings, bags: BagSet) -> None:
    """Raise UserError where something is asked of an encoder that instances do not pass, or that is made already."""
    turns = ("augment",) if changed(s, "augment") and s.augment != "none" else ()
    if not bags.images:
        if option := first_changed(s, [*OF_ENCODERS, *turns]):
            raise UserError(f"{option} is of an encoder of images, but {bags.name} holds features: leave it out.")
        return
    if s.frozen and s.encoder is None:
        raise UserError(
            "--frozen keeps the encoder as it is, and without --encoder its weights are random: name a classifier with "
            "--encoder, or let it learn."
        )
    if s.encoder is not None and (option := first_changed(s, OF_NEW_ONES)):
        raise UserError(f"{option} shapes a new encoder, and that of --encoder has its shape: leave one of them out.")
    if s.frozen and turns:
        raise UserError("--augment turns images, and with --frozen each is encoded once, as it is: leave it out.")


def silences(s: MilTrainSettings, mixes: BagSet, net: BagNetwork) -> Iterator[str]:
    """Sentences on losses that are 0 whatever is learned, and on low mixes that are not there."""
    if not mixes.series:
        return
    asked, still = weights_of(s), ["embedding", *(["attention"] if net.pooling.apart else [])]
    zero = [name for name in asked if name in still]
    if zero and not has_shams(mixes):
        which = f"losses {' and '.join(zero)} are" if len(zero) > 1 else f"loss {zero[0]} is"
        yield f"No instance of a mix is a sham, so the {which} always 0: cfdiff bag --untouched sham makes them."
    if not any(np.isin(one.positives, FEW).any() for one in mixes.series):
        yield "No mix has one or two positives, so --low has nothing to draw: cfdiff bag --sweep ... --counts 1,2 does."


def has_shams(mixes: BagSet) -> bool:
    """Whether an instance of unchanged class has other contents in two versions of its bag."""
    return any(_moves(mixes.contents, one, k) for one in mixes.series for k in (0, 1))


def _moves(contents: np.ndarray, one: Series, k: int) -> bool:
    """Whether an instance differs between versions in all of which it is of class k."""
    of_class = one.labels == k
    first = one.rows[of_class.argmax(0), np.arange(one.size)]  # in the first version that is of it
    other = of_class & (one.rows != first)
    known = np.broadcast_to(first, one.rows.shape)[other]
    return bool((contents[one.rows[other]] != contents[known]).any())
