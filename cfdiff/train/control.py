"""cfdiff train-control: a control branch beside a frozen denoiser (Zhang et al. 2023)."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cfdiff.data.bundled import BUNDLED
from cfdiff.data.match import shape_misfit
from cfdiff.data.outlines import control_images
from cfdiff.data.source import Source
from cfdiff.data.values import to_model
from cfdiff.engine.loss import l_simple
from cfdiff.engine.symmetry import turned
from cfdiff.errors import UserError
from cfdiff.models.bundled import WEIGHTS, role_file, weights_folder
from cfdiff.models.checkpoint import Card, Model, load_own_diffusion
from cfdiff.models.control import Control, ControlConfig, unet_of
from cfdiff.models.denoiser import Denoiser
from cfdiff.models.space import encoded
from cfdiff.progress import Progress
from cfdiff.remote import shown
from cfdiff.train.batches import draw_levels, symmetries
from cfdiff.train.beginning import as_stored
from cfdiff.train.data import Also, Named, open_training_data
from cfdiff.train.loop import Trainer
from cfdiff.train.result import TrainResult
from cfdiff.train.settings import ControlSettings
from cfdiff.train.spaces import Encodings, settle_in
from cfdiff.train.validate import validate

AT_ONCE = 256


def train_control(s: ControlSettings, progress: Progress | None = None) -> TrainResult:
    """Train (or continue) and write the branch to `s.out`; `progress` hears of it in the place of the terminal.

    The result has `val_loss` with the images' own control and `val_loss_before` without the branch.

    Raises:
        UserError: data and denoiser do not fit, or that is no U-Net of our own; said before any training.
    """
    model = load_own_diffusion(_denoiser(s), "--diffusion")
    s, net = as_stored(s, model), unet_of(model.net)
    if net is None:
        raise UserError(
            f"{model.name!r} is no U-Net of cfdiff train-diffusion, and a control branch is a copy of one: give "
            "the file of such a model."
        )
    data = open_training_data(s)
    misfit = shape_misfit(data.train.name, data.train.shape, f"the diffusion model {model.name!r}", model.shape)
    if misfit is not None:
        raise misfit.error
    torch.manual_seed(s.seed)
    height, width = data.train.shape[:2]
    plain = net.config.model_copy(update={"tokens": 0, "classes": 0})
    branch = Control(ControlConfig(unet=plain, image=(height, width), control=s.control, of=model.sha256))
    branch.copy_of(net)
    named = Also(Named(data.train.name, f"{data.train.fingerprint}+{model.sha256}"))
    trainer = Trainer(s, named, branch, "control", progress)
    frozen, space = model.net.to(trainer.device), model.space
    settle_in(space, trainer)
    batches, encode = trainer.batches(data.train), Encodings(space, data.train, s.augment)
    hints = all_controls(s.control, data.train)
    asked = model.denoiser()

    def denoiser(branch: nn.Module) -> Denoiser:
        """Told the control image in the place of a condition."""

        def ask(x: Tensor, t: Tensor, hint: Tensor) -> Tensor:
            found: Tensor = frozen(x, t, control=branch(x, t, hint))
            return found

        return Denoiser(ask, asked.schedule, asked.parametrisation, asked.learned_sigma)

    def loss(branch: nn.Module, step: int, part: int) -> Tensor:
        batch = batches.read(step, part)
        coins = symmetries(batch.draws, s.augment, height == width)
        hint = turned(hints[torch.from_numpy(batch.rows)].to(trainer.device).float(), coins)
        z0 = encode(batch, coins)
        levels, noise = draw_levels(batch.draws, asked.schedule.T, s.level_power), batch.draws.normal(*z0.shape[1:])
        return l_simple(asked.schedule, partial(denoiser(branch), condition=hint), z0, levels, noise).mean()

    images = to_model(data.validation.read(range(len(data.validation)))).to(trainer.device)
    known = all_controls(s.control, data.validation).to(trainer.device).float()
    config = {"network": "control", **branch.told.model_dump(mode="json")}
    card = Card("control", config, model.card.schedule, data.card, {}, space=model.card.space, image=model.card.image)
    return trainer.run(loss, ControlValidation(denoiser, model, encoded(space, images), known), card)


class ControlValidation:
    """L_simple of z_0 (N, c, h, w) with their control images (N, 1, H, W), beside that of the denoiser alone."""

    def __init__(self, denoiser: Any, model: Model, z0: Tensor, hints: Tensor) -> None:
        self.denoiser, self.model, self.z0, self.hints = denoiser, model, z0, hints
        self.before: dict[int, float] = {}

    @torch.no_grad()
    def __call__(self, net: nn.Module, step: int, share: float) -> dict[str, Any]:
        n = self._count(share)
        figures = validate(self.denoiser(net), self.z0[:n], condition=self.hints[:n])
        if n not in self.before:
            self.before[n] = float(validate(self.model.denoiser(), self.z0[:n])["val_loss"])
        figures["val_loss_before"] = self.before[n]
        return figures if share >= 1 else {**figures, "val_images": n}

    def passes(self, share: float) -> int:
        """Images through the network: with the branch, and the first time without."""
        n = self._count(share)
        return n if n in self.before else 2 * n

    def _count(self, share: float) -> int:
        return max(1, int(share * len(self.z0)))


def all_controls(name: str, source: Source) -> Tensor:
    """(N, 1, H, W) uint8 or float16 of all images of a source: lines are bits."""
    parts = [
        torch.from_numpy(control_images(name, source, range(i, min(i + AT_ONCE, len(source)))))
        for i in range(0, len(source), AT_ONCE)
    ]
    return torch.cat(parts)[:, None].half()


def _denoiser(s: ControlSettings) -> Path:
    """That of the settings, or the bundled one of the data."""
    if s.diffusion is not None:
        return s.diffusion
    found = None
    if s.data in BUNDLED and (WEIGHTS / s.data).is_dir():
        found = role_file(weights_folder(s.data), "diffusion")
    if found is None:
        raise UserError(
            f"cfdiff has no diffusion model for {Path(shown(s.data)).name!r}: name its file with --diffusion."
        )
    return found
