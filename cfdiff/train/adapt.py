"""cfdiff adapt: a trained diffusion model learns a new laboratory from a few images, and is kept from forgetting.

    loss = L_simple(new images) + prior L_simple(prior images)

The prior images are drawn by the model itself before it changes (DreamBooth: Ruiz et al. 2023, section 3.2), or taken
of the data that it was trained on, where that is at hand. What is trained are additions of low rank (models/lora.py)
or all weights; what is saved is an ordinary diffusion model.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cfdiff.data.bundled import card_sha256
from cfdiff.data.match import class_misfit, shape_misfit
from cfdiff.data.open import open_source, open_told
from cfdiff.data.source import Source, random_subset
from cfdiff.data.splitting import TRAIN, VAL, own_split
from cfdiff.data.values import to_model
from cfdiff.engine.noise import NoiseSource
from cfdiff.errors import UserError
from cfdiff.models.checkpoint import Card, Model, load_own_diffusion
from cfdiff.models.denoiser import Denoiser
from cfdiff.models.lora import low_rank, merged, need_peft
from cfdiff.models.prompted import Prompted
from cfdiff.models.space import encoded
from cfdiff.progress import Progress
from cfdiff.remote import shown
from cfdiff.train.batches import Draws
from cfdiff.train.beginning import as_stored
from cfdiff.train.data import KEPT_BYTES, Also, Named, TrainingData, open_training_data
from cfdiff.train.diffusion import noise_loss
from cfdiff.train.loop import Trainer
from cfdiff.train.result import TrainResult
from cfdiff.train.settings import AdaptSettings
from cfdiff.train.spaces import Encodings, settle_in
from cfdiff.train.validate import DiffusionValidation, drawn, validate

DRAWN_AT_ONCE = 16


def adapt(s: AdaptSettings, progress: Progress | None = None) -> TrainResult:
    """Adapt (or go on) and write the model to `s.out`; `progress` hears of it in the place of the terminal.

    The result has `val_loss` on new images and, with `old`, `val_loss_old`, each beside what it was before.

    Raises:
        UserError: images and model do not fit, or the model is none of our own files; said before any training.
    """
    model = load_own_diffusion(s.diffusion, "--diffusion")
    s = as_stored(s, model)
    if not s.low_rank and "rank" in s.model_fields_set:
        raise UserError(
            f"--rank {s.rank} is of additions of low rank, and --all-weights trains the weights themselves: give one "
            "of the two."
        )
    if s.low_rank and not s.rank and s.weight_decay:
        raise UserError("--rank 0 changes nothing, and --weight-decay would: leave one of them out.")
    if s.low_rank and s.rank:
        need_peft()
    data = _open_new(s)
    _check(data.train, model)
    old = None if s.old is None else _open_old(s, model)
    torch.manual_seed(s.seed)
    net = copy.deepcopy(model.net)
    net = low_rank(net, s.rank) if s.low_rank and s.rank else net.requires_grad_(True)
    if isinstance(net, Prompted):
        net.encoder.requires_grad_(False)  # what words mean does not hang on the laboratory
    trainer = Trainer(s, _told(data, model, old), net, "adapted", progress, merged)
    model = replace(model, net=model.net.to(trainer.device))
    space, schedule = model.space, model.schedule
    settle_in(space, trainer)
    batches, encode = trainer.batches(data.train), Encodings(space, data.train, s.augment)
    keep = Prior(model, s, None if old is None else old[0]) if s.prior else None

    asked = model.denoiser()

    def denoiser(changed: nn.Module) -> Denoiser:
        return replace(asked, net=changed)

    def loss(changed: nn.Module, step: int, part: int) -> Tensor:
        batch = batches.read(step, part)
        ask = denoiser(changed)
        found = noise_loss(ask, encode(batch), batch.labels, batch.draws, s.drop)
        if keep is not None:
            z0, labels = keep.read(batch.draws)
            found = found + s.prior * noise_loss(ask, z0, labels, batch.draws, s.drop)
        return found if s.rank or not s.low_rank else 0.0 * found  # of rank 0 there is nothing to learn

    images = to_model(data.validation.read(range(len(data.validation)))).to(trainer.device)
    labels = torch.from_numpy(data.validation.labels.astype("int64")).to(trainer.device)
    new = DiffusionValidation(
        denoiser,
        space,
        images,
        data.validation.dtype,
        trainer.folder.path,
        labels if model.conditional and model.card.told_nothing else None,
    )
    known = None if old is None else encoded(space, to_model(old[1].read(range(len(old[1])))).to(trainer.device))
    card = _card(model, data, schedule.config)
    return trainer.run(loss, AdaptValidation(new, denoiser, model, known), card)


class AdaptValidation:
    """How well the new images are known, and the old ones (N, c, h, w) in the space, each beside what it was before."""

    def __init__(self, new: DiffusionValidation, denoiser: Any, model: Model, old: Tensor | None) -> None:
        self.new, self.denoiser, self.model, self.old = new, denoiser, model, old
        self.before: dict[tuple[int, int], dict[str, float]] = {}

    def __call__(self, net: nn.Module, step: int, share: float) -> dict[str, Any]:
        figures, (new, old) = self.new(net, step, share), self._counts(share)
        if (new, old) not in self.before:
            known = {"val_loss_before": self._loss(self.model.net, self.new.z0[:new])}
            if self.old is not None:
                known["val_loss_old_before"] = self._loss(self.model.net, self.old[:old])
            self.before[new, old] = known
        if self.old is not None:
            figures["val_loss_old"] = self._loss(net, self.old[:old])
        return figures | self.before[new, old]

    def passes(self, share: float) -> int:
        """As `DiffusionValidation.passes`, and the old images; what was before is measured once for each share."""
        new, old = self._counts(share)
        return self.new.passes(share) + old + (0 if (new, old) in self.before else new + old)

    def _counts(self, share: float) -> tuple[int, int]:
        """New images, as `DiffusionValidation` takes them, and old ones."""
        old = 0 if self.old is None else max(1, int(share * len(self.old)))
        return max(1, int(share * len(self.new.z0))), old

    def _loss(self, net: nn.Module, z0: Tensor) -> float:
        return float(validate(self.denoiser(net), z0)["val_loss"])


class Prior:
    """What the model is to go on knowing, in its space: `prior_images` of the old data, or drawn by itself."""

    def __init__(self, model: Model, s: AdaptSettings, old: Source | None) -> None:
        device = model.device
        if old is not None:
            some = random_subset(old, s.prior_images, s.seed)
            self.z0 = encoded(model.space, to_model(some.read(range(len(some)))).to(device))
            self.labels = torch.from_numpy(some.labels.astype("int64")).to(device)
            return
        height, width, channels = model.shape
        shape = model.space.shape(channels, height, width)
        self.labels = torch.arange(s.prior_images, device=device) % 2
        noise = NoiseSource(s.seed, [f"prior/{i}" for i in range(s.prior_images)]).like(
            torch.empty(s.prior_images, *shape, device=device)
        )
        told = self.labels.split(DRAWN_AT_ONCE) if model.conditional else [None] * s.prior_images
        ask = model.denoiser()
        parts = zip(noise.split(DRAWN_AT_ONCE), told, strict=False)
        self.z0 = torch.cat([drawn(ask, x_T, of, clip=model.space.discrete) for x_T, of in parts])
        if not model.conditional:
            self.labels = torch.full_like(self.labels, -1)

    def read(self, draws: Draws) -> tuple[Tensor, Tensor]:
        """(b, c, h, w) and their classes (b,) for a batch."""
        rows = draws.integers(0, len(self.z0) - 1)
        return self.z0[rows], self.labels[rows]


def _told(data: TrainingData, model: Model, old: tuple[Source, Source] | None) -> Also:
    of = [data.train.fingerprint, model.sha256, *([] if old is None else [old[0].fingerprint])]
    return Also(Named(data.train.name, "+".join(of)))


def _open_new(s: AdaptSettings) -> TrainingData:
    """`images` of the training split to learn from, spread over groups and classes.

    The data's own validation split validates, or a tenth of the groups. Where these are too few, all images that are
    not learned from do, or else the same ones, and the card says so.
    """
    whole = open_told(s)
    try:
        data = open_training_data(s)
        return replace(data, train=random_subset(data.train, s.images, s.seed))
    except UserError:
        if whole.splits is not None or s.split is not None or s.val_split is not None:
            raise
    train = random_subset(whole, s.images, s.seed)
    others = whole.select(np.flatnonzero(~np.isin(whole.ids, train.ids)))
    validation, name = (random_subset(others, s.val_limit, s.seed), "others") if len(others) else (train, "the same")
    known = card_sha256(s.data)
    return TrainingData(train.in_memory(KEPT_BYTES), validation.in_memory(KEPT_BYTES), "all", name, known)


def _open_old(s: AdaptSettings, model: Model) -> tuple[Source, Source]:
    """Old images to learn from, and others to validate on."""
    assert s.old is not None
    whole = open_source(s.old, negative=s.negative, positive=s.positive, reading=s.reading)
    _check(whole, model)
    parts = [own_split(whole, kind) for kind in (TRAIN, VAL)]
    if None in parts:
        raise UserError(
            f"--old {shown(s.old)} has no splits to train and to validate on: split it (cfdiff data split), or leave "
            "--old out."
        )
    return whole.narrow(parts[0]), whole.narrow(parts[1], limit=s.val_limit)


def _check(source: Source, model: Model) -> None:
    misfit = shape_misfit(source.name, source.shape, f"the diffusion model {model.name!r}", model.shape)
    if misfit is None and model.conditional:
        misfit = class_misfit(source.name, source.classes, f"the model {model.name!r}", model.card.data.get("classes"))
    if misfit is not None:
        raise misfit.error


def _card(model: Model, data: TrainingData, schedule: dict[str, Any]) -> Card:
    """The card of the adapted model: that of the old one, which has learned from the new groups, too."""
    new = data.card
    groups = sorted({*model.card.data.get("groups", []), *new["groups"]})
    told = {**model.card.data, "groups": groups, "brightness": new["brightness"]}  # by which doctor knows its images
    told |= {"adapted_to": new, "adapted_from": model.sha256}
    return replace(model.card, data=told, schedule=schedule, training={})
