"""Trainings in a space: which one, what their cards say of it, and the encodings of their batches.

Encoding is deterministic, and a mirrored or turned image is one of at most eight: each is encoded when it is first
drawn, and kept. Light (--gain, --gamma, --cast) and shifts never come twice, so with them every image is encoded anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cfdiff.data.source import Source
from cfdiff.engine.symmetry import Symmetry, turned
from cfdiff.errors import UserError
from cfdiff.models.checkpoint import read_card
from cfdiff.models.space import Space
from cfdiff.registry import SPACES
from cfdiff.train.batches import AS_IT_IS, Batch, Light, augment, symmetries
from cfdiff.train.loop import Trainer

KEPT_BYTES = 2 << 30
"""Encodings up to this size are kept in memory; what is beyond is encoded again."""


def open_space(name: str, file: Path | None) -> Space:
    """The space of a training, made of `file` where it is made of one.

    Raises:
        UserError: the file is missing, cannot be read, or is given where none is needed.
    """
    kind = SPACES[name]
    if hasattr(kind, "of"):
        space: Space = kind.of(file)
        return space
    if file is not None:
        raise UserError(f"--autoencoder is of --space latent, and this training is in {name!r}: give one of the two.")
    return kind()


def space_facts(name: str, space: Space, shape: tuple[int, int, int]) -> dict[str, Any]:
    """What a card says of a space, and of the images (H, W, C); nothing of pixels."""
    return {} if name == "pixel" else {"space": {"name": name, **getattr(space, "told", {})}, "image": list(shape)}


def settle_in(space: Space, trainer: Trainer) -> None:
    """Put what the space is made of where the trained model will look for it.

    Raises:
        UserError: a training in another one is there.
    """
    model, force = trainer.folder.model, trainer.s.force
    if model.exists() and not force and hasattr(space, "told"):
        there = {k: v for k, v in (read_card(model).space or {}).items() if k != "name"}
        if there != space.told:
            raise UserError(
                f"{model.parent} holds a training in another space (of another autoencoder): give that one, another "
                "--out, or --force to start anew."
            )
    if hasattr(space, "put_beside") and trainer.accelerator.is_main_process:
        space.put_beside(model, force)


class Encodings:
    """z of the batches of a training, augmented in pixels before they are encoded."""

    def __init__(self, space: Space, source: Source, kind: Symmetry, shift: int = 0, light: Light = AS_IT_IS) -> None:
        self.space, self.kind, self.shift, self.light = space, kind, shift, light
        height, width, channels = source.shape
        self.square = height == width
        probe = torch.zeros(1, channels, height, width)
        free = space.encode(probe) is probe  # nothing is gained by keeping what an identity gives
        self.capacity = 0
        if not (free or shift or light):
            shape = space.shape(channels, height, width)
            self.capacity = min(8 * len(source), KEPT_BYTES // (4 * shape[0] * shape[1] * shape[2]))
            self.kept = torch.empty(self.capacity, *shape)  # memory is taken as it is filled
            self.known = torch.zeros(self.capacity, dtype=torch.bool)

    def __call__(self, batch: Batch, coins: Tensor | None = None) -> Tensor:
        """(b, c, h, w) on the device of the batch; of images turned by `coins` (b, 3) where those are drawn already."""
        if not self.capacity:
            with torch.no_grad():
                if coins is not None:
                    return self.space.encode(turned(batch.images, coins))
                return self.space.encode(augment(batch.images, batch.draws, self.kind, self.shift, self.light))
        if coins is None:
            coins = symmetries(batch.draws, self.kind, self.square)
        number = (coins.cpu() * torch.tensor([1, 2, 4])).sum(1)
        slots = 8 * torch.from_numpy(batch.rows) + number
        z: list[Tensor] = []
        for i, slot in enumerate(slots.tolist()):
            if slot < self.capacity and self.known[slot]:
                z.append(self.kept[slot])
                continue
            # One by one: a value must not hang on the batch that it was first drawn in, or resuming would change it.
            with torch.no_grad():
                z.append(self.space.encode(turned(batch.images[i : i + 1], coins[i : i + 1]))[0].cpu())
            if slot < self.capacity:
                self.kept[slot], self.known[slot] = z[-1], True
        return torch.stack(z).to(batch.images.device)
