"""A trained bag model and the real bags that it is asked about, which it did not learn from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from cfdiff.data.splitting import TEST, spelled
from cfdiff.edit.roles import pick_device
from cfdiff.engine import seed_of
from cfdiff.errors import UserError
from cfdiff.mil.data import IMAGES_A_BAG, limited
from cfdiff.mil.series import BagSet, check_encoder, shape_words
from cfdiff.mil.settings import MilReadSettings
from cfdiff.mil.sources import open_real
from cfdiff.models.bag_network import BagNetwork
from cfdiff.models.checkpoint import Model, load_model


@dataclass(frozen=True, eq=False)
class Opened:
    """A bag model and what it is asked about.

    Attributes:
        model, net, device: the model, and where it is.
        bags: the real bags, of the split `split`.
        patients: the patient of each instance of the whole data that has an id, whatever its split.
        notes: sentences on what was left out.
    """

    model: Model
    net: BagNetwork
    device: torch.device
    bags: BagSet
    split: str
    patients: dict[str, str]
    notes: tuple[str, ...] = ()

    @property
    def target(self) -> str:
        """What it learned to say, a name of registry.BAG_TARGETS."""
        return str(self.model.card.training["settings"]["target"])


def open_model(s: MilReadSettings) -> Opened:
    """Open the model and the bags.

    Raises:
        UserError: either cannot be used, the instances are not such as the model learned from, or all patients are.
    """
    if s.threads:
        torch.set_num_threads(s.threads)
    device = pick_device(s.device)
    if not s.model.is_file():
        raise UserError(
            f"There is no bag model {str(s.model)!r}: make one with cfdiff mil train, or name it with --model."
        )
    model = load_model(s.model, "bag-classifier", device)
    net = model.net
    assert isinstance(net, BagNetwork)
    told: dict[str, Any] = model.card.training["settings"]
    whole = open_real(s, s.labels, None)
    check_fits(model, whole)
    patients, notes = whole.group_of_ids, list[str]()
    split = s.split or spelled(TEST, {one.split for one in whole.series if one.split})
    if split is not None:
        known = sorted({one.split for one in whole.series})
        if wrong := [word for word in split.split("+") if word not in known]:
            raise UserError(f"{whole.name} has no split {wrong[0]!r}: the known ones are {', '.join(known)}.")
        whole = whole.only(lambda one: one.split in split.split("+"))
    size = s.bag_size or told.get("bag_size") or (IMAGES_A_BAG if whole.images else None)
    learned = set(model.card.data.get("groups", []))
    if not s.known_groups:
        strange = whole.only(lambda one: one.group not in learned)
        if not strange.series:
            raise UserError(
                f"The model learned from every patient of {whole.name}: choose another --split, or measure on known "
                "ones with --known-groups."
            )
        if left := len(whole.series) - len(strange.series):
            notes.append(
                f"{left} of {len(whole.series)} bags are of patients that the model learned from, and left out "
                "(--known-groups lets them in)."
            )
        whole = strange
    bags = limited(whole.cut(size, s.seed), s.limit, lambda one: seed_of(s.seed, f"limit/{one.name}"))
    return Opened(model, net.eval(), device, bags, split or "all", patients, tuple(notes))


def check_fits(model: Model, bags: BagSet) -> None:
    """Raise UserError where the instances are not such as the model takes, or features of another encoder."""
    image = model.card.image
    config: Any = model.net.config
    wanted = f"{config.features} numbers" if image is None else f"{'x'.join(map(str, image))}"
    fits = bags.images == (image is not None) and bags.contents.shape[1:] == (
        (config.features,) if image is None else tuple(image)
    )
    if not fits:
        kind = "features" if image is None else "images"
        raise UserError(
            f"The model {model.name} takes {kind} of {wanted} an instance, but {bags.name} has "
            f"{shape_words(bags.contents)}: give data as it learned from."
        )
    check_encoder(str(model.card.data.get("encoder") or ""), f"the model {model.name}", bags.encoder, bags.name)


def thinned(bags: BagSet, most: float, seed: int) -> BagSet:
    """The same bags with at most the fraction `most` of positives, at least one in each that had any; the rest leave.

    So n changes: with q negatives, k <= most (q + k).

    Raises:
        UserError: the labels of instances are not known.
    """
    series = []
    for one in bags.series:
        if not one.known:
            raise UserError(f"--most-positives needs the label of every instance, which {bags.name} does not say.")
        positives = np.flatnonzero(one.labels[0] == 1)
        negatives = one.size - len(positives)
        most_here = 0 if len(positives) == 0 else max(1, int(most * negatives / max(1e-9, 1 - most)))
        if len(positives) > most_here and negatives:
            rng = np.random.default_rng(seed_of(seed, f"thin/{one.name}"))
            kept = np.sort(np.concatenate([np.flatnonzero(one.labels[0] != 1), rng.permutation(positives)[:most_here]]))
            one = one.part(kept, one.name)
        series.append(one)
    return replace(bags, series=tuple(series))
