"""ControlNet (Zhang et al. 2023): a copy of a U-Net's encoder half that reads a control image and adds to the skips.

    skip_i + Z_i(copy_i(stem(x) + Z_0(hint)))        (eq. 2), each Z a convolution that begins at zero

so a new branch changes nothing, bit for bit. The denoiser itself is frozen, and is told what it was told before; the
branch is told x, the timestep and the control image alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch import Tensor, nn

from cfdiff.models.attention import zeroed
from cfdiff.models.prompted import Prompted
from cfdiff.models.unet import UNet, UNetConfig, take_way_down, way_down


class ControlConfig(BaseModel):
    """What builds a control branch; stored in its card."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    unet: UNetConfig = Field(description="Of the denoiser, without what that is told.")
    image: tuple[PositiveInt, PositiveInt] = Field(description="Height and width of the control image.")
    control: str = Field(description="What the control image is: a name of registry.CONTROLS.")
    of: str = Field(description="sha256 of the denoiser's file.")


class Control(nn.Module):
    """(x (B, C, h, w), t (B,), hint (B, 1, H, W) in [0, 1]) -> what is added to each skip and, last, to the middle."""

    def __init__(self, config: ControlConfig) -> None:
        super().__init__()
        self.told = config
        height, width = config.unet.size
        self.config = SimpleNamespace(size=config.image, channels=config.unet.channels, classes=0)
        self.factor = (config.image[0] * config.unet.patch // height, config.image[1] * config.unet.patch // width)
        self.copy = way_down(config.unet)
        w = config.unet.width
        self.hint = nn.Sequential(
            nn.Conv2d(self.factor[0] * self.factor[1], w, 3, padding=1),
            nn.SiLU(),
            zeroed(nn.Conv2d(w, w, 3, padding=1)),
        )
        self.zeros = nn.ModuleList([zeroed(nn.Conv2d(c, c, 1)) for c in skip_widths(config.unet)])

    def copy_of(self, net: UNet) -> None:
        """Begin with the weights of the denoiser's encoder half."""
        take_way_down(self.copy, net)

    def forward(self, x: Tensor, t: Tensor, hint: Tensor) -> list[Tensor]:
        down, right = self.factor
        b, _, height, width = hint.shape
        cells = hint.view(b, height // down, down, width // right, right).permute(0, 2, 4, 1, 3)
        read = self.hint(cells.reshape(b, down * right, height // down, width // right).to(x.dtype))
        h, skips = self.copy.encoded(self.copy.folded(x) + read, self.copy.embedded(t))
        return [zero(part) for zero, part in zip(self.zeros, [*skips, h], strict=True)]


class Controlled(nn.Module):
    """A frozen denoiser and its control branch, called as the denoiser is.

    Attributes:
        hint: (B, 1, H, W) in [0, 1], the control images of the rows that are asked next; None is no control.
    """

    def __init__(self, net: nn.Module, control: nn.Module) -> None:
        super().__init__()
        self.net, self.control = net, control
        self.config: Any = net.config
        self.hint: Tensor | None = None

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        told = {} if condition is None else {"condition": condition}
        if self.hint is not None:
            told["control"] = self.control(x, t, self.hint)
        found: Tensor = self.net(x, t, **told)
        return found


def unet_of(net: nn.Module) -> UNet | None:
    """The U-Net of our own of a denoiser; None where it is another network."""
    inner = net.net if isinstance(net, Prompted) else net
    return inner if isinstance(inner, UNet) else None


def skip_widths(config: UNetConfig) -> Sequence[int]:
    """Channels of each skip, from the first, and of the middle."""
    widths, c = [config.width], config.width
    for i, m in enumerate(config.mult):
        widths += [c] if i else []
        c = config.width * m
        widths += [c] * config.blocks
    return [*widths, c]


def build_of_card(card: Any) -> nn.Module:
    """The entry of registry.NETWORKS: that of a `checkpoint.Card`."""
    return Control(ControlConfig(**{key: value for key, value in card.config.items() if key != "network"}))
