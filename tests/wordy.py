"""A diffusion model that is exact and is told words: "dark", "bright", or nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from exact import ToldDiffusion
from torch import Tensor, nn

from cfdiff.edit.cast import Cast
from cfdiff.models.prompted import Prompted


class Signs(nn.Module):
    """An encoder of one token that says "dark", "bright", or nothing: -1, 1, 0."""

    width = 1
    KNOWN = {"dark": 0, "bright": 1, "none": 2}

    @property
    def nothing(self) -> Tensor:
        return torch.tensor([2])

    def codes(self, said: Any) -> Tensor:
        return torch.tensor([[self.KNOWN[text]] for text in said])

    def forward(self, codes: Tensor) -> Tensor:
        return codes[:, :, None].float()


class Reading(ToldDiffusion):
    """The exact eps of the class that a token names."""

    def forward(self, x: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        said = tokens[:, 0, 0].long()
        return super().forward(x, t, torch.where(said == 2, -1, said))


def reading(cast: Cast, texts: tuple[str, str] = ("dark", "bright")) -> Cast:
    net = Prompted(Reading(), Signs(), texts)
    card = replace(cast.diffusion.card, condition="tokens")
    return replace(cast, guide=None, checker=None, diffusion=replace(cast.diffusion, net=net, card=card))
