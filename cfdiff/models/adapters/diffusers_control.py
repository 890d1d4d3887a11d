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

from cfdiff.errors import UserError, first_line
from cfdiff.models.adapters.diffusers import Network, load_network
from cfdiff.models.adapters.diffusers_folder import content_hash, read_json, weight_files
from cfdiff.models.checkpoint import Model
from cfdiff.models.control import Controlled
from cfdiff.models.prompted import Prompted

Options = dict[str, Any]
CHANNELS, EMBEDDED = 3, (16, 32, 96, 256)
"""What diffusers takes where a config does not say conditioning_channels or conditioning_embedding_out_channels."""


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
            f"{who} does not fit {of.name!r} ({first_line(error)}): give one that was trained beside it."
        ) from error
