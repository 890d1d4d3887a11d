"""Autoencoders: images to latents and back, with diffusers' own networks (Rombach et al. 2022, section 3.1).

One that is trained here is diffusers' `AutoencoderKL` on patches: pixel-unshuffle at the entrance and pixel-shuffle at
the exit, so that no convolution works at full resolution. Beside it runs a linear `Projection` of patches, which begins
as their principal components: the network learns what those lack, and minutes of a core are enough for what else takes
hours. A ready one is a folder of diffusers (AutoencoderKL or AutoencoderTiny). Both become an `Autoencoder`: E is the
mean of the posterior, so that encoding is deterministic, and

    z = (E(x) - shift) scale,      x = D(z / scale + shift)

with shift and scale by channel, measured on the training images (ours), or as the folder's config says.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from sklearn.decomposition import PCA
from torch import Tensor, nn

from cfdiff.errors import UserError
from cfdiff.files import parse_json

CLASSES = {"AutoencoderKL": "autoencoder_kl", "AutoencoderTiny": "autoencoder_tiny"}
"""diffusers' autoencoders that a folder may hold, and their modules."""
WEIGHTS = "diffusion_pytorch_model.safetensors"
MISSING = "An autoencoder is built with diffusers, which is not installed: pip install 'cfdiff[latent]'."
LOG_VARIANCE = -8.0
"""Of the posterior at the beginning of a training: noise of 2 % of what a latent varies by."""
LEAST_SPREAD = 0.01
"""A channel whose latents vary by less than this share of the widest's is not blown up any further."""


class AutoencoderConfig(BaseModel):
    """What builds an autoencoder; stored in its checkpoint."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    channels: PositiveInt = Field(3, le=4096, description="Image channels.")
    size: tuple[PositiveInt, PositiveInt] = Field((128, 128), description="Height and width that it was trained on.")
    patch: PositiveInt = Field(4, le=64, description="Pixels per side folded into channels at the entrance.")
    widths: tuple[PositiveInt, ...] = Field(
        (64,), min_length=1, max_length=12, description="Channels of each resolution, half as fine each."
    )
    blocks: PositiveInt = Field(1, le=64, description="Residual blocks a resolution; one more in the decoder.")
    latent: PositiveInt = Field(4, le=4096, description="Channels of the latents.")
    linear: bool = Field(False, description="A linear projection of patches beside the network.")

    @property
    def factor(self) -> int:
        """The images are this much larger than their latents."""
        return int(self.patch * 2 ** (len(self.widths) - 1))


class Projection(nn.Module):
    """Patches of `factor` x `factor` pixels as `latent` numbers each, and back, by a matrix each way."""

    def __init__(self, channels: int, latent: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.down = nn.Conv2d(channels * factor**2, latent, 1)
        self.up = nn.Conv2d(latent, channels * factor**2, 1)

    def encode(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, `latent`, H/factor, W/factor)."""
        found: Tensor = self.down(F.pixel_unshuffle(x, self.factor))
        return found

    def decode(self, z: Tensor) -> Tensor:
        """And back."""
        return F.pixel_shuffle(self.up(z), self.factor)

    @torch.no_grad()
    def begin(self, x: Tensor) -> None:
        """Become the whitened principal components of the patches of images (N, C, H, W); what they lack stays zero."""
        patches = F.pixel_unshuffle(x.double().cpu(), self.factor).movedim(1, -1).flatten(0, -2)
        k = min(self.down.out_channels, *patches.shape)
        found = PCA(k, svd_solver="covariance_eigh").fit(patches.numpy())
        axes = torch.from_numpy(found.components_)
        spread = torch.from_numpy(found.explained_variance_).clamp_min(0).sqrt()
        spread = spread.clamp_min(LEAST_SPREAD * float(spread.max())).clamp_min(torch.finfo(torch.float32).tiny)
        mean = torch.from_numpy(found.mean_)
        down, up = self.down.state_dict(), self.up.state_dict()
        for tensor in (*down.values(), *up.values()):
            tensor.zero_()
        down["weight"][:k, :, 0, 0] = axes / spread[:, None]
        down["bias"][:k] = -(axes @ mean / spread)
        up["weight"][:, :k, 0, 0] = (axes * spread[:, None]).T
        up["bias"][:] = mean


class Autoencoder(nn.Module):
    """E and D of images (B, C, H, W) in [-1, 1], H and W multiples of `factor`; z is (B, `latent`, H/factor, W/factor).

    Args:
        net: one of diffusers' `CLASSES`, of patches of `patch` pixels.
        linear: what is added to the mean of its posterior, and to what it draws.
        shift, scale: of each latent channel, or of all alike.
        config: what built it, where it is one of ours.
    """

    shift: Tensor
    scale: Tensor

    def __init__(
        self,
        net: nn.Module,
        channels: int,
        latent: int,
        factor: int,
        patch: int = 1,
        shift: float | list[float] = 0.0,
        scale: float | list[float] = 1.0,
        config: AutoencoderConfig | None = None,
        linear: Projection | None = None,
    ) -> None:
        super().__init__()
        self.config, self.linear = config, linear
        self.net, self.channels, self.latent, self.factor, self.patch = net, channels, latent, factor, patch
        for name, value in (("shift", shift), ("scale", scale)):
            given = torch.as_tensor(value, dtype=torch.float32).flatten()
            self.register_buffer(name, given.expand(latent).view(1, -1, 1, 1).clone(), persistent=False)

    def encode(self, x: Tensor) -> Tensor:
        """z, with zero mean and unit variance over the training images."""
        found = self._net.encode(F.pixel_unshuffle(x, self.patch))
        mean = found.latent_dist.mode() if hasattr(found, "latent_dist") else found.latents
        return (self._mean(mean, x).float() - self.shift) * self.scale

    def decode(self, z: Tensor) -> Tensor:
        """x of z, with its gradient, not clipped."""
        return self._draw(z / self.scale + self.shift).float()

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A pass of training: D(mean + std noise), and mean and log-variance of the posterior, both as the latents."""
        posterior = self._net.encode(F.pixel_unshuffle(x, self.patch)).latent_dist
        mean = self._mean(posterior.mean, x)
        return self._draw(mean + posterior.std * noise), mean, posterior.logvar

    def begin(self, x: Tensor) -> None:
        """Before the first step of a training: all is linear, the principal components of the images (N, C, H, W)."""
        if self.linear is None:
            return
        self.linear.begin(x)
        latents, drawn = self._net.quant_conv, self._net.decoder.conv_out
        for layer in (latents, drawn):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.constant_(latents.bias[self.latent :], LOG_VARIANCE)

    def _mean(self, of_net: Tensor, x: Tensor) -> Tensor:
        return of_net if self.linear is None else of_net + self.linear.encode(x)

    def _draw(self, z: Tensor) -> Tensor:
        drawn = F.pixel_shuffle(self._net.decode(z).sample, self.patch)
        return drawn if self.linear is None else drawn + self.linear.decode(z)

    @property
    def _net(self) -> Any:
        return self.net


def build_of_card(card: Any) -> nn.Module:
    """The entry of registry.NETWORKS: that of a `checkpoint.Card`."""
    return build_autoencoder(AutoencoderConfig(**card.config), card.training.get("latents"))


def build_autoencoder(config: AutoencoderConfig, latents: Mapping[str, list[float]] | None = None) -> Autoencoder:
    """A new autoencoder; `latents` are shift and scale as a card has them (`training.latents`).

    Raises:
        UserError: the image size does not fit, or diffusers is missing.
    """
    check_size(config.size, config.factor)
    n, folded = len(config.widths), config.channels * config.patch**2
    net = diffusers_class("AutoencoderKL")(
        in_channels=folded,
        out_channels=folded,
        latent_channels=config.latent,
        down_block_types=("DownEncoderBlock2D",) * n,
        up_block_types=("UpDecoderBlock2D",) * n,
        block_out_channels=config.widths,
        layers_per_block=config.blocks,
        norm_num_groups=math.gcd(8, *config.widths),
        mid_block_add_attention=False,
    )
    own: dict[str, Any] = {"shift": 0.0, "scale": 1.0, **(latents or {})}
    linear = Projection(config.channels, config.latent, config.factor) if config.linear else None
    return Autoencoder(
        net, config.channels, config.latent, config.factor, config.patch, **own, config=config, linear=linear
    )


def check_size(size: tuple[int, int], factor: int) -> None:
    """Raise UserError unless height and width are multiples of `factor`."""
    if any(side % factor for side in size):
        near = factor * math.ceil(max(size) / factor)
        raise UserError(
            f"An autoencoder of factor {factor} needs a height and a width divisible by {factor}, but the images are "
            f"{size[0]}x{size[1]}: resize them (cfdiff data convert --size {near})."
        )


def measured(z: Tensor) -> dict[str, list[float]]:
    """Shift and scale that give latents (N, c, h, w) zero mean and unit variance by channel."""
    mean, std = z.mean((0, 2, 3)), z.std((0, 2, 3))
    std = std.clamp_min(LEAST_SPREAD * float(std.max())).clamp_min(torch.finfo(z.dtype).tiny)
    return {"shift": mean.tolist(), "scale": (1 / std).tolist()}


def is_folder(path: Path) -> bool:
    """Whether it is a folder of diffusers that says what it holds."""
    return (path / "config.json").is_file()


def load_folder(path: Path) -> Autoencoder:
    """The autoencoder of a diffusers folder, in eval mode; `scaling_factor` and `shift_factor` are those of its config.

    Raises:
        UserError: it is no such folder, half copied, damaged, or holds pickled weights only.
    """
    config = _config(path)
    kind = str(config.get("_class_name"))
    if kind not in CLASSES:
        raise UserError(f"{path.name}/config.json is of {kind!r}: an autoencoder here is one of {', '.join(CLASSES)}.")
    if not (path / WEIGHTS).is_file():
        pickled = any(path.glob("*.bin"))
        why = "holds pickled weights (.bin), which can run any code when opened" if pickled else f"has no {WEIGHTS}"
        raise UserError(f"The autoencoder folder {path.name!r} {why}: copy the safetensors file into it.")
    try:
        net, found = diffusers_class(kind).from_pretrained(
            str(path), local_files_only=True, use_safetensors=True, low_cpu_mem_usage=False, output_loading_info=True
        )
        if found["missing_keys"] or found["mismatched_keys"] or found["unexpected_keys"]:
            raise ValueError("weights and config differ")
    except UserError:
        raise
    except Exception as error:  # diffusers passes on whatever its loaders raise
        raise UserError(
            f"The autoencoder folder {path.name!r} is damaged: its weights do not fit its config.json; copy it again."
        ) from error
    widths = config["block_out_channels"] if kind == "AutoencoderKL" else config["encoder_block_out_channels"]
    return Autoencoder(
        net.float().eval().requires_grad_(False),
        channels=net.config.in_channels,
        latent=net.config.latent_channels,
        factor=2 ** (len(widths) - 1),
        shift=float(net.config.get("shift_factor") or 0.0),
        scale=float(net.config.scaling_factor),
    )


def sha256_of(path: Path) -> str:
    """Of an autoencoder's file; of a folder, of its config and weights, in this order."""
    files = [path / "config.json", path / WEIGHTS] if path.is_dir() else [path]
    found = hashlib.sha256()
    for file in files:
        found.update(file.read_bytes() if file.is_file() else b"")
    return found.hexdigest()


def diffusers_class(name: str) -> Any:
    """One of `CLASSES`, imported now; UserError where diffusers is not installed."""
    try:
        return getattr(importlib.import_module(f"diffusers.models.autoencoders.{CLASSES[name]}"), name)
    except ImportError as error:
        raise UserError(MISSING) from error


def need_diffusers() -> None:
    """Raise UserError where diffusers is not installed; it is not imported, which takes seconds."""
    if importlib.util.find_spec("diffusers") is None:
        raise UserError(MISSING)


def _config(path: Path) -> dict[str, Any]:
    try:
        config = parse_json((path / "config.json").read_text())
    except OSError as error:
        raise UserError(
            f"{str(path)!r} is no autoencoder: give a .safetensors file of cfdiff train-autoencoder, or a folder of "
            "diffusers with its config.json."
        ) from error
    except ValueError as error:
        raise UserError(f"{path.name}/config.json is damaged: copy the folder again.") from error
    return config if isinstance(config, dict) else {}
