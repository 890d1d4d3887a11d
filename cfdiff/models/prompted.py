"""A diffusion network that reads tokens, with the encoder that makes them: what its file holds.

It is told as every conditional network here is: 0 for the negative, 1 for the positive, -1 for nothing; what these
stand for are three texts, which `asked` replaces. A training tells it the code of each image's own text.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from cfdiff.models.checkpoint import Model
from cfdiff.models.encoders import build_encoder_of
from cfdiff.models.unet import UNet, UNetConfig

OWN = ("network", "encoder", "texts")
"""What the config of a card says besides what builds the U-Net."""


class Prompted(nn.Module):
    """(x (B, C, H, W), t (B,)[, condition[, control]]) -> as `net`, which is called with tokens=(B, L, d)."""

    asked: Tensor

    def __init__(self, net: nn.Module, encoder: Any, texts: tuple[str, str]) -> None:
        """`texts` are what the negative and the positive class are called."""
        super().__init__()
        self.net, self.encoder, self.texts = net, encoder, texts
        shape: Any = net.config
        self.config = SimpleNamespace(size=shape.size, channels=shape.channels, classes=0)
        codes = torch.cat([encoder.codes(list(texts)), encoder.nothing[None]])
        self.register_buffer("asked", codes, persistent=False)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None, control: Any = None) -> Tensor:
        """The prediction; `condition` (B,) int64 is 0, 1 or -1, (B, n) are codes, of which one of -1 is nothing."""
        tokens = self.encoder(self.codes(condition, x))
        found: Tensor = self.net(x, t, tokens=tokens, **({} if control is None else {"control": control}))
        return found

    def codes(self, condition: Tensor | None, x: Tensor) -> Tensor:
        """(B, n) int64 of a condition, for images (B, ...)."""
        if condition is None:
            return self.asked[2].expand(len(x), -1)
        if condition.ndim == 1:
            return self.asked[condition]  # -1 is the last of the three
        return torch.where(condition[:, :1] < 0, self.encoder.nothing.to(x.device), condition)


def build_of_card(card: Any) -> nn.Module:
    """The entry of registry.NETWORKS: that of a `checkpoint.Card`."""
    config = {key: value for key, value in card.config.items() if key not in OWN}
    return Prompted(UNet(UNetConfig(**config)), build_encoder_of(card.config["encoder"]), tuple(card.config["texts"]))


def asked(model: Model, negative: str | None = None, positive: str | None = None, nothing: str | None = None) -> Model:
    """A model of a `Prompted` network that stands for these texts where it is told 0, 1 or nothing; None is as it was.

    Raises:
        UserError: a text says what its encoder does not know.
    """
    net = model.net
    assert isinstance(net, Prompted)
    codes = net.asked.clone()
    for place, text in enumerate((negative, positive, nothing)):
        if text is not None:
            codes[place] = net.encoder.codes([text])[0].to(codes.device)
    other = copy.copy(net)  # the same weights
    other._buffers = {**net._buffers, "asked": codes}
    return replace(model, net=other)
