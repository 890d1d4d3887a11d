"""ADM's U-Net and its classifier (Dhariwal & Nichol 2021, appendix), so that checkpoints of guided-diffusion load.

Written from the published architecture; the names of the tensors are theirs (`input_blocks.3.0.in_layers.2.weight`),
and so are all sums, so that the output is theirs. improved-diffusion (Nichol & Dhariwal 2021) is the same without
scale-shift norms or residual resampling, and with the first layout of attention heads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from cfdiff.engine.schedule import NoiseSchedule
from cfdiff.models.adapters.told import Told
from cfdiff.models.unet import sinusoid

GROUPS = 32


class Blocks(BaseModel):
    """What shapes the residual blocks of both networks; stored in a checkpoint.

    Attributes:
        image: height and width of the images.
        channels: of the images.
        width: `num_channels`, of the first resolution.
        blocks: `num_res_blocks` a resolution.
        mult: `channel_mult` of each resolution.
        attention: downsampling factors with self-attention.
        heads: of each attention; where `head_width` is given, channels / head_width.
        new_attention_order: heads within queries, keys and values, and not the other way round.
        scale_shift: the time embedding scales and shifts the second norm, and is not only added.
        resblock_updown: residual blocks resample, and not convolutions.
        stem: channels of the first convolution; None is width x mult[0].
        timesteps: which of the network's timesteps ours are; None for all.
        timestep_scale: our timesteps are multiplied by this (`rescale_timesteps`: 1000 / T).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: PositiveInt
    channels: PositiveInt
    width: PositiveInt
    blocks: PositiveInt
    mult: tuple[PositiveFloat, ...]
    attention: tuple[PositiveInt, ...] = ()
    heads: PositiveInt = 1
    head_width: PositiveInt | None = None
    new_attention_order: bool = False
    scale_shift: bool = False
    resblock_updown: bool = False
    stem: PositiveInt | None = None
    timesteps: tuple[NonNegativeInt, ...] | None = None
    timestep_scale: PositiveFloat = 1.0

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        return self.image, self.image

    @property
    def widths(self) -> list[int]:
        """Channels of each resolution."""
        return [int(self.width * m) for m in self.mult]

    def heads_of(self, channels: int, heads: int | None = None) -> int:
        """How many heads an attention over so many channels has."""
        return channels // self.head_width if self.head_width is not None else heads or self.heads


class UNetConfig(Blocks):
    """What builds an `AdmUNet`.

    Attributes:
        learned_sigma: the output has a variance in the second half of its channels.
        heads_up: heads on the way up; None for as many as on the way down.
        labels: classes that it learned; 0 is none.
        told: its indices of negative and positive; None where no class of its is ours.
        nothing: its index of the class that means none.
    """

    network: Literal["adm-unet"] = "adm-unet"
    learned_sigma: bool = False
    heads_up: PositiveInt | None = None
    labels: NonNegativeInt = 0
    told: tuple[NonNegativeInt, NonNegativeInt] | None = None
    nothing: NonNegativeInt | None = None

    @property
    def classes(self) -> int:
        """How many classes of ours it may be told."""
        return 0 if self.told is None else 2


class EncoderConfig(Blocks):
    """What builds an `AdmEncoder`.

    Attributes:
        labels: classes of its output.
        told: its indices of negative and positive.
        pool: how all positions become one.
        schedule: config of the noise schedule that it was trained on, which turns a log-SNR into its timestep.
    """

    network: Literal["adm-encoder"] = "adm-encoder"
    labels: PositiveInt
    told: tuple[NonNegativeInt, NonNegativeInt]
    pool: Literal["attention", "adaptive", "spatial", "spatial_v2"] = "attention"
    schedule: dict[str, Any]


class Timesteps(nn.Module):
    """Our timesteps (B,) int64, 0..T-1, as the network counts them, embedded (B, 4 width)."""

    table: Tensor

    def __init__(self, config: Blocks) -> None:
        super().__init__()
        self.width, self.scale, self.some = config.width, config.timestep_scale, config.timesteps is not None
        self.register_buffer("table", torch.tensor(config.timesteps or (), dtype=torch.int64), persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        """(B, width) float32."""
        return sinusoid((self.table[t] if self.some else t).float() * self.scale, self.width)


class AdmUNet(nn.Module):
    """(x (B, C, H, W), t (B,)[, condition (B,)]) -> (B, C, H, W), or (B, 2C, H, W) with a learned variance."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        self.count = Timesteps(config)
        self.told = Told(config.told, config.nothing, config.labels)
        self.time_embed = _time_embed(config)
        if config.labels:
            self.label_emb = nn.Embedding(config.labels, 4 * config.width)
        self.input_blocks, skips, channels = _way_down(config)
        self.middle_block = _middle(config, channels)
        self.output_blocks = nn.ModuleList()
        for i, width in reversed(list(enumerate(config.widths))):
            for j in range(config.blocks + 1):
                layers: list[nn.Module] = [ResBlock(config, channels + skips.pop(), width)]
                if 2**i in config.attention:
                    layers.append(Attention(config, width, config.heads_up))
                if i and j == config.blocks:
                    layers.append(ResBlock(config, width, width, "up") if config.resblock_updown else Upsample(width))
                self.output_blocks.append(nn.ModuleList(layers))
                channels = width
        out = config.channels * (2 if config.learned_sigma else 1)
        self.out = nn.Sequential(_norm(channels), nn.SiLU(), nn.Conv2d(channels, out, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """The prediction at timesteps t (B,) int64, 0..T-1; `condition` (B,) int64: 0, 1, or -1 for nothing."""
        emb = self.time_embed(self.count(t))
        if self.config.labels:
            emb = emb + self.label_emb(self.told.labels(condition, x))
        h, skips = x, []
        for block in _blocks(self.input_blocks):
            h = _through(block, h, emb)
            skips.append(h)
        h = _through(self.middle_block, h, emb)
        for block in _blocks(self.output_blocks):
            h = _through(block, torch.cat([h, skips.pop()], dim=1), emb)
        out: Tensor = self.out(h)
        return out


class AdmEncoder(nn.Module):
    """Their noise-aware classifier as our guide: (x (B, C, H, W), log-SNR (B,)) -> logits (B, 2) of the two classes."""

    levels: Tensor

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.count = Timesteps(config)
        schedule = NoiseSchedule.from_config(config.schedule)
        log_snr = schedule.log_snr(torch.arange(1, schedule.T + 1)).float()
        self.register_buffer("levels", log_snr, persistent=False)
        self.time_embed = _time_embed(config)
        self.input_blocks, skips, channels = _way_down(config)
        self.middle_block = _middle(config, channels)
        self.out = _pool(config, sum(skips) + channels, channels)

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """Logits (B, 2) of negative and positive; +inf for a clean image, which is asked at the first timestep."""
        all_of_them = self.logits(x, self.timestep(log_snr))
        return all_of_them[:, list(self.config.told)]

    def timestep(self, log_snr: Tensor) -> Tensor:
        """(B,) int64 the timestep whose level has the log-SNR nearest to that of each image."""
        nearest = (self.levels - log_snr.to(self.levels).clamp(max=float(self.levels[0]))[:, None]).abs()
        return nearest.argmin(1)

    def logits(self, x: Tensor, t: Tensor) -> Tensor:
        """Logits (B, labels) of all its classes at timesteps t (B,) int64."""
        emb, spatial = self.time_embed(self.count(t)), self.config.pool.startswith("spatial")
        h, means = x, []
        for block in [*_blocks(self.input_blocks), self.middle_block]:
            h = _through(block, h, emb)
            means.append(h.mean((2, 3)))
        out: Tensor = self.out(torch.cat(means, dim=1) if spatial else h)
        return out


class ResBlock(nn.Module):
    """norm-SiLU-conv, the time embedding, norm-SiLU-conv, plus the (projected) input; may halve or double the size."""

    def __init__(self, config: Blocks, c_in: int, c_out: int, scale: str = "same") -> None:
        super().__init__()
        self.scale, self.scale_shift = scale, config.scale_shift
        self.in_layers = nn.Sequential(_norm(c_in), nn.SiLU(), nn.Conv2d(c_in, c_out, 3, padding=1))
        self.emb_layers = nn.Sequential(
            nn.SiLU(), nn.Linear(4 * config.width, c_out * (2 if config.scale_shift else 1))
        )
        conv = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.out_layers = nn.Sequential(_norm(c_out), nn.SiLU(), nn.Identity(), conv)  # theirs has a dropout there
        self.skip_connection = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """(B, c_out, h, w)."""
        norm, activation, conv = self.in_layers
        h, x = _resampled(activation(norm(x)), self.scale), _resampled(x, self.scale)
        h, told = conv(h), self.emb_layers(emb)[:, :, None, None]
        if self.scale_shift:
            scale, shift = told.chunk(2, dim=1)
            h = self.out_layers[1:](self.out_layers[0](h) * (1 + scale) + shift)
        else:
            h = self.out_layers(h + told)
        out: Tensor = self.skip_connection(x) + h
        return out


class Attention(nn.Module):
    """Self-attention over all positions, residual."""

    def __init__(self, config: Blocks, channels: int, heads: int | None = None) -> None:
        super().__init__()
        self.heads, self.new_order = config.heads_of(channels, heads), config.new_attention_order
        self.norm, self.qkv = _norm(channels), nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w)."""
        flat = x.flatten(2)
        h = self.proj_out(attend(self.qkv(self.norm(flat)), self.heads, self.new_order))
        return (flat + h).view_as(x)


class Upsample(nn.Module):
    """Twice the size, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, 2h, 2w)."""
        out: Tensor = self.conv(_resampled(x, "up"))
        return out


class Downsample(nn.Module):
    """A convolution of stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h/2, w/2)."""
        out: Tensor = self.op(x)
        return out


class AttentionPool(nn.Module):
    """What the mean of all positions sees of them by attention, as in CLIP (Radford et al. 2021)."""

    def __init__(self, side: int, channels: int, head_width: int, out: int) -> None:
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.zeros(channels, side**2 + 1))
        self.qkv_proj, self.c_proj = nn.Conv1d(channels, 3 * channels, 1), nn.Conv1d(channels, out, 1)
        self.heads = channels // head_width

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, n)."""
        x = x.flatten(2)
        x = torch.cat([x.mean(2, keepdim=True), x], dim=2) + self.positional_embedding
        out: Tensor = self.c_proj(attend(self.qkv_proj(x), self.heads, new_order=True))
        return out[:, :, 0]


def attend(qkv: Tensor, heads: int, new_order: bool) -> Tensor:
    """Attention of (B, 3C, N) -> (B, C, N).

    Args:
        new_order: the 3C channels are queries, keys, values, each of all heads; else they are heads, each with its own
            queries, keys and values, as in improved-diffusion.
    """
    b, c, n = qkv.shape
    if new_order:
        q, k, v = qkv.view(b, 3, heads, c // (3 * heads), n).transpose(-1, -2).unbind(1)
    else:
        q, k, v = qkv.view(b, heads, 3, c // (3 * heads), n).transpose(-1, -2).unbind(2)
    return F.scaled_dot_product_attention(q, k, v).transpose(-1, -2).reshape(b, c // 3, n)


def build_unet(card: Any) -> nn.Module:
    """The entry of registry.NETWORKS: that of a `checkpoint.Card`."""
    return AdmUNet(UNetConfig(**card.config))


def build_encoder(card: Any) -> nn.Module:
    """The entry of registry.NETWORKS: that of a `checkpoint.Card`."""
    return AdmEncoder(EncoderConfig(**card.config))


def _way_down(config: Blocks) -> tuple[nn.ModuleList, list[int], int]:
    """The blocks of the way down, the channels of the output of each, and of the last."""
    channels = config.stem or config.widths[0]
    stem: list[nn.Module] = [nn.Conv2d(config.channels, channels, 3, padding=1)]
    down, skips = nn.ModuleList([nn.ModuleList(stem)]), [channels]
    for i, width in enumerate(config.widths):
        for _ in range(config.blocks):
            layers: list[nn.Module] = [ResBlock(config, channels, width)]
            if 2**i in config.attention:
                layers.append(Attention(config, width))
            down.append(nn.ModuleList(layers))
            channels = width
            skips.append(channels)
        if i < len(config.widths) - 1:
            half = ResBlock(config, channels, channels, "down") if config.resblock_updown else Downsample(channels)
            down.append(nn.ModuleList([half]))
            skips.append(channels)
    return down, skips, channels


def _middle(config: Blocks, channels: int) -> nn.ModuleList:
    first, last = ResBlock(config, channels, channels), ResBlock(config, channels, channels)
    return nn.ModuleList([first, Attention(config, channels), last])


def _pool(config: EncoderConfig, features: int, channels: int) -> nn.Sequential:
    """What turns the last features, or with "spatial" the means of all blocks' (B, features), into logits."""
    if config.pool == "attention":
        side, width = config.image // 2 ** (len(config.mult) - 1), config.head_width or channels // config.heads
        return nn.Sequential(_norm(channels), nn.SiLU(), AttentionPool(side, channels, width, config.labels))
    if config.pool == "adaptive":
        mean, linear = nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, config.labels, 1)
        return nn.Sequential(_norm(channels), nn.SiLU(), mean, linear, nn.Flatten())
    first, last = nn.Linear(features, 2048), nn.Linear(2048, config.labels)
    if config.pool == "spatial":
        return nn.Sequential(first, nn.ReLU(), last)
    return nn.Sequential(first, _norm(2048), nn.SiLU(), last)


def _time_embed(config: Blocks) -> nn.Sequential:
    width = 4 * config.width
    return nn.Sequential(nn.Linear(config.width, width), nn.SiLU(), nn.Linear(width, width))


def _through(layers: Iterable[Any], h: Tensor, emb: Tensor) -> Tensor:
    for layer in layers:
        h = layer(h, emb) if isinstance(layer, ResBlock) else layer(h)
    return h


def _blocks(blocks: nn.ModuleList) -> Iterator[Any]:
    """The layers of each block, whose types a ModuleList does not tell."""
    return iter(blocks)


def _resampled(x: Tensor, scale: str) -> Tensor:
    if scale == "same":
        return x
    return F.avg_pool2d(x, 2) if scale == "down" else F.interpolate(x, scale_factor=2, mode="nearest")


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(GROUPS, channels)
