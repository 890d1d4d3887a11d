"""Folders of diffusion models that diffusers itself builds and saves, small and untrained: 16 px, 100 noise levels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import torch

SIZE = 16
SCHEDULE = {"num_train_timesteps": 100, "beta_schedule": "squaredcos_cap_v2"}
BLOCKS = {
    "block_out_channels": (8, 8),
    "norm_num_groups": 4,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "attention_head_dim": 4,
}


class LatentPipeline(diffusers.DiffusionPipeline):  # type: ignore[misc]
    """An autoencoder, a network of its latents and a scheduler, as diffusers saves and loads any such three."""

    def __init__(self, vae: Any, unet: Any, scheduler: Any) -> None:
        super().__init__()
        self.register_modules(vae=vae, unet=unet, scheduler=scheduler)

    @torch.no_grad()
    def sample(self, z: torch.Tensor, steps: int) -> torch.Tensor:
        """Images (B, C, H, W) in [-1, 1] from noise z: their loop, their decoder."""
        self.scheduler.set_timesteps(steps)
        for t in self.scheduler.timesteps:
            z = self.scheduler.step(self.unet(z, t).sample, t, z).prev_sample
        config = self.vae.config
        return self.vae.decode(z / config.scaling_factor + (config.get("shift_factor") or 0.0)).sample


def unet(channels: int, size: int) -> Any:
    torch.manual_seed(0)
    return diffusers.UNet2DModel(sample_size=size, in_channels=channels, out_channels=channels, **BLOCKS).eval()


def latent_pipeline(folder: Path, scaling: float = 0.7, shift: float | None = 0.1, channels: int = 1) -> Path:
    """One of untrained networks: 16 px, factor 2, latents of three channels."""
    torch.manual_seed(1)
    vae = diffusers.AutoencoderKL(
        in_channels=channels,
        out_channels=channels,
        latent_channels=3,
        scaling_factor=scaling,
        shift_factor=shift,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    )
    how = {"clip_sample": False, "set_alpha_to_one": True, "timestep_spacing": "trailing"}
    scheduler = diffusers.DDIMScheduler(**SCHEDULE, **how)
    LatentPipeline(vae.eval(), unet(3, SIZE // 2), scheduler).save_pretrained(folder)
    return folder


def pixel_folder(folder: Path) -> Path:
    diffusers.DDPMPipeline(unet(1, SIZE), diffusers.DDPMScheduler(**SCHEDULE)).save_pretrained(folder)
    return folder


def dit_folder(folder: Path) -> Path:
    """A transformer of patches, told two classes or none of them, with a learned variance that is not used."""
    torch.manual_seed(0)
    small = {"num_attention_heads": 2, "attention_head_dim": 4, "num_layers": 1, "norm_num_groups": 4}
    net = diffusers.DiTTransformer2DModel(
        sample_size=SIZE, in_channels=1, out_channels=2, num_embeds_ada_norm=2, patch_size=4, **small
    )
    return with_schedule(net, folder)


def text_folder(folder: Path) -> Path:
    """A network that reads a text by cross-attention, and was trained with zeros in its place."""
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D")}
    blocks["up_block_types"] = ("CrossAttnUpBlock2D", "UpBlock2D")
    told = {**BLOCKS, **blocks, "cross_attention_dim": 6}
    net = diffusers.UNet2DConditionModel(sample_size=SIZE, in_channels=1, out_channels=1, **told)
    with_schedule(net, folder)
    (folder / "cfdiff.toml").write_text('tokens = "zeros"\n')
    return folder


def with_schedule(net: torch.nn.Module, folder: Path) -> Path:
    """The folder of a network whose every weight matters (what begins as zero would draw nothing), and a scheduler."""
    g = torch.Generator().manual_seed(0)
    for p in net.parameters():
        p.data += 0.1 * torch.randn(p.shape, generator=g)
    net.save_pretrained(folder)  # type: ignore[operator]
    diffusers.DDPMScheduler(**SCHEDULE).save_pretrained(folder)
    return folder
