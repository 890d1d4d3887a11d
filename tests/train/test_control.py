"""cfdiff train-control and translate --control, from a denoiser to a held edit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cfdiff.data.open import open_source
from cfdiff.data.values import to_model
from cfdiff.engine.symmetry import turned
from cfdiff.errors import UserError
from cfdiff.models.checkpoint import in_half, load_model, read_card, save_model
from cfdiff.models.control import Control
from cfdiff.models.latent import LatentSpace
from cfdiff.store import open_result
from cfdiff.train.batches import Batch
from cfdiff.train.control import train_control
from cfdiff.train.settings import ControlSettings
from cfdiff.train.spaces import Encodings
from cfdiff.translate.run import translate

QUICK: dict[str, Any] = {"batch_size": 8, "val_limit": 8, "device": "cpu", "threads": 1, "warmup": 1, "ema": 0.0}


def trained(toy: Any, out: Path, **more: Any) -> Any:
    given = {"data": str(toy.data), "diffusion": toy.weights / "diffusion.safetensors", "out": out}
    return train_control(ControlSettings(**{**given, "steps": 3, "eval_every": 3, "lr": 1e-2, **QUICK, **more}))


@pytest.fixture(scope="module")
def branch(toy: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(toy, tmp_path_factory.mktemp("control") / "out").model


def test_only_the_branch_learns_and_its_card_names_the_denoiser(toy: Any, branch: Path) -> None:
    card, denoiser = read_card(branch), load_model(toy.weights / "diffusion.safetensors")
    assert card.kind == "control" and card.config["control"] == "edges" and card.config["of"] == denoiser.sha256
    assert card.training["validation"]["val_loss_before"] > 0
    net = load_model(branch, "control").net
    assert isinstance(net, Control) and all(zero.weight.abs().max() > 0 for zero in net.zeros)
    assert not any(key.startswith(("copy.up", "copy.head")) for key in net.state_dict())


def test_images_are_encoded_once_and_turned_as_their_lines_are(
    toy_latent: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 96 draws no image is encoded twice; a turned one has the encoding of the turned; and it learns in latents."""
    plain, seen = LatentSpace.encode, []

    def encode(self: LatentSpace, x: torch.Tensor) -> torch.Tensor:
        seen.extend(image.numpy().tobytes() for image in x)
        return plain(self, x)

    monkeypatch.setattr(LatentSpace, "encode", encode)
    result = trained(toy_latent, tmp_path / "out", steps=12, eval_every=12, augment="none")
    assert len(seen) - len(set(seen)) <= 1, "but for the probe of the shape"
    assert load_model(result.model, "control").card.space is not None and result.figures()["val_loss"] > 0

    space = load_model(toy_latent.weights / "diffusion.safetensors").space
    source = open_source(toy_latent.data)
    coins = torch.tensor([[True, False, False], [False, True, True]])
    images = to_model(source.read([3, 5]))
    batch = Batch(images, torch.zeros(2), None, np.array([3, 5]))  # type: ignore[arg-type]  # draws nothing
    kept = Encodings(space, source, "dihedral")
    for _ in range(2):  # from the network, then from memory
        got = kept(batch, coins)
        torch.testing.assert_close(got, space.encode(turned(images, coins)))
    assert not torch.allclose(got, space.encode(images))


def test_an_edit_is_held_by_the_lines_of_its_source_and_no_guidance_is_no_change(
    toy: Any, branch: Path, tmp_path: Path
) -> None:
    """Images that flip leave the batch: the lines must stay with those that are tried again."""
    made = {}
    for name, more in {
        "free": {},
        "held": {"control": "edges", "control_model": branch},
        "still": {"scale": 0},
    }.items():
        control = {"control": "edges", "control_model": branch} if name == "still" else {}
        translate(toy.settings(tmp_path / f"{name}.h5", limit=6, edit="anchored+regenerate", **{**control, **more}))
        with open_result(tmp_path / f"{name}.h5") as run:
            made[name] = run["counterfactual"][:]
            source, models, told = run["source"][:], run.settings["models"]["diffusion"], run.settings
    assert np.array_equal(made["still"], source) and not np.array_equal(made["held"], made["free"])
    assert "+" in models and told["control"] == "edges" and "control_model" not in told


def test_a_branch_that_does_not_fit_is_one_sentence(toy: Any, branch: Path, toys: Any, tmp_path: Path) -> None:
    def refused(says: str, **more: Any) -> None:
        with pytest.raises(UserError, match=says):
            translate(toy.settings(tmp_path / "no.h5", limit=2, **more))

    refused("none lies with the weights: train one", control="edges")
    refused("reads edges, and --control asks for outline", control="outline", control_model=branch)
    refused("is for --control edges", control_model=branch)
    torch.manual_seed(5)
    other = toys.save_unet(tmp_path / "other.safetensors", toys.toy_unet())
    refused("trained beside another diffusion model", control="edges", control_model=branch, diffusion=other)
    wide = toys.save_unet(tmp_path / "wide.safetensors", toys.toy_unet(size=24))
    small = toys.write_npz(tmp_path / "wide.npz", 24, size=24)
    large = trained(toy, tmp_path / "large", data=str(small), diffusion=wide, steps=1).model
    with pytest.raises(UserError) as error:
        translate(toy.settings(tmp_path / "no.h5", limit=2, control="edges", control_model=large))
    assert str(error.value) == (
        "The control branch 'model' was trained on images of 24x24 pixels, and the diffusion model 'diffusion' takes "
        "16x16: train one for this (cfdiff train-control --diffusion)."
    )
    with pytest.raises(UserError, match="24x24"):
        trained(toy, tmp_path / "misfit", data=str(small))


def test_lines_of_masks_that_are_not_there_are_refused_with_what_to_do_instead(
    toy: Any, branch: Path, toys: Any, tmp_path: Path
) -> None:
    """Neither command has `--mask auto` to say here."""
    plain = toys.write_npz(tmp_path / "plain.npz", 24, masks=None)
    said = "plain.npz has no masks, which --control mask needs: use --control edges or outline."
    with pytest.raises(UserError) as error:
        trained(toy, tmp_path / "out", data=str(plain), control="mask")
    assert str(error.value) == said
    with pytest.raises(UserError) as error:
        translate(toy.settings(tmp_path / "no.h5", data=str(plain), control="mask", control_model=branch))
    assert str(error.value) == said


def test_a_folder_of_diffusers_is_no_denoiser_to_copy(toy: Any, tmp_path: Path) -> None:
    (tmp_path / "sd").mkdir()
    with pytest.raises(UserError, match="--diffusion 'sd' is a folder, .* own files alone, not from models of diff"):
        trained(toy, tmp_path / "out", diffusion=tmp_path / "sd")


def test_a_branch_is_saved_in_the_numbers_of_its_denoiser_unless_it_is_said(toy: Any, tmp_path: Path) -> None:
    model = load_model(toy.weights / "diffusion.safetensors")
    full = tmp_path / "full.safetensors"
    save_model(full, model.net, model.card, half=False)
    assert not in_half(trained(toy, tmp_path / "a", diffusion=full, steps=1).model)
    assert in_half(trained(toy, tmp_path / "b", diffusion=full, steps=1, half=True).model)
    assert in_half(trained(toy, tmp_path / "c", steps=1).model)
