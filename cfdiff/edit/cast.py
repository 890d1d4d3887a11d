"""The models of a run together, by role, and what they say of images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cfdiff.edit.levels import fitting_depth, reach
from cfdiff.engine import NoiseSchedule
from cfdiff.errors import UserError
from cfdiff.models.checkpoint import PIXELS, Model
from cfdiff.models.denoiser import Denoiser
from cfdiff.models.ensemble import log_prob_in
from cfdiff.models.foreign import descriptions
from cfdiff.models.space import Space
from cfdiff.roles import ACCEPTING, ROLES

DTYPES = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Cast:
    """The models of a run by role; all but the diffusion model may be missing. Checker and verifier may be several."""

    diffusion: Model
    guide: Model | None
    checker: Model | None
    judge: Model | None
    device: torch.device
    precision: str
    verifier: Model | None = None
    image_text: Model | None = None

    @property
    def accepting(self) -> Model | None:
        """Who accepts an edit or sends it up the ladder: the verifier, the checker where there is none, or None."""
        return next((model for role in ACCEPTING if (model := getattr(self, role)) is not None), None)

    @property
    def seconding(self) -> Model | None:
        """The checker where a verifier accepts; None where it accepts itself, or is not there."""
        return None if self.checker is self.accepting else self.checker

    @property
    def schedule(self) -> NoiseSchedule:
        """The diffusion model's noise schedule."""
        return self.diffusion.schedule

    @property
    def space(self) -> Space:
        """Where the diffusion model runs."""
        return self.diffusion.space

    @property
    def hashes(self) -> dict[str, str]:
        """Role -> sha256 of its file, for the result; those of several in one role joined by JOINED."""
        return {role: model.sha256 for role in ROLES if (model := getattr(self, role)) is not None}

    @property
    def facts(self) -> dict[str, Any]:
        """What a run's settings say of its models: their hashes and, where there are any, the descriptions."""
        described = descriptions({role: getattr(self, role) for role in ROLES})
        return {"models": self.hashes, **({"classifiers": described} if described else {})}

    @cached_property
    def denoise(self) -> Denoiser:
        """eps_theta(z_l, level), with autocast only around the network."""
        return self.diffusion.denoiser(DTYPES[self.precision])

    def guide_log_prob(self, x: Tensor, level: int) -> Tensor:
        """log p(class | x_l, l) of the guide, (B, 2)."""
        assert self.guide is not None
        log_snr = float(self.schedule.log_snr(level))  # filled in where x is: a copy would make a GPU wait
        told = torch.full((len(x),), log_snr, dtype=torch.float64, device=x.device)
        return F.log_softmax(self.guide.net(x, told), dim=1)

    def checker_log_prob(self, x0: Tensor) -> Tensor:
        """log p(class | x_0) of the checker, (B, 2)."""
        assert self.checker is not None
        return log_prob_of(self.checker, x0)

    def clean_log_prob(self, z0: Tensor) -> Tensor:
        """log p(class) of the checker for z_0 (B, c, h, w) in the space of the diffusion model, (B, 2)."""
        assert self.checker is not None
        return log_prob_in(self.checker.net, z0, self.space, self.diffusion.card.space or PIXELS)

    @cached_property
    def guide_max_level(self) -> int | None:
        """The noisiest level at which the guide was better than chance in validation; None where it does not say."""
        return reach(self._accuracy_by_level)

    @property
    def fitting_depth(self) -> float | None:
        """How deep an edit should go by the guide's accuracy; None where there is no guide, or it does not say."""
        return None if self.guide is None else fitting_depth(self._accuracy_by_level, self.schedule.T)

    @property
    def _accuracy_by_level(self) -> Mapping[str, float]:
        assert self.guide is not None
        by_level: Mapping[str, float] = self.guide.card.training.get("validation", {}).get("val_accuracy_by_level", {})
        return by_level


def log_prob_of(model: Model, x0: Tensor) -> Tensor:
    """log p(negative | x_0) and log p(positive | x_0) of a clean classifier, (B, 2) float32.

    Of one that knows further classes they do not sum to 1: p of a class is then its share of all, so that p > 1/2 is
    more than all the others have together.
    """
    return F.log_softmax(model.logits(x0).float(), dim=1)[:, :2]


@torch.no_grad()
def probabilities(model: Model, x0: Tensor, batch: int = 256, exact: bool = True) -> Tensor:
    """p(class | x_0), (B, 2) float32 on the CPU, of images (B, C, H, W) in [-1, 1].

    `exact`: on one CPU thread, because with more the last bit of a small matrix product depends on where its memory
    lies, and a verdict that is stored or decides retries must be the same when a killed run is repeated. A figure that
    is a mean of many need not be: without, all threads are used.

    Raises:
        UserError: it gives what is no number.
    """
    threads = torch.get_num_threads()
    if exact:
        torch.set_num_threads(1)
    try:
        found = torch.cat([F.softmax(model.logits(some).float(), dim=1)[:, :2] for some in x0.split(batch)]).cpu()
        if not bool(found.isfinite().all()):
            raise UserError(f"{model.name} gives numbers that are not finite (nan or inf) for an image: train it anew.")
        return found
    finally:
        if exact:
            torch.set_num_threads(threads)
