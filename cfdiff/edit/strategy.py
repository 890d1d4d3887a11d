"""What a way of editing gets, gives and must be able to do; `registry.EDITS` holds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from cfdiff.edit.ladder import Rung
from cfdiff.edit.settings import EditSettings
from cfdiff.engine import NoiseSchedule, Step


@dataclass(frozen=True, eq=False)
class Batch:
    """What a way of editing gets: images (B, H, W, C), as read; x (B, C, H, W), they as models see them; z (B, c, h,
    w), they in the space; drawn (B, C, H, W), decode(z); ids (B,); target (B,) int64 classes."""

    images: np.ndarray
    x: Tensor
    z: Tensor
    drawn: Tensor
    ids: Sequence[str]
    target: Tensor


@dataclass(frozen=True, eq=False)
class Attempt:
    """One try on n images: their edited z (n, c, h, w); guided steps and network calls of each, (n,) int64.

    `mask` (n, 1, H, W) in [0, 1]: where alone the pixels may change, if the way of editing says so itself.
    """

    z: Tensor
    guided: Tensor
    network_calls: Tensor
    mask: Tensor | None = None


class Counter:
    """Counts what an attempt on n images costs: network calls and guided steps, (n,) int64 each, on their device."""

    def __init__(self, images: Tensor) -> None:
        self.calls, self.guided = torch.zeros((2, len(images)), dtype=torch.int64, device=images.device)

    def step(self, step: Step) -> None:
        """A step was taken."""
        self.guided.add_(step.active)
        self.calls.add_(step.calls)

    def cost(self, calls_a_gradient: int) -> Tensor:
        """(n,) network calls of each image; a guided step took so many besides."""
        return self.guided * calls_a_gradient + self.calls


class Strategy(Protocol):
    """A way of editing, made for one batch; the editor climbs its ladder.

    Attributes:
        rungs: what it tries, weakest first.
        finds: it looks for the place itself, so that `--mask auto` is not for it; true of the class, not of a batch.
        saliency: (B, H, W) in [0, 1], what it looked by; None where it does not look.
    """

    rungs: Sequence[Rung]
    finds: bool
    saliency: Tensor | None

    @staticmethod
    def check(schedule: NoiseSchedule, s: EditSettings) -> None:
        """Raise UserError for settings with which it could not edit; before any computation."""
        ...

    def attempt(self, rows: np.ndarray, rung: Rung, mask: Tensor | None = None) -> Attempt:
        """Edit the images `rows` (n,), increasing, of the batch.

        `mask` (n, 1, h, w) in [0, 1] is where z may change; outside, z must come back bit for bit.
        """
        ...
