"""diffusers' ControlNetModel, from a local folder, as a control branch of a UNet2DConditionModel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from cfdiff.errors import UserError
from cfdiff.models.adapters.diffusers import Network, load_network
from cfdiff.models.adapters.diffusers_folder import content_hash, read_json, weight_files
from cfdiff.models.checkpoint import Model
from cfdiff.models.control import Controlled
from cfdiff.models.prompted import Prompted

Options = dict[str, Any]
CHANNELS, EMBEDDED = 3, (16, 32, 96, 256)
"""What diffusers takes where a config does not say conditioning_channels or conditioning_embedding_out_channels."""
OWN = "controlnet_"
"""How the names begin of what a branch has besides its copy of the denoiser."""
ADDED_TO = {"resnets", "downsamplers"}
"""Parts of the denoiser's down_blocks to whose outputs a branch adds: it must have each."""


class Branch(nn.Module):
    """(x (B, C, h, w), t (B,), hint (B, 1, H, W) in [0, 1]) -> what adds to the options that the denoiser is called
    with: the branch is told the same text and class, and these are known there alone."""

    def __init__(self, net: nn.Module, channels: int) -> None:
        super().__init__()
        self.net, self.channels = net, channels
        self.config = SimpleNamespace(classes=0)

    def forward(self, x: Tensor, t: Tensor, hint: Tensor) -> Callable[[Options], Options]:
        return partial(self._added, x, t, hint.expand(-1, self.channels, -1, -1).to(x.dtype))

    def _added(self, x: Tensor, t: Tensor, hint: Tensor, told: Options) -> Options:
        text, labels = told.get("encoder_hidden_states"), told.get("class_labels")
        down, middle = self.net(x, t, text, hint, class_labels=labels, return_dict=False)
        return {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}


@dataclass(frozen=True)
class Loaded:
    """A branch, one hash of its config and weights, and what messages call it."""

    net: Branch
    sha256: str
    name: str


def load_branch(path: Path, of: Model, device: torch.device) -> Loaded:
    """The branch of a folder for a denoiser of diffusers, asked once to see that the two fit.

    Raises:
        UserError: diffusers is missing, the folder is no whole ControlNetModel, or it is one of another denoiser.
    """
    who = f"The control branch {path.name!r}"
    inner = of.net.net if isinstance(of.net, Prompted) else of.net
    if not isinstance(inner, Network) or of.card.config.get("arch") != "UNet2DConditionModel":
        raise UserError(
            f"{who} is a folder of diffusers, and those are for its UNet2DConditionModel: {of.name!r} is none, so "
            "train a branch for it (cfdiff train-control)."
        )
    config = read_json(path / "config.json", path)
    if config.get("_class_name") != "ControlNetModel":
        raise UserError(f"{path.name} holds a {config.get('_class_name')}: give the folder of a ControlNetModel.")
    _check(config, of, inner, who)
    net = load_network("ControlNetModel", path, weight_files(path, path), path.name)
    _check_parts(net, inner.net, of, who)
    branch = Branch(net.float(), int(config.get("conditioning_channels", CHANNELS)))
    branch = branch.eval().requires_grad_(False).to(device)
    _try(branch, of, who)
    return Loaded(branch, content_hash(path, path), path.name)


def _check(config: dict[str, Any], of: Model, inner: Network, who: str) -> None:
    """Raise UserError for what the config says already."""
    channels = int(config.get("in_channels", 4))
    if channels != inner.config.channels:
        raise UserError(
            f"{who} takes {channels} channels and {of.name!r} {inner.config.channels}: give one that was trained "
            "beside it."
        )
    steps = len(config.get("conditioning_embedding_out_channels") or EMBEDDED) - 1
    factor = of.shape[0] // inner.config.size[0]
    if 2**steps != factor:
        raise UserError(
            f"{who} makes its lines {2**steps} times smaller, and {of.name!r} runs {factor} times smaller than its "
            "images: give one that was trained beside it."
        )
    if config.get("controlnet_conditioning_channel_order", "rgb") != "rgb" or config.get("global_pool_conditions"):
        raise UserError(f"{who} reads something else than lines in their place, and cfdiff tells it nothing else.")


def _check_parts(branch: nn.Module, denoiser: nn.Module, of: Model, who: str) -> None:
    """Raise UserError where the branch is no copy of the first half of the denoiser, in the shapes of its tensors."""
    own, theirs = ({key: tuple(v.shape) for key, v in net.state_dict().items()} for net in (branch, denoiser))
    copied = {key for key in own if not key.startswith(OWN)}
    needed = {key for key in theirs if key.startswith("down_blocks.") and ADDED_TO & set(key.split("."))}
    wrong = sorted({key for key in copied if own[key] != theirs.get(key)} | {key for key in needed if key not in own})
    if not wrong:
        return
    parts = list(dict.fromkeys(".".join(key.split(".")[: 2 if key.startswith("down_blocks") else 1]) for key in wrong))
    first = wrong[0]
    raise UserError(
        f"{who} does not fit {of.name!r} in {', '.join(parts)} ({first} is {_size(own.get(first))}, and in "
        f"{of.name!r} {_size(theirs.get(first))}): give one that was trained beside it."
    )


def _size(shape: tuple[int, ...] | None) -> str:
    return "not there" if shape is None else "x".join(map(str, shape)) or "a number"


@torch.no_grad()
def _try(branch: Branch, of: Model, who: str) -> None:
    height, width, _ = of.shape
    net = Controlled(of.net, branch)
    net.hint = torch.zeros(1, 1, height, width, device=of.device)
    inner: Any = of.net.config
    x = torch.zeros(1, inner.channels, *inner.size, device=of.device)
    try:
        net(x, torch.zeros(1, dtype=torch.int64, device=of.device))
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise UserError(
            f"{who} does not fit {of.name!r}, though its parts are of the same shapes: give one that was trained "
            "beside it."
        ) from error
