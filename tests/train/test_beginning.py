"""train-classifier --init: a classifier that begins from a diffusion model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cfdiff.errors import UserError
from cfdiff.models.checkpoint import Card, load_diffusion, load_model, save_model
from cfdiff.models.unet import UNet, UNetConfig
from cfdiff.models.way_down import WayDown
from cfdiff.train.beginning import GENTLE
from cfdiff.train.classifier import train_classifier
from cfdiff.train.diffusion import train_diffusion
from cfdiff.train.settings import ClassifierSettings, DiffusionSettings

QUICK: dict[str, Any] = {"batch_size": 16, "device": "cpu", "threads": 1, "group_key": "patient"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96 images 16x16 of two classes, plain and with a bright spot, of 24 patients."""
    rng = np.random.default_rng(0)
    labels = np.arange(96) % 2
    images = rng.integers(80, 100, (96, 16, 16), dtype=np.uint8)
    for k in np.flatnonzero(labels):
        i, j = rng.integers(2, 10, 2)
        images[k, i : i + 4, j : j + 4] += 120
    path = tmp_path_factory.mktemp("toy") / "toy.npz"
    patient = np.array([f"P{i // 4}" for i in range(96)])
    np.savez(path, images=images, labels=np.array(["negative", "positive"])[labels], patient=patient)
    return path


@pytest.fixture(scope="module")
def denoiser(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A class-conditional diffusion model of them that has learned a little, on T = 60."""
    return train_diffusion(
        DiffusionSettings(
            **QUICK, data=str(data), out=tmp_path_factory.mktemp("d"), width=16, mult=(1, 2), attention=(), T=60,
            steps=40, eval_every=40, lr=3e-3, warmup=5, ema=0.9, condition="class", schedule="linear",
        )
    ).model  # fmt: skip


@pytest.mark.parametrize("noisy", [False, True])
def test_a_classifier_that_begins_from_a_diffusion_model_learns(
    data: Path, denoiser: Path, tmp_path: Path, noisy: bool
) -> None:
    s = ClassifierSettings(
        **QUICK, data=str(data), out=tmp_path, noisy=noisy, init=denoiser, steps=80, eval_every=80, warmup=5, ema=0.9,
        lr=3e-3,
    )  # fmt: skip
    figures = train_classifier(s)
    assert figures.val_accuracy > 0.8
    model = load_model(figures.model, "noisy-classifier" if noisy else "clean-classifier")
    assert isinstance(model.net.net, WayDown)
    theirs = load_diffusion(denoiser).card
    assert model.card.data["began_from"] == load_diffusion(denoiser).sha256
    assert set(model.card.data["groups"]) >= set(theirs.data["groups"])
    assert model.card.schedule == (theirs.schedule if noisy else None)
    said = json.loads((tmp_path / "settings.json").read_text())
    assert said["init"] == denoiser.name and said["arch"] == "unet" and said["kwargs"]["schedule"] == theirs.schedule
    assert train_classifier(s).step == 80, "the same command finds its own training"


def test_it_begins_with_the_weights_of_the_model_and_a_gentle_rate(data: Path, denoiser: Path, tmp_path: Path) -> None:
    more: dict[str, Any] = {
        "noisy": False,
        "init": denoiser,
        "steps": 1,
        "eval_every": 1,
        "warmup": 10_000,
        "half": False,
    }
    model = load_model(train_classifier(ClassifierSettings(**QUICK, **more, data=str(data), out=tmp_path / "a")).model)
    own = load_diffusion(denoiser).net.state_dict()
    net = model.net.net
    assert isinstance(net, WayDown)
    assert torch.allclose(net.net.stem.weight, own["stem.weight"], atol=2 * GENTLE)
    assert model.card.training["settings"]["lr"] == GENTLE
    told = ClassifierSettings(**QUICK, **more, data=str(data), out=tmp_path / "b", lr=1e-3)
    assert load_model(train_classifier(told).model).card.training["settings"]["lr"] == 1e-3


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"arch": "resnet10t"}, "--init 'model.safetensors' is the network .* and --arch shapes another one"),
        ({"upsample": 2}, "and --upsample shapes another one"),
        ({"pretrained": Path("w.safetensors")}, "and --pretrained shapes another one"),
        ({"init": "larger"}, "draws images of 32x32x1 in pixel space, and this training is of others"),
        ({"init": "latent"}, "draws images of .* in latent space, and this training is of others"),
        ({"init": "classifier"}, "is a clean-classifier model, but a diffusion model is needed"),
        ({"init": "folder"}, "--init 'folder' is a folder"),
    ],
)
def test_what_it_cannot_begin_from_says_so_before_anything_is_trained(
    data: Path, denoiser: Path, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    net = UNet(UNetConfig(size=(32, 32), width=8, mult=(1,), attention=()))
    schedule = {"name": "cosine", "T": 9}
    save_model(tmp_path / "larger", net, Card("diffusion", net.config.model_dump(), schedule, {}, {}))
    net = UNet(UNetConfig(size=(16, 16), width=8, mult=(1,), attention=()))
    elsewhere: dict[str, Any] = {"space": {"name": "latent"}, "image": [16, 16, 1]}
    save_model(tmp_path / "latent", net, Card("diffusion", net.config.model_dump(), schedule, {}, {}, **elsewhere))
    (tmp_path / "folder").mkdir()
    settings = {"init": denoiser, **changes}
    if changes.get("init") == "classifier":
        small = {"channels": [8, 8, 8, 8], "stem_width": 8}
        more: dict[str, Any] = {"noisy": False, "steps": 1, "eval_every": 1, "arch": "resnet10t", "kwargs": small}
        settings["init"] = train_classifier(
            ClassifierSettings(**QUICK, **more, data=str(data), out=tmp_path / "c")
        ).model
    elif "init" in changes:
        settings["init"] = tmp_path / changes["init"]
    out = tmp_path / "out"
    with pytest.raises(UserError, match=says):
        train_classifier(ClassifierSettings(**QUICK, data=str(data), out=out, **settings))
    assert not out.exists()
