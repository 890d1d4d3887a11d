"""train-classifier --init: a classifier that begins from a diffusion model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from spots import write_spots

from cfdiff.errors import UserError
from cfdiff.models.checkpoint import Card, in_half, load_diffusion, load_model, save_model
from cfdiff.models.unet import UNet, UNetConfig
from cfdiff.models.way_down import WayDown
from cfdiff.train.beginning import GENTLE
from cfdiff.train.classifier import train_classifier
from cfdiff.train.diffusion import train_diffusion
from cfdiff.train.settings import ClassifierSettings, DiffusionSettings

QUICK: dict[str, Any] = {"batch_size": 16, "device": "cpu", "threads": 1, "group_key": "patient"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Spots of patients in three splits."""
    splits = np.repeat(["train", "other", "val"], [48, 24, 24])
    return write_spots(tmp_path_factory.mktemp("toy") / "toy.npz", split=splits)


@pytest.fixture(scope="module")
def denoiser(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A class-conditional diffusion model of them that has learned a little, on T = 60."""
    return train_diffusion(
        DiffusionSettings(
            **QUICK, data=str(data), out=tmp_path_factory.mktemp("d"), width=16, mult=(1, 2), attention=(), T=60,
            steps=40, eval_every=40, lr=3e-3, warmup=5, ema=0.9, condition="class", schedule="linear", split="train",
            half=False,
        )
    ).model  # fmt: skip


@pytest.mark.parametrize("noisy", [False, True])
def test_a_classifier_that_begins_from_a_diffusion_model_learns(
    data: Path, denoiser: Path, tmp_path: Path, noisy: bool
) -> None:
    s = ClassifierSettings(
        **QUICK, data=str(data), out=tmp_path, noisy=noisy, init=denoiser, steps=80, eval_every=80, warmup=5, ema=0.9,
        lr=3e-3, split="other",
    )  # fmt: skip
    figures = train_classifier(s)
    assert figures.val_accuracy > 0.8
    model = load_model(figures.model, "noisy-classifier" if noisy else "clean-classifier")
    assert isinstance(model.net.net, WayDown)
    theirs = load_diffusion(denoiser).card
    assert model.card.data["began_from"] == load_diffusion(denoiser).sha256
    assert set(theirs.data["groups"]) == {f"P{i}" for i in range(12)}
    assert set(model.card.data["groups"]) == {f"P{i}" for i in range(18)}, "what taught the one or the other"
    assert not in_half(figures.model), "as the file that it begins from"
    assert model.card.schedule == (theirs.schedule if noisy else None)
    said = json.loads((tmp_path / "settings.json").read_text())
    assert said["init"] == denoiser.name and said["arch"] == "unet" and said["kwargs"]["schedule"] == theirs.schedule
    before = figures.model.read_bytes()
    assert train_classifier(s).step == 80
    assert figures.model.read_bytes() == before, "the same command finds its own training"


def test_a_training_that_goes_on_began_from_what_it_began_from(data: Path, denoiser: Path, tmp_path: Path) -> None:
    """As where a fit is given more minutes: its diffusion model is another one by then."""
    own = tmp_path / "model.safetensors"
    own.write_bytes(denoiser.read_bytes())
    told: dict[str, Any] = {**QUICK, "data": str(data), "out": tmp_path / "out", "noisy": False, "split": "other"}
    first = train_classifier(ClassifierSettings(**told, init=own, steps=4, eval_every=2, max_minutes=5))
    model = load_diffusion(own)
    save_model(own, model.net, replace(model.card, training={"steps": 999}))
    assert load_diffusion(own).sha256 != model.sha256
    for settings in ({"eval_every": 1}, {"force": True}):
        s = ClassifierSettings(**{**told, "init": own, "steps": 4, "eval_every": 2, "max_minutes": 5, **settings})
        state = tmp_path / "out" / "state.pt"
        kept = torch.load(state, weights_only=True)
        torch.save({**kept, "step": 2}, state)  # stopped half way
        known = load_model(train_classifier(s).model).card.data["began_from"]
        assert known == (load_diffusion(own).sha256 if "force" in settings else model.sha256)
    assert first.step == 4


def test_a_validation_that_taught_the_diffusion_model_is_said(
    data: Path, denoiser: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told: dict[str, Any] = {**QUICK, "data": str(data), "noisy": False, "split": "other", "steps": 1, "eval_every": 1}
    train_classifier(ClassifierSettings(**told, out=tmp_path / "a", init=denoiser, val_split="val"))
    assert "taught what it begins from" not in capsys.readouterr().err
    train_classifier(ClassifierSettings(**told, out=tmp_path / "b", init=denoiser, val_split="train"))
    assert "12 of 12 groups to validate on taught what it begins from" in capsys.readouterr().err


def test_it_begins_with_the_weights_of_the_model_and_a_gentle_rate(data: Path, denoiser: Path, tmp_path: Path) -> None:
    more: dict[str, Any] = {"noisy": False, "init": denoiser, "steps": 1, "eval_every": 1}
    model = load_model(train_classifier(ClassifierSettings(**QUICK, **more, data=str(data), out=tmp_path / "a")).model)
    own = load_diffusion(denoiser).net.state_dict()
    net = model.net.net
    assert isinstance(net, WayDown)
    assert torch.allclose(net.net.stem.weight, own["stem.weight"], atol=2 * GENTLE)
    assert model.card.training["settings"]["lr"] == GENTLE
    told = ClassifierSettings(**QUICK, **more, data=str(data), out=tmp_path / "b", lr=5e-4)
    assert load_model(train_classifier(told).model).card.training["settings"]["lr"] == 5e-4


def test_a_guide_has_the_schedule_that_is_asked_for_and_the_way_down_counts_by_its_own(
    data: Path, denoiser: Path, tmp_path: Path
) -> None:
    more: dict[str, Any] = {"init": denoiser, "steps": 1, "eval_every": 1, "T": 30, "schedule": "cosine"}
    model = load_model(train_classifier(ClassifierSettings(**QUICK, **more, data=str(data), out=tmp_path)).model)
    assert model.schedule.config["T"] == 30 and isinstance(model.net.net, WayDown)
    assert len(model.net.net.levels) == 60


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
        ({"init": "words"}, "--init 'model.safetensors' reads words, which a classifier has not"),
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
    elif changes.get("init") == "words":
        wordy: dict[str, Any] = {"condition": "attributes", "columns": "class", "width": 8, "attention": (2,)}
        settings["init"] = train_diffusion(
            DiffusionSettings(**QUICK, **wordy, data=str(data), out=tmp_path / "w", mult=(1, 2), steps=1, eval_every=1)
        ).model
    elif "init" in changes:
        settings["init"] = tmp_path / changes["init"]
    out = tmp_path / "out"
    with pytest.raises(UserError, match=says):
        train_classifier(ClassifierSettings(**QUICK, data=str(data), out=out, **settings))
    assert not out.exists()
