"""Models with no training: two classes that are Gaussians have an exact eps and exact classifiers.

Class k is N(+-m, s^2) per pixel, m a patch in a corner: so one knows what an edit should do, and a run takes
milliseconds. `exact_cast` holds them as the networks of a cast.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cfdiff.edit.cast import Cast
from cfdiff.engine import NoiseSchedule
from cfdiff.models.checkpoint import Card, Model
from cfdiff.translate.settings import TranslateSettings

SIZE, STD, HEIGHT = 8, 0.25, 0.5
SCHEDULE = NoiseSchedule.cosine(100)


class Exact(nn.Module):
    """Base: the log-likelihoods of both classes at alpha_bar ab (B,), and the class means."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(size=(SIZE, SIZE), channels=1)
        mean = torch.zeros(1, SIZE, SIZE)
        mean[:, 1:4, 1:4] = HEIGHT
        self.means = torch.stack([-mean, mean])
        self.asked: list[Any] = []

    def variance(self, ab: Tensor) -> Tensor:
        return ab * STD**2 + 1 - ab

    def log_likelihood(self, x: Tensor, ab: Tensor) -> Tensor:
        """(B, 2)."""
        shift = x[:, None] - ab.sqrt().view(-1, 1, 1, 1, 1) * self.means
        return -shift.square().flatten(2).sum(2) / (2 * self.variance(ab))[:, None]


class ExactDiffusion(Exact):
    """eps_theta = -sqrt(1 - ab) grad log p(x_l); notes the timestep and rows of each call."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.asked.append(t.tolist())
        ab = SCHEDULE.alpha_bar[t + 1].float()
        p = self.log_likelihood(x, ab).softmax(1)
        mean = ab.sqrt().view(-1, 1, 1, 1) * (p @ self.means.flatten(1)).view(x.shape)
        return ((1 - ab).sqrt() / self.variance(ab)).view(-1, 1, 1, 1) * (x - mean)


class ToldDiffusion(ExactDiffusion):
    """The same, told the class: the eps of that class's Gaussian alone. Notes what it was told, None for nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Any] = []

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        out = super().forward(x, t)
        self.told.append(None if condition is None else condition.tolist())
        if condition is None:
            return out
        ab = SCHEDULE.alpha_bar[t + 1].float()
        mean = ab.sqrt().view(-1, 1, 1, 1) * self.means[condition]
        each = ((1 - ab).sqrt() / self.variance(ab)).view(-1, 1, 1, 1) * (x - mean)
        return torch.where(condition.view(-1, 1, 1, 1) < 0, out, each)


class ExactGuide(Exact):
    """The logits of x_l; notes the level that each log-SNR stands for, its type and whether autocast is on."""

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        ab = torch.sigmoid(log_snr).float()
        level = (SCHEDULE.alpha_bar - ab[0]).abs().argmin()
        self.asked.append((int(level), len(x), x.dtype, torch.is_autocast_enabled("cpu")))
        return self.log_likelihood(x, ab)


class ExactChecker(Exact):
    """The logits of x_0, less sure than they could be so that edits have something to do."""

    def forward(self, x: Tensor) -> Tensor:
        self.asked.append(len(x))
        return 0.2 * self.log_likelihood(x, torch.ones(len(x)))


def model(net: nn.Module, kind: str, **training: Any) -> Model:
    return Model(net.eval(), Card(kind, {}, SCHEDULE.config, {}, training), f"sha-{kind}-{type(net).__name__}", kind)


@pytest.fixture
def exact_cast() -> Cast:
    return Cast(
        diffusion=model(ExactDiffusion(), "diffusion"),
        guide=model(ExactGuide(), "noisy-classifier"),
        checker=model(ExactChecker(), "clean-classifier"),
        judge=None,
        device=torch.device("cpu"),
        precision="no",
    )


@pytest.fixture
def told_cast(exact_cast: Cast) -> Cast:
    """The same cast with a diffusion model that may be told the class."""
    told = model(ToldDiffusion(), "diffusion")
    return replace(exact_cast, diffusion=replace(told, card=replace(told.card, condition="class")))


@pytest.fixture
def exact_images() -> Callable[..., np.ndarray]:
    """(n, 8, 8, 1) images of one class, in [0, 1] as `dtype` holds them."""

    def make(n: int, label: int = 0, dtype: str = "uint8", seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        x = Exact().means[label].numpy()[0][None, :, :, None] + STD * rng.normal(size=(n, SIZE, SIZE, 1))
        unit = ((x + 1) / 2).clip(0, 1)
        if dtype == "float32":
            return unit.astype(np.float32)
        return np.rint(unit * np.iinfo(dtype).max).astype(dtype)

    return make


@pytest.fixture
def edit_settings() -> Callable[..., TranslateSettings]:
    """Settings of a quick edit; what a test does not name is the product's own default."""

    def make(**changes: Any) -> TranslateSettings:
        return TranslateSettings(**{"steps": 6, "depth": 0.4, "retries": 0, "out": Path("run.h5"), **changes})

    return make
