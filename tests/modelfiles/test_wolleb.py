"""The networks of Wolleb et al. (2022, diffusion-anomaly), by the flags of their README: imported, and edited with.

BraTS has four channels (T1, T1ce, T2, FLAIR), the network one head, no scale-shift norm, plain resampling, and two
classes. Their README says --class_cond True; a network of --class_cond False is as common. Here it is smaller.
"""

from __future__ import annotations

from pathlib import Path

import adm_reference as reference
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from cfdiff.cli.app import app
from cfdiff.edit.cast import Cast
from cfdiff.edit.editor import Editor
from cfdiff.edit.settings import EditSettings
from cfdiff.models.checkpoint import load_diffusion, load_model

SIZE, CHANNELS = 16, 4
MODEL = (
    "--image_size 16 --num_channels 32 --channel_mult 1,2 --num_res_blocks 2 --num_heads 1 --learn_sigma True "
    "--use_scale_shift_norm False --attention_resolutions 8"
)
DIFFUSION = "--diffusion_steps 1000 --noise_schedule linear --rescale_learned_sigmas False --rescale_timesteps False"
CLASSIFIER = (
    "--image_size 16 --classifier_attention_resolutions 8 --classifier_depth 1 --classifier_width 32 "
    "--classifier_pool attention --classifier_resblock_updown True --classifier_use_scale_shift_norm True"
)


def run(*words: str) -> str:
    done = CliRunner().invoke(app, ["models", "import", *words])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("classes", [0, 2], ids=["unconditional", "conditional"])
def test_their_network_of_four_channels_is_imported_and_edits(classes: int, tmp_path: Path) -> None:
    layout = {"scale_shift": False, "updown": False, "sigma": True, "channels": CHANNELS, "blocks": 2}
    state = reference.unet_state(**layout, labels=classes)
    torch.save(state, tmp_path / "diffusion.pt")
    flags = [*MODEL.split(), *DIFFUSION.split(), "--class_cond", str(bool(classes))]
    assert "4 channels" in run("adm", str(tmp_path / "diffusion.pt"), *flags)
    torch.save(reference.encoder_state(size=SIZE, channels=CHANNELS, labels=2), tmp_path / "guide.pt")
    run("adm-classifier", str(tmp_path / "guide.pt"), *CLASSIFIER.split(), "--num_head_channels", "16")

    model = load_diffusion(tmp_path / "diffusion.safetensors")
    assert model.shape == (SIZE, SIZE, CHANNELS) and model.conditional == bool(classes)
    x = torch.randn(2, CHANNELS, SIZE, SIZE, generator=torch.Generator().manual_seed(5))
    told = torch.tensor([0, 1]) if classes else None
    with torch.no_grad():
        got = model.denoiser()(x, 400, told)
        want = reference.unet(state, x, torch.full((2,), 399), told, heads=1, blocks=2, updown=False)[:, :CHANNELS]
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)

    # No data set of four channels is read, so the editor is given arrays.
    guide = load_model(tmp_path / "guide.safetensors", "noisy-classifier")
    cast = Cast(model, guide, None, None, torch.device("cpu"), "no")
    told_s = {"guides": "noisy", "base": "source" if classes else "none", "closed_loop": False, "retries": 0}
    images = np.random.default_rng(0).random((2, SIZE, SIZE, CHANNELS)).astype(np.float32)
    for scale in (0.0, 100.0):
        s = EditSettings(**told_s, scale=scale, steps=3, depth=0.4)
        edits = Editor(cast, s).edit(images, ["a", "b"], 0)
        assert not edits.quarantined.any()
        changed = (edits.counterfactual != images).any((1, 2))  # (N, C)
        assert changed.all() if scale else not changed.any(), "all four channels, and only with guidance"
