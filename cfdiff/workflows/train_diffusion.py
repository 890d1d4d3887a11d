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
from cfdiff.workflows.batches import Batches, augment, draw_levels, train_and_validation
from cfdiff.workflows.settings import DiffusionSettings
from cfdiff.workflows.trainer import Trainer, start

BUCKETS = 10


def train_diffusion(s: DiffusionSettings) -> dict[str, Any]:
    """Train (or continue) and write the model to `s.out`; returns the last validation."""
    train, validation = train_and_validation(s)
    accelerator, out = start(s, f"diffusion-{train.name}")
    height, width, channels = train.shape
    config = UNetConfig(
        channels=channels,
        size=(height, width),
        patch=s.patch,
        width=s.width,
        mult=s.mult,
        blocks=s.blocks,
        attention=s.attention,
        dropout=s.dropout,
    )
    schedule = NoiseSchedule.from_config({"name": s.schedule, "T": s.T})
    torch.manual_seed(s.seed)
    trainer = Trainer(s, out, accelerator, UNet(config))
    batches = Batches(
        train,
        s.batch_size // s.accumulate,
        s.seed,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
    )
    device = accelerator.device

    def loss(net: nn.Module, step: int) -> Tensor:
        x0, _ = batches.read(step)
        x0 = augment(x0, s.augment).to(device)
        levels = draw_levels(len(x0), s.T, s.level_power).to(device)
        return l_simple(schedule, lambda x, level: net(x, level - 1), x0, levels, torch.randn_like(x0)).mean()

    images = to_model(validation.read(range(len(validation))))

    def evaluate(net: nn.Module, step: int) -> dict[str, Any]:
        return validate(net, schedule, images.to(device))

    def card(facts: dict[str, Any]) -> Card:
        data = {"name": train.name, "fingerprint": train.fingerprint, "split": s.split, "images": len(train)}
        return Card("diffusion", config.model_dump(mode="json"), schedule.config, data, {**_told(s), **facts})

    return trainer.run(loss, evaluate, card)


def _told(s: DiffusionSettings) -> dict[str, Any]:
    return {"settings": s.model_dump(mode="json", exclude={"out", "force", "data"})}


@torch.no_grad()
def validate(net: nn.Module, schedule: NoiseSchedule, images: Tensor, batch: int = 64) -> dict[str, Any]:
    """L_simple by tenth of the levels on fixed levels and noise, so that runs compare."""
    generator = torch.Generator().manual_seed(0)
    levels = (torch.arange(len(images)) * 997 % schedule.T) + 1
    noise = torch.randn(images.shape, generator=generator).to(images.device)
    losses = torch.cat(
        [
            l_simple(schedule, lambda x, level: net(x, level - 1), x0, l.to(images.device), e).cpu()
            for x0, l, e in zip(images.split(batch), levels.split(batch), noise.split(batch), strict=True)
        ]
    )
    bucket = (levels - 1) * BUCKETS // schedule.T
    by_level = {
        f"{k * schedule.T // BUCKETS}+": float(losses[bucket == k].mean())
        for k in range(BUCKETS)
        if (bucket == k).any()
    }
    return {"val_loss": float(losses.mean()), "val_loss_by_level": by_level}
