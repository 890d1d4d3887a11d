"""That an autoencoder learns, what its training leaves, and how trainings in its latents go on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cfdiff.data.open import open_source
from cfdiff.errors import UserError
from cfdiff.metrics.fidelity import fidelity, psnr
from cfdiff.models.autoencoder import (
    Autoencoder,
    AutoencoderConfig,
    build_autoencoder,
    check_size,
    load_folder,
    measured,
)
from cfdiff.models.checkpoint import Card, load_diffusion, load_model, read_card, save_model
from cfdiff.models.features import feature_distance, feature_maps
from cfdiff.models.latent import LatentSpace, load_autoencoder
from cfdiff.models.space import PixelSpace
from cfdiff.train.autoencoder import kl_from_standard, train_autoencoder
from cfdiff.train.batches import Batch, Batches, Light, augment
from cfdiff.train.classifier import train_classifier
from cfdiff.train.diffusion import train_diffusion
from cfdiff.train.settings import AutoencoderSettings, ClassifierSettings, DiffusionSettings
from cfdiff.train.spaces import Encodings, open_space

diffusers = pytest.importorskip("diffusers")

SMALL: dict[str, Any] = {"patch": 2, "widths": (16,), "latent": 3, "device": "cpu", "batch_size": 16, "val_limit": 16}
TINY = {"channels": [8, 16, 16, 16], "stem_width": 8}


@pytest.fixture(scope="module")
def trained(toy: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The folder of a training that was stopped and went on, and what it returned."""
    out = tmp_path_factory.mktemp("autoencoder")
    judge = toy.weights / "judge.safetensors"
    same: dict[str, Any] = {
        **SMALL,
        "data": str(toy.data),
        "out": out,
        "group_key": "patient",
        "lr": 4e-3,
        "judge": judge,
    }
    common = {**same, "features": toy.weights / "checker.safetensors", "warmup": 5, "ema": 0.9, "eval_every": 30}
    found = train_autoencoder(AutoencoderSettings(**common, steps=60))
    return out, found


def test_an_autoencoder_learns_and_says_what_its_images_have_lost(trained: tuple[Path, Any], toy: Any) -> None:
    out, found = trained
    first, last = (json.loads(line) for line in (out / "log.jsonl").read_text().splitlines())
    assert last["val_loss"] < first["val_loss"] and last["psnr"] > first["psnr"] > 5
    assert last["psnr"] == found.psnr and 0 < found.ssim <= 1 and 0 <= found.verdicts_kept <= 1
    card = read_card(out / "model.safetensors")
    assert card.kind == "autoencoder" and card.config["size"] == [16, 16]
    assert card.training["validation"] == found.figures() and "latents" not in last
    page = Image.open(out / "images-000060.png")
    n = found.val_images or read_card(out / "model.safetensors").training["validation"].get("val_images") or 6
    assert page.size[0] == 66 * min(8, n) and page.size[1] == 2 * 66, "originals, and below them what was drawn"


def test_the_latents_of_training_images_are_scaled_to_unit_variance(trained: tuple[Path, Any], toy: Any) -> None:
    from cfdiff.data.values import to_model

    out, _ = trained
    card = read_card(out / "model.safetensors")
    source = open_source(toy.data, group_key="patient")
    mine = [i for i, g in enumerate(source.groups) if str(g) in card.data["groups"]]
    z = LatentSpace.of(out / "model.safetensors").encode(to_model(source.read(np.array(mine))))
    assert z.mean((0, 2, 3)).abs().max() < 0.01 and (z.std((0, 2, 3)) - 1).abs().max() < 0.02
    assert set(card.training["latents"]) == {"shift", "scale"}


def test_saved_and_loaded_it_encodes_and_draws_the_same(trained: tuple[Path, Any]) -> None:
    net = load_model(trained[0] / "model.safetensors", "autoencoder").net
    x = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    again = load_autoencoder(trained[0] / "model.safetensors")
    assert torch.equal(net.encode(x), again.encode(x)) and torch.equal(net.encode(x), net.encode(x)), "the mean"
    z = net.encode(x)
    raw = z / net.scale + net.shift
    drawn = torch.pixel_shuffle(net.net.decode(raw).sample, 2) + torch.pixel_shuffle(net.linear.up(raw), 2)
    torch.testing.assert_close(net.decode(z), drawn)


@pytest.mark.parametrize("latent", [3, 6])
def test_before_the_first_step_it_is_the_principal_components_of_the_patches(latent: int) -> None:
    from sklearn.decomposition import PCA

    x = torch.randn(40, 1, 8, 8, generator=torch.Generator().manual_seed(0)).cumsum(-1).cumsum(-2) / 20
    torch.manual_seed(0)
    net = build_autoencoder(
        AutoencoderConfig(channels=1, size=(8, 8), patch=2, widths=(8,), latent=latent, linear=True)
    )
    net.begin(x)
    patches = torch.pixel_unshuffle(x, 2).movedim(1, -1).reshape(-1, 4).numpy()
    theirs = PCA(min(latent, 4)).fit(patches)
    back = torch.from_numpy(theirs.inverse_transform(theirs.transform(patches))).reshape(40, 4, 4, 4).movedim(-1, 1)
    torch.testing.assert_close(net.decode(net.encode(x)), torch.pixel_shuffle(back, 2), atol=1e-5, rtol=0)
    z = net.encode(x)
    assert (z.std((0, 2, 3))[: min(latent, 4)] - 1).abs().max() < 1e-3 and not z[:, 4:].any(), "white; none to spare"
    drawn, mean, log_variance = net(x, torch.zeros_like(z))
    assert torch.equal(mean, z) and torch.equal(log_variance, torch.full_like(z, -8))
    drawn.square().sum().backward()
    assert net.net.decoder.conv_out.weight.grad.any() and net.net.quant_conv.weight.grad.any(), "the network can learn"


def test_kl_is_that_of_torch_and_psnr_and_scale_are_by_hand() -> None:
    mean, log_variance = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    theirs = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, (log_variance / 2).exp()), torch.distributions.Normal(0.0, 1.0)
    )
    assert float(kl_from_standard(mean, log_variance)) == pytest.approx(float(theirs.mean()), rel=1e-5)
    before = np.zeros((1, 16, 16, 1), np.float32)
    assert fidelity(before, before + 0.1)["psnr"] == pytest.approx(20, abs=1e-4)
    assert psnr(np.repeat(before, 2, 0), np.stack([before[0], before[0] + 0.1])) == pytest.approx([100, 20], abs=1e-4)
    z = torch.randn(50, 2, 4, 4) * torch.tensor([3.0, 0.0]).view(1, 2, 1, 1) + 5
    found = measured(z)
    assert found["shift"] == pytest.approx([5, 5], abs=0.5)
    assert found["scale"][0] == pytest.approx(1 / 3, rel=0.2) and found["scale"][1] < 100, "a dead channel is no noise"


def test_feature_distance_is_zero_for_the_original_has_a_gradient_and_grows(toy: Any) -> None:
    maps = feature_maps(load_model(toy.weights / "checker.safetensors"), torch.device("cpu"))
    x = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    near, far = (x + size * torch.randn(x.shape, generator=torch.Generator().manual_seed(1)) for size in (0.05, 0.5))
    assert feature_distance(maps, x, x).tolist() == [0, 0]
    assert (feature_distance(maps, near, x) < feature_distance(maps, far, x)).all()
    near.requires_grad_()
    feature_distance(maps, near, x).sum().backward()
    assert near.grad is not None and near.grad.abs().sum() > 0 and near.grad.isfinite().all()


def test_trainings_in_latents_learn_carry_their_autoencoder_and_go_on(
    toy: Any, trained: tuple[Path, Any], tmp_path: Path
) -> None:
    file = trained[0] / "model.safetensors"
    common: dict[str, Any] = {
        "data": str(toy.data), "group_key": "patient", "device": "cpu", "T": 50, "space": "latent", "autoencoder": file,
        "batch_size": 8, "warmup": 2, "val_limit": 8,
    }  # fmt: skip
    small: dict[str, Any] = {"patch": 1, "width": 8, "mult": (1, 2), "attention": (), "eval_every": 6, "lr": 4e-3}
    whole = train_diffusion(DiffusionSettings(**common, **small, steps=12, out=tmp_path / "whole"))
    model = load_diffusion(tmp_path / "whole" / "model.safetensors")
    assert model.shape == (16, 16, 1) and model.net.config.size == (8, 8) and model.net.config.channels == 3
    assert (
        model.space.told == {"autoencoder": load_model(file).sha256} == {"autoencoder": model.card.space["autoencoder"]}
    )
    assert (tmp_path / "whole" / "autoencoder.safetensors").read_bytes() == file.read_bytes()
    assert whole.bits_per_dim is None, "latents have no bins"

    shutil.copytree(tmp_path / "whole", tmp_path / "again")
    train_diffusion(DiffusionSettings(**common, **small, steps=12, out=tmp_path / "again"))  # there is nothing to do
    other = load_model(file)
    torch.manual_seed(9)
    stranger = build_autoencoder(AutoencoderConfig(**other.card.config))
    save_model(tmp_path / "model.safetensors", stranger, other.card)
    mixed = {**common, "autoencoder": tmp_path / "model.safetensors"}
    with pytest.raises(UserError, match="another space .of another autoencoder"):
        train_diffusion(DiffusionSettings(**mixed, **small, steps=12, out=tmp_path / "whole"))

    guide = train_classifier(
        ClassifierSettings(
            **common, arch="resnet10t", kwargs=TINY, upsample=2, steps=8, eval_every=8, out=tmp_path / "g"
        )
    )
    card = read_card(guide.model)
    assert card.space == model.card.space and card.image == [16, 16, 1] and card.config["channels"] == 3


def test_each_image_and_symmetry_is_encoded_once_and_as_it_would_be_anew(toy: Any, trained: tuple[Path, Any]) -> None:
    source = open_source(toy.data).select(np.arange(6))
    space = LatentSpace.of(trained[0] / "model.safetensors")
    calls: list[int] = []

    class Counted:
        discrete = False
        shape = staticmethod(space.shape)

        @staticmethod
        def encode(x: torch.Tensor) -> torch.Tensor:
            calls.append(len(x))
            return space.encode(x)

    batches = Batches(source, 4, 0)
    encode = Encodings(Counted(), source, "dihedral")  # type: ignore[arg-type]
    calls.clear()
    first = [encode(batches.read(step)) for step in range(120)]
    assert len(calls) <= 6 * 8 and set(calls) == {1}
    again = Encodings(space, source, "dihedral")
    late = [again(batches.read(step)) for step in range(100, 120)]
    assert all(torch.equal(a, b) for a, b in zip(first[100:], late, strict=True)), "as after a stop"
    batch: Batch = batches.read(7)
    anew = space.encode(augment(batch.images, batches.read(7).draws, "dihedral"))
    torch.testing.assert_close(first[7], anew, atol=1e-5, rtol=1e-5)


def test_brightness_and_shifts_are_encoded_anew_and_pixels_are_not_kept(toy: Any, trained: tuple[Path, Any]) -> None:
    source = open_source(toy.data).select(np.arange(6))
    space = LatentSpace.of(trained[0] / "model.safetensors")
    assert (
        Encodings(space, source, "flip", light=Light(gain=0.1)).capacity
        == Encodings(space, source, "none", shift=1).capacity
        == 0
    )
    assert Encodings(PixelSpace(), source, "dihedral").capacity == 0
    assert Encodings(space, source, "none").capacity == 8 * 6


@pytest.mark.parametrize("kind", ["AutoencoderKL", "AutoencoderTiny"])
def test_a_folder_of_diffusers_is_an_autoencoder(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    if kind == "AutoencoderKL":
        blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
        peer = diffusers.AutoencoderKL(
            block_out_channels=(8, 16), **blocks, norm_num_groups=4, scaling_factor=0.6, shift_factor=0.1
        )
    else:
        peer = diffusers.AutoencoderTiny(
            encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), num_encoder_blocks=(1, 1),
            num_decoder_blocks=(1, 1), scaling_factor=0.6,
        )  # fmt: skip
    peer.eval().save_pretrained(tmp_path / "vae")
    space = LatentSpace.of(tmp_path / "vae")
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        found = peer.encode(x)
        theirs = found.latent_dist.mean if kind == "AutoencoderKL" else found.latents
        wanted = (theirs - (peer.config.get("shift_factor") or 0)) * 0.6
        z = space.encode(x)
        torch.testing.assert_close(z, wanted)
        torch.testing.assert_close(space.decode(z), peer.decode(theirs).sample, atol=1e-5, rtol=1e-5)
    assert space.shape(3, 16, 16) == (4, 8, 8)
    z.requires_grad_()
    space.decode(z).square().sum().backward()
    assert z.grad is not None and z.grad.abs().sum() > 0
    model = tmp_path / "run" / "model.safetensors"
    model.parent.mkdir()
    space.put_beside(model)
    assert torch.equal(LatentSpace.beside(model, **space.told).encode(x), space.encode(x))


def test_what_is_no_autoencoder_is_one_sentence(toy: Any, tmp_path: Path) -> None:
    peer = diffusers.AutoencoderTiny(encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8),
                                     num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1))  # fmt: skip
    for name in ("cut", "half", "pickled", "other"):
        peer.save_pretrained(tmp_path / name)
    weights = "diffusion_pytorch_model.safetensors"
    (tmp_path / "cut" / weights).write_bytes((tmp_path / "cut" / weights).read_bytes()[:5000])
    (tmp_path / "half" / weights).unlink()
    (tmp_path / "pickled" / weights).rename(tmp_path / "pickled" / "diffusion_pytorch_model.bin")
    (tmp_path / "other" / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel"}))
    (tmp_path / "empty").mkdir()
    for name, said in (
        ("cut", "is damaged"), ("half", "has no diffusion_pytorch_model.safetensors"), ("pickled", "pickled weights"),
        ("other", "'UNet2DModel'"), ("empty", "is no autoencoder"), ("missing.safetensors", "no model file"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=said) as error:
            load_autoencoder(tmp_path / name)
        assert str(error.value).count(". ") == 0
    with pytest.raises(UserError, match="a autoencoder model is needed|autoencoder"):
        load_autoencoder(toy.weights / "checker.safetensors")


def test_an_autoencoder_that_was_never_validated_has_no_latents_yet(tmp_path: Path) -> None:
    config = AutoencoderConfig(channels=1, size=(16, 16), patch=4, widths=(8,))
    card = Card("autoencoder", config.model_dump(mode="json"), None, {}, {"steps": 3})
    save_model(tmp_path / "model.safetensors", build_autoencoder(config), card)
    with pytest.raises(UserError, match="before its first validation.*let its training go on"):
        load_autoencoder(tmp_path / "model.safetensors")


def test_settings_that_do_not_go_together_are_one_sentence(toy: Any, trained: tuple[Path, Any], tmp_path: Path) -> None:
    file = trained[0] / "model.safetensors"
    with pytest.raises(UserError, match="--space latent needs an autoencoder"):
        open_space("latent", None)
    with pytest.raises(UserError, match="--autoencoder is of --space latent"):
        open_space("pixel", file)
    with pytest.raises(UserError, match="takes images of 1 channels, and these have 3"):
        open_space("latent", file).shape(3, 16, 16)
    with pytest.raises(UserError, match="divisible by 2, but the images are 15x16"):
        open_space("latent", file).shape(1, 15, 16)
    with pytest.raises(UserError, match="divisible by 8.*--size 24"):
        check_size((20, 20), 8)
    with pytest.raises(UserError, match="16x16"):
        train_autoencoder(AutoencoderSettings(data=str(toy.data), out=tmp_path, device="cpu", patch=32))


def test_where_diffusers_is_missing_it_is_named_with_the_way_to_it(
    trained: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "diffusers.models.autoencoders.autoencoder_kl", None)
    with pytest.raises(UserError, match=r"diffusers, which is not installed: pip install 'cfdiff\[latent\]'"):
        load_autoencoder(trained[0] / "model.safetensors")


def test_large_images_pass_in_pieces_that_join_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    import cfdiff.models.latent as latent

    torch.manual_seed(0)
    net = build_autoencoder(AutoencoderConfig(channels=1, size=(16, 16), patch=4, widths=(8, 8), latent=2)).eval()
    space = LatentSpace(net.requires_grad_(False), {}, Path("x"))
    x = torch.rand(5, 1, 16, 16)
    whole = space.decode(space.encode(x))
    monkeypatch.setattr(latent, "PIXELS", 2 * 256)
    torch.testing.assert_close(space.decode(space.encode(x)), whole, atol=1e-3, rtol=1e-3)


def test_an_autoencoder_of_ours_is_one_of_diffusers() -> None:
    net = build_autoencoder(AutoencoderConfig(channels=3, size=(32, 32), patch=2, widths=(8, 16), latent=4))
    assert isinstance(net, Autoencoder) and type(net.net) is diffusers.AutoencoderKL and net.factor == 4
    assert Card("autoencoder", net.config.model_dump(mode="json"), None, {}, {}).space is None


def test_load_folder_wants_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no autoencoder"):
        load_folder(tmp_path / "nowhere")
