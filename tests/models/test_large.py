"""A colour image of 512 px is edited whole in latents of 64x64, an eighth as fine: no tiles, no scaling."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from cfdiff.data.values import to_model
from cfdiff.models.autoencoder import AutoencoderConfig, build_autoencoder, measured
from cfdiff.models.checkpoint import Card, load_model, save_model
from cfdiff.models.classifier import Classifier, ClassifierConfig
from cfdiff.models.latent import LatentSpace
from cfdiff.models.unet import UNet, UNetConfig
from cfdiff.store import open_result
from cfdiff.translate.run import translate
from cfdiff.translate.settings import TranslateSettings

pytest.importorskip("diffusers")
SIDE, LATENT = 512, 64
STRONG = 1e6
"""The gradient of an untrained guide is tiny; the limit on guidance (`ratio`) bounds what comes of it."""


def models(folder: Path, toys: ModuleType, images: np.ndarray) -> Path:
    """A weights folder of untrained networks: an edit by them means nothing, but goes the way that a real one goes."""
    folder.mkdir()
    torch.manual_seed(0)
    config = AutoencoderConfig(channels=3, size=(SIDE, SIDE), patch=4, widths=(8, 8), latent=4)
    assert config.factor == SIDE // LATENT
    autoencoder = build_autoencoder(config).eval()
    with torch.no_grad():
        latents = measured(autoencoder.encode(to_model(images)))
    trained, classes = {"latents": latents}, {"classes": list(toys.CLASSES)}
    card = Card("autoencoder", config.model_dump(mode="json"), None, classes, trained)
    save_model(folder / "autoencoder.safetensors", autoencoder, card)
    told = {"space": {"name": "latent", **LatentSpace.of(folder / "autoencoder.safetensors").told}}
    told["image"] = [SIDE, SIDE, 3]
    unet = UNet(UNetConfig(channels=4, size=(LATENT, LATENT), patch=2, width=8, mult=(1, 2), attention=()))
    for p in unet.parameters():
        p.data += 0.05 * torch.randn(p.shape)
    seen = ClassifierConfig(arch="resnet10t", kwargs=toys.TINY, channels=4, size=(LATENT, LATENT), noisy=True)
    for save, name, net in (
        (toys.save_unet, "diffusion", unet),
        (toys.save_classifier, "guide", Classifier(seen)),
    ):
        path = save(folder / f"{name}.safetensors", net.eval())
        save_model(path, net, replace(load_model(path).card, **told))
    return folder


def test_a_large_image_is_edited_whole_inside_its_mask_or_not_at_all(toys: ModuleType, tmp_path: Path) -> None:
    data = toys.write_npz(tmp_path / "large.npz", 2, size=SIDE, channels=3)
    with np.load(data) as z:
        images, masks = z["images"], z["masks"].copy()
    masks[:] = False
    masks[:, 100:205, 300:411] = True  # on no border of an 8x8 patch
    data = toys.write_npz(tmp_path / "large.npz", 2, size=SIDE, channels=3, masks=masks)
    told = {"data": str(data), "weights": str(models(tmp_path / "weights", toys, images)), "guides": "noisy"}
    told |= {"closed_loop": False, "retries": 0, "trim": 0.0, "mask": "data", "from_": "negative", "device": "cpu"}
    found = {}
    for scale in (0.0, STRONG):
        out = tmp_path / f"{scale}.h5"
        translate(TranslateSettings(**told, scale=scale, steps=3, depth=0.4, threads=1, out=out))
        with open_result(out) as result:
            found[scale] = result.counterfactual[:], result.source[:]
    same, source = found[0.0]
    assert source.shape == (1, SIDE, SIDE, 3) and source.tobytes() == images[:1].tobytes() == same.tobytes()
    changed = (found[STRONG][0] != source).any(3)
    assert changed[masks[:1]].mean() > 0.5 and not changed[~masks[:1]].any()
