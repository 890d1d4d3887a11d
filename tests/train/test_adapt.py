"""That a model learns a new laboratory from a few images, what it forgets, and that rank 0 changes nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cfdiff.errors import UserError
from cfdiff.models.checkpoint import in_half, load_diffusion, load_model, read_card, save_model
from cfdiff.models.lora import low_rank, merged
from cfdiff.train.adapt import AdaptValidation, adapt
from cfdiff.train.diffusion import train_diffusion
from cfdiff.train.loop import Trainer
from cfdiff.train.settings import AdaptSettings, DiffusionSettings

peft = pytest.importorskip("peft")

QUICK: dict[str, Any] = {"device": "cpu", "val_limit": 24, "augment": "none"}


@pytest.fixture(scope="module")
def world(toys: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Old images with splits, new ones that are their negatives, and a small class-conditional model of the old."""
    folder = tmp_path_factory.mktemp("adapt")
    splits = np.array(["train"] * 72 + ["val"] * 24)
    old = toys.write_npz(folder / "old.npz", 96, split=splits)
    with np.load(old) as file:
        arrays = {key: file[key] for key in file.files}
    arrays |= {"images": 255 - arrays["images"], "patient": np.char.add("N", arrays["patient"])}
    np.savez(folder / "new.npz", **{key: value for key, value in arrays.items() if key != "split"})
    model = train_diffusion(
        DiffusionSettings(
            data=str(old), out=folder / "model", condition="class", T=50, width=16, mult=(1, 2), attention=(2,),
            steps=60, batch_size=16, lr=4e-3, warmup=5, ema=0.9, eval_every=60, group_key="patient", **QUICK,
        )
    ).model  # fmt: skip
    return old, folder / "new.npz", model


def settings(world: tuple[Path, Path, Path], out: Path, **changes: Any) -> AdaptSettings:
    old, new, model = world
    common = {"data": str(new), "old": str(old), "diffusion": model, "group_key": "patient", "out": out, "ema": 0.5}
    common |= {"steps": 30, "lr": 8e-3, "warmup": 2, "eval_every": 15, "images": 12, "prior_images": 8, **QUICK}
    return AdaptSettings(**(common | changes))


def test_additions_of_low_rank_begin_as_nothing_and_become_part_of_the_weights(world: tuple[Path, Path, Path]) -> None:
    base = load_model(world[2]).net
    net = low_rank(load_model(world[2]).net, 3)
    trained = [p for p in net.parameters() if p.requires_grad]
    assert trained and sum(p.numel() for p in trained) < sum(p.numel() for p in base.parameters())
    begun = merged(net).state_dict()
    assert begun.keys() == base.state_dict().keys()
    assert all(torch.equal(value, begun[name]) for name, value in base.state_dict().items()), "bit for bit"
    torch.manual_seed(0)
    with torch.no_grad():
        for p in trained:
            p.add_(0.05 * torch.randn_like(p))
    x, t = torch.randn(2, 1, 16, 16), torch.tensor([3, 40])
    with torch.no_grad():
        torch.testing.assert_close(merged(net)(x, t), net(x, t), atol=1e-5, rtol=1e-4)
        assert (net(x, t) - base(x, t)).abs().max() > 1e-3


def test_it_learns_what_is_new_and_the_prior_keeps_what_was(world: tuple[Path, Path, Path], tmp_path: Path) -> None:
    free = adapt(settings(world, tmp_path / "free", prior=0.0))
    kept = adapt(settings(world, tmp_path / "kept", prior=4.0))
    for found in (free, kept):
        assert found.val_loss < found.val_loss_before, "the new laboratory"
    assert free.val_loss_old_before == kept.val_loss_old_before
    assert kept.val_loss_old < free.val_loss_old, "language drift, and what holds it"
    model = load_diffusion(kept.model)
    assert model.card.kind == "diffusion" and model.conditional
    told = model.card.data
    assert {name[0] for name in told["groups"]} == {"P", "N"}, "patients of both"
    assert set(load_model(world[2]).card.data["groups"]) < set(told["groups"])
    assert told["adapted_from"] == load_model(world[2]).sha256
    assert told["adapted_to"]["images"] == 12


@pytest.mark.parametrize("old", [True, False])
def test_stopped_and_gone_on_with_it_ends_in_the_same_weights(
    world: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bool
) -> None:
    short: dict[str, Any] = {"steps": 8, "eval_every": 4, **({} if old else {"old": None})}
    whole = adapt(settings(world, tmp_path / "whole", **short))
    step, out = Trainer._one_step, tmp_path / "parts"

    def stopped(self: Trainer, loss: Any) -> Any:
        if self.step == 5:
            raise KeyboardInterrupt
        return step(self, loss)

    monkeypatch.setattr(Trainer, "_one_step", stopped)
    with pytest.raises(KeyboardInterrupt):
        adapt(settings(world, out, **short))
    monkeypatch.setattr(Trainer, "_one_step", step)
    with pytest.raises(UserError, match="other settings"):
        adapt(settings(world, out, **short, rank=2))
    again = adapt(settings(world, out, **short))
    before, after = (load_model(path).net.state_dict() for path in (whole.model, again.model))
    assert all(torch.equal(before[name], after[name]) for name in before)
    told = json.loads((out / "settings.json").read_text())
    assert told["diffusion"] == "model.safetensors" and told["old"] == ("old.npz" if old else None), "no paths"


def test_another_model_in_the_place_of_the_old_one_is_another_training(
    world: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    model = tmp_path / "model.safetensors"
    model.write_bytes(world[2].read_bytes())
    adapt(settings(world, tmp_path / "out", diffusion=model, steps=2, old=None))
    other = load_model(world[2])
    with torch.no_grad():
        next(other.net.parameters()).add_(1)
    save_model(model, other.net, other.card)
    with pytest.raises(UserError, match="has changed since the training"):
        adapt(settings(world, tmp_path / "out", diffusion=model, steps=2, old=None))


def test_what_was_before_is_measured_on_the_same_images() -> None:
    """Whatever share of them a validation takes."""

    class New:
        z0 = torch.zeros(200, 1, 8, 8)

        def __call__(self, net: Any, step: int, share: float) -> dict[str, Any]:
            return {"val_loss": float(max(1, int(share * 200)))}

    validation = AdaptValidation(New(), None, SimpleNamespace(net=None), None)  # type: ignore[arg-type]
    validation._loss = lambda net, z0: float(len(z0))  # type: ignore[method-assign]
    seen = [validation(torch.nn.Identity(), 0, share) for share in (0.01, 1.0, 0.5)]
    assert [(found["val_loss"], found["val_loss_before"]) for found in seen] == [(2, 2), (200, 200), (100, 100)]


def full(path: Path, out: Path) -> Path:
    """A model in float32, of which no weight is one of float16."""
    model = load_model(path)
    with torch.no_grad():
        for p in model.net.parameters():
            p.mul_(1 + 1e-5)
    save_model(out, model.net, model.card, half=False)
    return out


@pytest.mark.parametrize("prior", [0.0, 1.0])
@pytest.mark.parametrize("half", [True, False])
def test_rank_0_is_the_identity(world: tuple[Path, Path, Path], tmp_path: Path, prior: float, half: bool) -> None:
    """Whichever numbers the file holds."""
    model = world[2] if half else full(world[2], tmp_path / "full.safetensors")
    found = adapt(settings(world, tmp_path / "out", diffusion=model, rank=0, steps=3, prior=prior))
    assert found.val_loss == pytest.approx(found.val_loss_before, abs=1e-7)
    before, after = (load_file(path) for path in (model, found.model))
    assert {v.dtype for v in after.values() if v.is_floating_point()} == {torch.float16 if half else torch.float32}
    assert all(torch.equal(before[name], after[name]) for name in before)
    said = adapt(settings(world, tmp_path / "said", diffusion=model, rank=0, steps=1, prior=0.0, half=not half))
    assert in_half(said.model) == (not half)


def test_all_weights_may_be_trained_and_prior_images_drawn_by_the_model(
    world: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    found = adapt(settings(world, tmp_path / "out", low_rank=False, old=None, lr=2e-3))
    assert found.val_loss < found.val_loss_before and found.val_loss_old is None
    line = json.loads((tmp_path / "out" / "log.jsonl").read_text().splitlines()[-1])
    assert "val_loss_old" not in line and (tmp_path / "out" / "samples-000030.png").exists()


def test_where_there_are_no_other_images_the_same_validate(
    world: tuple[Path, Path, Path], tmp_path: Path, toys: Any
) -> None:
    few = toys.write_npz(tmp_path / "few.npz", 6)
    found = adapt(settings(world, tmp_path / "out", data=str(few), images=30, steps=2, old=None))
    told = read_card(found.model).data["adapted_to"]
    assert told["val_split"] == "the same" and told["images"] == 6
    with pytest.raises(UserError, match="split"):
        adapt(settings(world, tmp_path / "other", data=str(few), split="train", steps=2, old=None))


def test_what_cannot_be_is_one_sentence(world: tuple[Path, Path, Path], tmp_path: Path, toys: Any) -> None:
    small = toys.write_npz(tmp_path / "small.npz", 24, size=8)
    with pytest.raises(UserError, match="are 8x8 with 1 channel, but the diffusion model"):
        adapt(settings(world, tmp_path / "out", data=str(small)))
    turned = toys.write_npz(tmp_path / "turned.npz", 24)
    with pytest.raises(UserError, match="is the positive class"):
        adapt(settings(world, tmp_path / "out", data=str(turned), old=None, negative="sick", positive="healthy"))
    with pytest.raises(UserError, match="has no splits to train and to validate on"):
        adapt(settings(world, tmp_path / "out", old=str(world[1])))
    with pytest.raises(UserError, match="--rank 0 changes nothing"):
        adapt(settings(world, tmp_path / "out", rank=0, weight_decay=0.1))
    (tmp_path / "sd").mkdir()
    with pytest.raises(UserError, match="--diffusion 'sd' is a folder, .* own files alone, not from models of diff"):
        adapt(settings(world, tmp_path / "out", diffusion=tmp_path / "sd"))
    for rank in (0, 4):
        with pytest.raises(UserError, match=f"--rank {rank} is of additions .* --all-weights trains the weights them"):
            adapt(settings(world, tmp_path / "out", rank=rank, low_rank=False))
    guide = toys.save_classifier(tmp_path / "guide.safetensors", toys.toy_classifier(1, True))
    with pytest.raises(UserError, match="a diffusion model is needed"):
        adapt(settings(world, tmp_path / "out", diffusion=guide))
    assert not (tmp_path / "out").exists()


def test_a_model_of_latents_is_adapted_in_its_space(world: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """Its autoencoder travels with it."""
    diffusers = pytest.importorskip("diffusers")
    from cfdiff.models.autoencoder import AutoencoderConfig, build_autoencoder
    from cfdiff.models.checkpoint import Card
    from cfdiff.models.unet import UNet, UNetConfig

    _ = diffusers
    torch.manual_seed(0)
    config = AutoencoderConfig(channels=1, size=(16, 16), patch=2, widths=(8,), latent=3, linear=True)
    file = tmp_path / "m" / "autoencoder.safetensors"
    file.parent.mkdir()
    latents = {"latents": {"shift": [0.0] * 3, "scale": [1.0] * 3}}
    save_model(file, build_autoencoder(config), Card("autoencoder", config.model_dump(mode="json"), None, {}, latents))
    net = UNet(UNetConfig(channels=3, size=(8, 8), patch=1, width=8, mult=(1, 2), attention=()))
    space = {"name": "latent", "autoencoder": load_model(file).sha256}
    old = load_model(world[2]).card
    card = replace(old, config=net.config.model_dump(mode="json"), space=space, image=[16, 16, 1], condition=None)
    save_model(tmp_path / "m" / "model.safetensors", net, card)
    out = tmp_path / "out"
    found = adapt(settings(world, out, diffusion=tmp_path / "m" / "model.safetensors", steps=2))
    assert load_diffusion(found.model).shape == (16, 16, 1)
    assert (out / "autoencoder.safetensors").read_bytes() == file.read_bytes()
