"""A compact U-Net of the ADM family (Dhariwal & Nichol 2021, section 3): eps from x_l, t and perhaps a class or tokens.

Residual blocks whose second group norm is scaled and shifted by the time embedding, self-attention at the low
resolutions, residual down- and upsampling, zero-initialised outputs. The first resolution sees patches of the image
(pixel-unshuffle, as in simple diffusion, Hoogeboom et al. 2023), which halves the time of a step on small images.
A class is an embedding that is added to that of the time; it begins at zero, so that a new network ignores it. Tokens
are read by cross-attention wherever there is self-attention, which begins at zero, too.
Any channel count; any size divisible by `UNetConfig.factor`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn

from cfdiff.errors import UserError
from cfdiff.models.attention import Attention, CrossAttention, group_norm, zeroed


class UNetConfig(BaseModel):
    """What builds a U-Net; stored in its checkpoint."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    channels: PositiveInt = Field(1, le=4096, description="Image channels.")
    size: tuple[PositiveInt, PositiveInt] = Field((48, 48), description="Image height and width.")
    patch: PositiveInt = Field(
        2, le=64, description="Pixels per side folded into channels at the entrance; 1 for none."
    )
    width: PositiveInt = Field(64, le=16384, description="Channels at the first resolution.")
    mult: tuple[PositiveInt, ...] = Field(
        (1, 2, 3), min_length=1, max_length=12, description="Channel multiplier of each resolution."
    )
    blocks: PositiveInt = Field(
        1, le=64, description="Residual blocks per resolution on the way down; one more on the way up."
    )
    attention: tuple[PositiveInt, ...] = Field(
        (2, 4), description="Downsampling factors (after the patches) with self-attention."
    )
    head_width: PositiveInt = Field(default=32, le=16384, description="Channels per attention head.")
    dropout: float = Field(0.0, ge=0, lt=1)
    classes: NonNegativeInt = Field(0, le=1_000_000, description="Classes that it may be told; 0 is unconditional.")

    tokens: NonNegativeInt = Field(0, le=16384, description="Numbers of a token that it reads; 0 is none.")

    @property
    def factor(self) -> int:
        """Height and width must be multiples of this."""
        return int(self.patch * 2 ** (len(self.mult) - 1))


class UNet(nn.Module):
    """eps_theta(x, t): (B, C, H, W) in [-1, 1] plus noise and (B,) timesteps 0..T-1 -> (B, C, H, W)."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        height, width = config.size
        if height % config.factor or width % config.factor:
            raise UserError(
                f"A U-Net with {len(config.mult)} resolutions in patches of {config.patch} needs a height and a width "
                f"divisible by {config.factor}, but the images are {height}x{width}; give fewer multipliers (--mult), "
                "smaller patches (--patch) or resize the images (cfdiff data convert --size)."
            )
        self.config = config
        widths = [config.width * m for m in config.mult]
        emb = 4 * config.width
        self.embed = nn.Sequential(nn.Linear(config.width, emb), nn.SiLU(), nn.Linear(emb, emb))
        folded = config.channels * config.patch**2
        self.stem = nn.Conv2d(folded, config.width, 3, padding=1)

        def stage(c_in: int, c_out: int, factor: int, scale: str = "same") -> nn.ModuleList:
            block = ResBlock(c_in, c_out, emb, config.dropout, scale)
            attends = factor in config.attention
            return nn.ModuleList([block, Attention(c_out, config.head_width) if attends else nn.Identity()])

        self.down = nn.ModuleList()
        skips, c = [config.width], config.width
        for i, w in enumerate(widths):
            if i:
                self.down.append(stage(c, c, 0, "down"))
                skips.append(c)
            for _ in range(config.blocks):
                self.down.append(stage(c, w, 2**i))
                c = w
                skips.append(c)
        deepest = 2 ** (len(widths) - 1)
        self.middle = nn.ModuleList([stage(c, c, deepest), stage(c, c, 0)])
        self.up = nn.ModuleList()
        for i, w in reversed(list(enumerate(widths))):
            for _ in range(config.blocks + 1):
                self.up.append(stage(c + skips.pop(), w, 2**i))
                c = w
            if i:
                self.up.append(stage(c, c, 0, "up"))
        self.head = nn.Sequential(group_norm(c), nn.SiLU(), zeroed(nn.Conv2d(c, folded, 3, padding=1)))
        # Last, so that the other weights begin as those of an unconditional network do; its last row is "told nothing".
        self.told = zeroed(nn.Embedding(config.classes + 1, emb)) if config.classes else None
        # As are those that read tokens, one for each stage that attends: {number of the stage: network}.
        stages = [*self.down, *self.middle, *self.up] if config.tokens else []
        self.readers = nn.ModuleDict(
            {
                str(i): CrossAttention(attention.out.out_channels, config.tokens, config.head_width)
                for i, (_, attention) in enumerate(_pairs(stages))
                if isinstance(attention, Attention)
            }
        )
        if config.tokens and not self.readers:
            raise UserError("A U-Net without attention cannot read tokens: name the resolutions with --attention.")
        self.to(memory_format=torch.channels_last)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        condition: Tensor | None = None,
        tokens: Tensor | None = None,
        control: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """The prediction for x (B, C, H, W) at timesteps t (B,) int64.

        Args:
            condition: (B,) int64 classes in 0..classes-1, negative where an image's is not told; None tells none.
            tokens: (B, L, d), which a network with `tokens` must be given.
            control: what is added to each skip and, last, to the middle (Zhang et al. 2023, eq. 2); `models.control`.

        Raises:
            ValueError: it is told what it does not know, or not told what it must be.
        """
        if (tokens is None) != (not self.config.tokens):
            raise ValueError("this network reads no tokens" if tokens is not None else "this network must read tokens")
        emb = self.embedded(t, condition)
        h, skips = self.encoded(self.folded(x), emb, tokens)
        if control is not None:
            skips, h = [skip + more for skip, more in zip(skips, control[:-1], strict=True)], h + control[-1]
        first = len(self.down) + len(self.middle)
        for i, (block, attention) in enumerate(_pairs(self.up), first):
            if block.scale != "up":
                h = torch.cat([h, skips.pop()], dim=1)
            h = self._read(i, attention(block(h, emb)), tokens)
        return F.pixel_shuffle(self.head(h), self.config.patch)

    def embedded(self, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """The embedding (B, 4 width) of timesteps and classes."""
        emb: Tensor = self.embed(sinusoid(t, self.config.width))
        if self.told is not None:
            nothing = torch.full_like(t, self.config.classes)
            emb = emb + self.told(nothing if condition is None else torch.where(condition < 0, nothing, condition))
        elif condition is not None:
            raise ValueError("this network has no classes, so it can be told none")
        return emb

    def folded(self, x: Tensor) -> Tensor:
        """x after the patches and the first convolution, (B, width, h, w)."""
        x = F.pixel_unshuffle(x, self.config.patch)
        found: Tensor = self.stem(x.contiguous(memory_format=torch.channels_last))
        return found

    def encoded(self, h: Tensor, emb: Tensor, tokens: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """The way down from `folded`: the output of the middle, and the skips, that of `folded` first."""
        skips = [h]
        for i, (block, attention) in enumerate(_pairs(self.down)):
            h = self._read(i, attention(block(h, emb)), tokens)
            skips.append(h)
        for i, (block, attention) in enumerate(_pairs(self.middle), len(self.down)):
            h = self._read(i, attention(block(h, emb)), tokens)
        return h, skips

    def _read(self, stage: int, h: Tensor, tokens: Tensor | None) -> Tensor:
        if tokens is None or str(stage) not in self.readers:
            return h
        found: Tensor = self.readers[str(stage)](h, tokens)
        return found


def way_down(config: UNetConfig) -> UNet:
    """The half of a U-Net that is `encoded`: nothing of the way up, and no head."""
    net = UNet(config)
    net.up, net.head = nn.ModuleList(), nn.Sequential()
    return net


def take_way_down(net: UNet, whole: UNet) -> None:
    """The weights of `whole` into a `way_down` of its shape."""
    own = net.state_dict()
    net.load_state_dict({key: value for key, value in whole.state_dict().items() if key in own})


def build_unet(card: Any) -> nn.Module:
    """The entry of registry.NETWORKS: that of a `checkpoint.Card`."""
    return UNet(UNetConfig(**card.config))


class ResBlock(nn.Module):
    """GN-SiLU-conv, GN * (1 + scale) + shift, SiLU-conv, plus the (projected) input; may halve or double the size."""

    def __init__(self, c_in: int, c_out: int, emb: int, dropout: float, scale: str = "same") -> None:
        super().__init__()
        self.scale = scale
        self.norm1, self.conv1 = group_norm(c_in), nn.Conv2d(c_in, c_out, 3, padding=1)
        self.emb = nn.Linear(emb, 2 * c_out)
        self.norm2, self.conv2 = group_norm(c_out), zeroed(nn.Conv2d(c_out, c_out, 3, padding=1))
        self.dropout = nn.Dropout(dropout)
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = F.silu(self.norm1(x))
        if self.scale == "down":
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        elif self.scale == "up":
            h, x = F.interpolate(h, scale_factor=2), F.interpolate(x, scale_factor=2)
        scale, shift = self.emb(F.silu(emb))[:, :, None, None].chunk(2, dim=1)
        h = self.norm2(self.conv1(h)) * (1 + scale) + shift
        return self.skip(x) + self.conv2(self.dropout(F.silu(h)))


def sinusoid(t: Tensor, width: int, max_period: float = 10_000) -> Tensor:
    """Sinusoidal embedding of timesteps (B,) -> (B, width) float32 (Vaswani et al. 2017; Ho et al. 2020)."""
    half = width // 2
    freqs = torch.exp(-math.log(max_period) * torch.arange(half, device=t.device, dtype=torch.float32) / half)
    args = t[:, None].to(torch.float32) * freqs
    return F.pad(torch.cat([args.cos(), args.sin()], dim=1), (0, width - 2 * half))


def _pairs(stages: Any) -> Iterable[Any]:
    """The (block, attention) of each stage, whose types a ModuleList does not tell."""
    return stages
