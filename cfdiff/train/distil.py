"""train-diffusion --distil: a student learns to do in one step what the model of --init does in two."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cfdiff.engine.distil import of_two_steps
from cfdiff.engine.process import q_sample
from cfdiff.errors import UserError
from cfdiff.models.checkpoint import Model
from cfdiff.models.denoiser import Denoiser
from cfdiff.train.settings import DiffusionSettings
from cfdiff.train.validate import DiffusionValidation, fixed


class Distillation:
    """A teacher, and how long the steps of its student are. A file of it is one like any
    other: it predicts what its teacher does.

    Attributes:
        span: levels of a step: T / --distil.
    """

    def __init__(self, teacher: Model, span: int) -> None:
        self.net, self.teacher, self.span = teacher.net.eval().requires_grad_(False), teacher.denoiser(), span

    def to(self, device: torch.device) -> Distillation:
        """With the teacher there."""
        self.net.to(device)
        return self

    def lesson(self, z0: Tensor, told: Tensor | None, levels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """z_l (B, ...), and the eps that one step from there is to be taken with: `of_two_steps` of the teacher's."""
        schedule = self.teacher.schedule
        x = q_sample(schedule, z0, levels, noise)
        with torch.no_grad():
            return x, of_two_steps(schedule, partial(self.teacher, condition=told), x, levels, self.span)

    def distance(self, student: Denoiser, z0: Tensor, told: Tensor | None, levels: Tensor, noise: Tensor) -> Tensor:
        """(B,) squared error of the student's eps against the lesson's."""
        x, wanted = self.lesson(z0, told, levels, noise)
        return _error(wanted, student(x, levels, condition=told))


def _error(wanted: Tensor, eps: Tensor) -> Tensor:
    return (wanted - eps).square().flatten(1).mean(1)


def distillation(s: DiffusionSettings, model: Model | None, condition: str | None) -> Distillation | None:
    """What --distil asks for, of the model of --init; None where it is not given.

    Raises:
        UserError: --init names none, it is told another thing than the student would be, or the steps are too many.
    """
    if s.distil is None:
        return None
    if model is None:
        raise UserError("--distil needs a teacher, the trained model that it begins from: give --init MODEL.")
    if model.card.condition != condition:
        told = {None: "nothing", "tokens": "attributes or a text"}
        raise UserError(
            f"--init {model.name!r} is told {told.get(model.card.condition, model.card.condition)} of an image, and a "
            "student is told the same: give the --condition that it was trained with."
        )
    T = model.schedule.T
    if s.distil > T // 2:
        raise UserError(
            f"--distil {s.distil} leaves no level between the ends of a step: the noise schedule of --init "
            f"{model.name!r} has {T}, so give at most {T // 2}."
        )
    return Distillation(model, T // s.distil)


class DistilledValidation:
    """A validation of a diffusion model, and how near its steps are to two of the teacher's: `val_distance`, beside
    the teacher's own in one such step, `val_distance_before`."""

    def __init__(self, plain: DiffusionValidation, of: Distillation) -> None:
        self.plain, self.of = plain, of

    @torch.no_grad()
    def __call__(self, net: nn.Module, step: int, share: float) -> dict[str, Any]:
        """The figures of both."""
        z0 = self.plain.z0[: max(1, int(share * len(self.plain.z0)))]
        levels, noise = fixed(z0, self.of.teacher.schedule.T)
        asked = {"val_distance": self.plain.denoiser(net), "val_distance_before": self.of.teacher}
        errors: dict[str, list[Tensor]] = {name: [] for name in asked}
        for part, at, eps in zip(z0.split(64), levels.to(z0.device).split(64), noise.split(64), strict=True):
            x, wanted = self.of.lesson(part, None, at, eps)
            for name, denoise in asked.items():
                errors[name].append(_error(wanted, denoise(x, at)))
        found = {name: float(torch.cat(parts).mean()) for name, parts in errors.items()}
        return {**self.plain(net, step, share), **found}

    def passes(self, share: float) -> int:
        """Images through the network: of the student one, of the teacher three, and what the plain one takes."""
        return self.plain.passes(share) + 4 * max(1, int(share * len(self.plain.z0)))
