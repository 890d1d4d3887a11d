"""cfdiff train-diffusion: a U-Net that predicts the noise of x_l."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cfdiff.data.values import to_model
from cfdiff.engine.loss import l_simple
from cfdiff.engine.process import Parametrisation
from cfdiff.engine.schedule import NoiseSchedule
from cfdiff.models.checkpoint import Card, load_own_diffusion
from cfdiff.models.denoiser import Denoiser
from cfdiff.models.unet import UNet, UNetConfig
from cfdiff.progress import Progress
from cfdiff.train.batches import Draws, draw_levels, drop_told
from cfdiff.train.beginning import as_decided, beginning
from cfdiff.train.data import open_training_data
from cfdiff.train.distil import DistilledValidation, distillation
from cfdiff.train.loop import Trainer
from cfdiff.train.result import TrainResult
from cfdiff.train.settings import DiffusionSettings
from cfdiff.train.spaces import Encodings, open_space, settle_in, space_facts
from cfdiff.train.telling import telling
from cfdiff.train.validate import DiffusionValidation


def train_diffusion(s: DiffusionSettings, progress: Progress | None = None) -> TrainResult:
    """Train (or continue) and write the model to `s.out`; `progress` hears of it in the place of the terminal."""
    data = open_training_data(s)
    model = None if s.init is None else load_own_diffusion(s.init, "--init")
    s = s if model is None else as_decided(s, model)
    told = telling(s, data)
    space = open_space(s.space, s.autoencoder)
    facts = space_facts(s.space, space, data.train.shape)
    image_height, image_width, image_channels = data.train.shape
    channels, height, width = space.shape(image_channels, image_height, image_width)
    begin = None if model is None else beginning(s, model, told, facts, (channels, height, width))
    if begin is None:
        shape = UNetConfig(
            channels=channels,
            size=(height, width),
            patch=s.patch,
            width=s.width,
            mult=s.mult or default_mult((height, width, channels), s.patch),
            blocks=s.blocks,
            attention=s.attention,
            dropout=s.dropout,
            classes=told.classes,
            tokens=told.width,
        )
        schedule = NoiseSchedule.from_config({"name": s.schedule, "T": s.T})
        parametrisation: Parametrisation = s.parametrisation
    else:
        shape = begin.shape.model_copy(update={"classes": told.classes, "tokens": told.width})
        schedule, parametrisation = begin.model.schedule, begin.model.denoiser().parametrisation
    torch.manual_seed(s.seed)
    unet = UNet(shape)
    network, config = told.network(unet), told.config(unet)
    if begin is not None:
        begin.put_into(network)
    taught = distillation(s, model, told.condition)
    trainer = Trainer(s, told.data, network, "diffusion", progress)
    if taught is not None:
        taught.to(trainer.device)
    settle_in(space, trainer)
    batches, encode = trainer.batches(data.train), Encodings(space, data.train, s.augment)

    def loss(net: nn.Module, step: int, part: int) -> Tensor:
        batch = batches.read(step, part)
        z0, student = encode(batch), denoiser(net)
        if taught is None:
            return noise_loss(student, z0, told.of(batch), batch.draws, s.drop, s.level_power)
        drawn = draw_noise(student, z0, told.of(batch), batch.draws, s.drop, s.level_power)
        return taught.distance(student, z0, drawn.told, drawn.levels, drawn.noise).mean()

    def denoiser(net: nn.Module) -> Denoiser:
        return Denoiser(net, schedule, parametrisation, conditional=told.condition is not None)

    images = to_model(data.validation.read(range(len(data.validation)))).to(trainer.device)
    known = None if told.validation is None else told.validation.to(trainer.device)
    plain = DiffusionValidation(denoiser, space, images, data.validation.dtype, trainer.folder.path, known)
    validation = plain if taught is None else DistilledValidation(plain, taught)
    card = Card(
        "diffusion",
        config,
        schedule.config,
        data.card if begin is None else begin.also(data.card, trainer.folder),
        {},
        parametrisation=parametrisation,
        condition=told.condition,
        **facts,
    )
    return trainer.run(loss, validation, card)


class Drawn(NamedTuple):
    """What a step draws for its images: levels (b,) int64, noise as z_0, and what is told of them, if anything."""

    levels: Tensor
    noise: Tensor
    told: Tensor | None


def draw_noise(
    ask: Denoiser, z0: Tensor, told: Tensor | None, draws: Draws, drop: float, level_power: float = 1.0
) -> Drawn:
    """Levels T u^power and noise for z_0 (b, c, h, w); a conditional network is told classes (b,) or codes (b, n), and
    nothing in a share `drop` of the cases, if it may be."""
    levels, noise = draw_levels(draws, ask.schedule.T, level_power), draws.normal(*z0.shape[1:])
    if not ask.conditional or told is None:
        told = None
    elif ask.told_nothing:  # drawn after all else, so that the other draws are those of an unconditional training
        told = drop_told(draws, told, drop)
    return Drawn(levels, noise, told)


def noise_loss(
    ask: Denoiser, z0: Tensor, told: Tensor | None, draws: Draws, drop: float, level_power: float = 1.0
) -> Tensor:
    """L_simple of z_0, a mean, with what `draw_noise` draws."""
    levels, noise, told = draw_noise(ask, z0, told, draws, drop, level_power)
    return l_simple(ask.schedule, partial(ask, condition=told), z0, levels, noise).mean()


def default_mult(shape: tuple[int, int, int], patch: int) -> tuple[int, ...]:
    """(1, 2, 3), or the part of it for which an (H, W, C) image can be halved: 28x28 in patches of 2 gives (1, 2).

    Never down to a single pixel, of which a group norm can say nothing.
    """
    halvings = 0
    while halvings < 2:
        step = patch * 2 ** (halvings + 1)
        if any(side % step or side < 2 * step for side in shape[:2]):
            break
        halvings += 1
    return (1, 2, 3)[: halvings + 1]
