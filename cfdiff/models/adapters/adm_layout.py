"""What a checkpoint of guided-diffusion says of its own network, by the names and shapes of its tensors.

Heads, the order of attention, and all of the diffusion process do not show: those must be given.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cfdiff.errors import UserError
from cfdiff.models.checkpoint import Model

State = Mapping[str, Tensor]
WRAPPED = ("state_dict", "model_state_dict", "model")
"""Under which name some trainings keep the weights among other things."""


@dataclass(frozen=True)
class Layout:
    """What shows.

    Attributes:
        encoder: it is their classifier, and not a U-Net.
        channels: of the images; out: of the output, 0 for an encoder.
        width, stem: of the first resolution, and of the first convolution.
        labels: classes that it is told, or of an encoder that it tells apart.
        resolutions, blocks: how many; None where they do not show, as in an encoder with resblock_updown.
        widths: channels of each residual block of the way down, in turn.
        attends: of the same blocks, which have self-attention.
        scale_shift, resblock_updown: as their flags.
        pool: of an encoder; side: of its last feature map, where its pool says.
        parameters: how many numbers.
    """

    encoder: bool
    channels: int
    out: int
    width: int
    stem: int
    labels: int
    resolutions: int | None
    blocks: int | None
    widths: tuple[int, ...]
    attends: tuple[bool, ...]
    scale_shift: bool
    resblock_updown: bool
    pool: str | None
    side: int | None
    parameters: int

    def mult(self, blocks: int) -> tuple[float, ...]:
        """`channel_mult` of each resolution, which has so many blocks."""
        step = self._step(blocks)
        found = (w / self.width for w in self.widths[::step])
        return tuple(int(m) if m == int(m) else m for m in found)

    def attention(self, blocks: int) -> tuple[int, ...]:
        """Downsampling factors with self-attention."""
        step = self._step(blocks)
        return tuple(
            2**i for i in range(len(self.widths) // step + 1) if any(self.attends[i * step : i * step + blocks])
        )

    def _step(self, blocks: int) -> int:
        """Blocks a resolution in `widths`: with resblock_updown those that resample are among them."""
        return blocks + int(self.resblock_updown)


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, without the "module." of data parallel training.

    Raises:
        UserError: the file is missing, damaged, or holds more than tensors: opening that could run any code.
    """
    if not path.is_file():
        raise UserError(f"There is no checkpoint {path.name!r}: give the .pt file of a network of guided-diffusion.")
    try:
        told: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path.name} holds more than tensors, which can run any code when opened, and is refused: save its "
            "state_dict alone, as guided-diffusion does."
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, AttributeError) as error:
        raise UserError(f"{path.name} is no readable checkpoint of torch: it is truncated or damaged.") from error
    for name in WRAPPED:
        if isinstance(told, dict) and isinstance(told.get(name), dict):
            told = told[name]
    if not isinstance(told, dict) or not told or not all(isinstance(value, Tensor) for value in told.values()):
        raise UserError(f"{path.name} holds no state_dict: give the .pt file of a network of guided-diffusion.")
    return {str(key).removeprefix("module."): value for key, value in told.items()}


class AdmCheckpoints:
    """The entry of registry.DENOISERS for checkpoints, which say too little of themselves to be used as they are."""

    @staticmethod
    def recognises(path: Path) -> bool:
        """Whether it is a file as torch.save names it."""
        return path.suffix in (".pt", ".pth", ".ckpt") and path.is_file()

    @staticmethod
    def load(path: Path, device: str | torch.device) -> Model:
        """Says how to make one of our files of it."""
        raise UserError(
            f"{path.name} is a pickled checkpoint, which is refused as it stands: if it is of guided-diffusion, make a "
            f"model file of it with cfdiff models import adm {path.name} --image-size N and its other flags; else "
            "give a .safetensors file."
        )


def read_layout(state: State, where: str) -> Layout:
    """The layout of a state_dict; UserError where it is none of ADM's, `where` being what a sentence calls it."""
    for key in ("time_embed.0.weight", "input_blocks.0.0.weight", "middle_block.0.in_layers.2.weight"):
        if key not in state:
            raise UserError(
                f"{where} is no network of guided-diffusion or improved-diffusion, for it has no {key}: cfdiff reads "
                "their UNetModel and EncoderUNetModel."
            )
    downs, ups = _count(state, "input_blocks"), _count(state, "output_blocks")
    rows = [i for i in range(1, downs) if f"input_blocks.{i}.0.in_layers.2.weight" in state]
    strided = sum(f"input_blocks.{i}.0.op.weight" in state for i in range(downs))
    residual = sum(f"output_blocks.{i}.{j}.in_layers.2.weight" in state for i in range(ups) for j in (1, 2))
    encoder = ups == 0
    resblock_updown = strided == 0 if encoder else residual > 0
    resolutions = None if encoder and resblock_updown else 1 + (strided or residual)
    first = state["middle_block.0.emb_layers.1.weight"].shape[0]
    labels, pool, side = _head(state, where) if encoder else (_rows(state, "label_emb.weight"), None, None)
    return Layout(
        encoder=encoder,
        channels=state["input_blocks.0.0.weight"].shape[1],
        out=0 if encoder else _rows(state, "out.2.weight"),
        width=state["time_embed.0.weight"].shape[1],
        stem=state["input_blocks.0.0.weight"].shape[0],
        labels=labels,
        resolutions=resolutions,
        blocks=None if resolutions is None else downs // resolutions - 1,
        widths=tuple(_rows(state, f"input_blocks.{i}.0.in_layers.2.weight") for i in rows),
        attends=tuple(f"input_blocks.{i}.1.qkv.weight" in state for i in rows),
        scale_shift=first == 2 * _rows(state, "middle_block.0.in_layers.2.weight"),
        resblock_updown=resblock_updown,
        pool=pool,
        side=side,
        parameters=sum(value.numel() for value in state.values()),
    )


def _head(state: State, where: str) -> tuple[int, str, int | None]:
    """Classes, pool and side of the last feature map of an encoder."""
    if "out.2.positional_embedding" in state:
        side = round((state["out.2.positional_embedding"].shape[1] - 1) ** 0.5)
        return _rows(state, "out.2.c_proj.weight"), "attention", side
    if "out.0.weight" in state and state["out.0.weight"].ndim == 2:
        last = "out.3.weight" if "out.3.weight" in state else "out.2.weight"
        return _rows(state, last), "spatial_v2" if last == "out.3.weight" else "spatial", None
    if "out.3.weight" in state:
        return _rows(state, "out.3.weight"), "adaptive", None
    raise UserError(f"{where} has no output that cfdiff knows: it reads UNetModel and EncoderUNetModel.")


def _count(state: State, name: str) -> int:
    found = [int(match[1]) for key in state if (match := re.match(rf"{name}\.(\d+)\.", key))]
    return max(found, default=-1) + 1


def _rows(state: State, key: str) -> int:
    return int(state[key].shape[0]) if key in state else 0
