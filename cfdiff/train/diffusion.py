"""cfdiff train-diffusion: a U-Net that predicts the noise of x_l."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from cfdiff.data.source import require_both_classes
from cfdiff.data.values import to_model
from cfdiff.engine.loss import l_simple
from cfdiff.engine.schedule import NoiseSchedule
from cfdiff.models.checkpoint import Card
from cfdiff.models.denoiser import Denoiser
from cfdiff.models.unet import UNet, UNetConfig
from cfdiff.progress import Progress
from cfdiff.train.batches import Draws, draw_levels, drop_classes
from cfdiff.train.data import open_training_data
from cfdiff.train.loop import Trainer
from cfdiff.train.result import TrainResult
from cfdiff.train.settings import DiffusionSettings
from cfdiff.train.spaces import Encodings, open_space, settle_in, space_facts
from cfdiff.train.validate import DiffusionValidation


def train_diffusion(s: DiffusionSettings, progress: Progress | None = None) -> TrainResult:
    """Train (or continue) and write the model to `s.out`; `progress` hears of it in the place of the terminal."""
    data = open_training_data(s)
    conditional = s.condition == "class"
    if conditional:
        require_both_classes(data.train)
    space = open_space(s.space, s.autoencoder)
    image_height, image_width, image_channels = data.train.shape
    channels, height, width = space.shape(image_channels, image_height, image_width)
    config = UNetConfig(
        channels=channels,
        size=(height, width),
        patch=s.patch,
        width=s.width,
        mult=s.mult or default_mult((height, width, channels), s.patch),
        blocks=s.blocks,
        attention=s.attention,
        dropout=s.dropout,
        classes=2 if conditional else 0,
    )
    schedule = NoiseSchedule.from_config({"name": s.schedule, "T": s.T})
    torch.manual_seed(s.seed)
    trainer = Trainer(s, data, UNet(config), "diffusion", progress)
    settle_in(space, trainer)
    batches, encode = trainer.batches(), Encodings(space, data.train, s.augment)

    def loss(net: nn.Module, step: int, part: int) -> Tensor:
        batch = batches.read(step, part)
        return noise_loss(denoiser(net), encode(batch), batch.labels, batch.draws, s.drop, s.level_power)

    def denoiser(net: nn.Module) -> Denoiser:
        return Denoiser(net, schedule, s.parametrisation, conditional=conditional)

    images = to_model(data.validation.read(range(len(data.validation)))).to(trainer.device)
    labels = torch.from_numpy(data.validation.labels.astype("int64")).to(trainer.device)
    validation = DiffusionValidation(
        denoiser, space, images, data.validation.dtype, trainer.folder.path, labels if conditional else None
    )
    card = Card(
        "diffusion",
        config.model_dump(mode="json"),
        schedule.config,
        data.card,
        {},
        parametrisation=s.parametrisation,
        condition="class" if conditional else None,
        **space_facts(s.space, space, data.train.shape),
    )
    return trainer.run(loss, validation, card)


def noise_loss(
    ask: Denoiser, z0: Tensor, labels: Tensor, draws: Draws, drop: float, level_power: float = 1.0
) -> Tensor:
    """L_simple of z_0 (b, c, h, w), a mean, at levels T u^power; what is told its class (b,) is told nothing in a share
    `drop` of the cases, if it may be."""
    levels, noise = draw_levels(draws, ask.schedule.T, level_power), draws.normal(*z0.shape[1:])
    told = None  # drawn after all else, so that the other draws are those of an unconditional training
    if ask.conditional:
        told = drop_classes(draws, labels, drop) if ask.told_nothing else labels
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
