"""cfdiff train-diffusion: a U-Net that predicts the noise of x_l."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cfdiff.data.values import to_model
from cfdiff.engine.loss import l_simple
from cfdiff.engine.schedule import NoiseSchedule
from cfdiff.models.checkpoint import Card
from cfdiff.models.unet import UNet, UNetConfig
from cfdiff.train.batches import augment, draw_levels
from cfdiff.train.data import open_training_data
from cfdiff.train.loop import Trainer
from cfdiff.train.settings import DiffusionSettings
from cfdiff.train.validate import DiffusionValidation


def train_diffusion(s: DiffusionSettings) -> dict[str, Any]:
    """Train (or continue) and write the model to `s.out`; returns the last validation."""
    data = open_training_data(s)
    height, width, channels = data.train.shape
    config = UNetConfig(
        channels=channels,
        size=(height, width),
        patch=s.patch,
        width=s.width,
        mult=s.mult or default_mult(data.train.shape, s.patch),
        blocks=s.blocks,
        attention=s.attention,
        dropout=s.dropout,
    )
    schedule = NoiseSchedule.from_config({"name": s.schedule, "T": s.T})
    torch.manual_seed(s.seed)
    trainer = Trainer(s, data, UNet(config), "diffusion")
    batches = trainer.batches()

    def loss(net: nn.Module, step: int, part: int) -> Tensor:
        batch = batches.read(step, part)
        x0 = augment(batch.images, batch.draws, s.augment)
        levels = draw_levels(batch.draws, s.T, s.level_power)
        noise = batch.draws.normal(channels, height, width)
        return l_simple(schedule, lambda x, level: net(x, level - 1), x0, levels, noise).mean()

    images = to_model(data.validation.read(range(len(data.validation)))).to(trainer.device)
    validation = DiffusionValidation(schedule, config, images, data.validation.dtype, trainer.folder.path)

    return trainer.run(
        loss, validation, Card("diffusion", config.model_dump(mode="json"), schedule.config, data.card, {})
    )


def default_mult(shape: tuple[int, int, int], patch: int) -> tuple[int, ...]:
    """(1, 2, 3), or the part of it for which an (H, W, C) image can be halved: 28x28 in patches of 2 gives (1, 2)."""
    halvings = 0
    while halvings < 2 and all(side % (patch * 2 ** (halvings + 1)) == 0 for side in shape[:2]):
        halvings += 1
    return (1, 2, 3)[: halvings + 1]
