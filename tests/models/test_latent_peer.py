"""A whole latent pipeline of diffusers, saved by diffusers: our sample is theirs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from cfdiff.engine import Ddim, make_tau
from cfdiff.models.checkpoint import load_diffusion
from cfdiff.models.latent import LatentSpace

pipelines = pytest.importorskip("pipelines")  # needs diffusers


@torch.no_grad()
def ours(folder: Path, z: torch.Tensor, steps: int) -> torch.Tensor:
    """Images of noise z, as cfdiff loads the folder, walks down and decodes."""
    model = load_diffusion(folder)
    denoise, tau = model.denoiser(), make_tau(model.schedule, 1, steps)
    for a, b in zip(tau[:0:-1], tau[-2::-1], strict=True):
        z = Ddim(0.0).step(model.schedule, z, denoise(z, a), a, b)
    return model.space.decode(z)


@pytest.mark.parametrize("shift", [None, 0.1])
@pytest.mark.parametrize("steps", [5, 20])
def test_a_latent_ddim_sample_is_theirs(tmp_path: Path, shift: float | None, steps: int) -> None:
    folder = pipelines.latent_pipeline(tmp_path / "pipe", shift=shift, channels=3)
    z = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    theirs = pipelines.LatentPipeline.from_pretrained(folder).sample(z, steps)
    got = ours(folder, z, steps)
    assert got.shape == (2, 3, 16, 16) and theirs.std() > 0.05
    torch.testing.assert_close(got, theirs, rtol=1e-3, atol=1e-4)


def test_a_folder_of_another_scaling_factor_is_another_space_and_still_theirs(tmp_path: Path) -> None:
    folder = pipelines.latent_pipeline(tmp_path / "pipe", shift=None)
    config = folder / "vae" / "config.json"
    x = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    z = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    before = load_diffusion(folder)
    wanted = before.space.encode(x) / 2
    config.write_text(json.dumps({**json.loads(config.read_text()), "scaling_factor": 0.35}))
    after = load_diffusion(folder)
    assert after.card.space != before.card.space and after.sha256 != before.sha256
    torch.testing.assert_close(after.space.encode(x), wanted)
    theirs = pipelines.LatentPipeline.from_pretrained(folder).sample(z, 5)
    torch.testing.assert_close(ours(folder, z, 5), theirs, rtol=1e-3, atol=1e-4)


def test_encoding_is_the_mean_of_their_posterior_scaled(tmp_path: Path) -> None:
    folder = pipelines.latent_pipeline(tmp_path / "pipe")
    model, vae = load_diffusion(folder), pipelines.LatentPipeline.from_pretrained(folder).vae
    assert isinstance(model.space, LatentSpace) and model.shape == (16, 16, 1)
    x = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        want = (vae.encode(x).latent_dist.mean - 0.1) * 0.7
    torch.testing.assert_close(model.space.encode(x), want, rtol=1e-4, atol=1e-5)
