"""That the networks learn, and what a training of each kind leaves behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from spots import write_spots

from cfdiff import registry
from cfdiff.data.values import to_model
from cfdiff.engine import NoiseSchedule, NoiseSource, vlb
from cfdiff.errors import UserError
from cfdiff.models.checkpoint import Card, load_diffusion, load_model, save_model
from cfdiff.models.classifier import Classifier, ClassifierConfig
from cfdiff.models.denoiser import Denoiser
from cfdiff.models.space import PixelSpace
from cfdiff.models.unet import UNet, UNetConfig
from cfdiff.train.classifier import ClassifierValidation, train_classifier
from cfdiff.train.data import open_training_data
from cfdiff.train.diffusion import default_mult, train_diffusion
from cfdiff.train.result import TrainResult
from cfdiff.train.settings import ClassifierSettings, DiffusionSettings
from cfdiff.train.validate import bits_per_dim, validate

TINY = {"channels": [8, 16, 16, 16], "stem_width": 8}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_spots(tmp_path_factory.mktemp("toy") / "toy.npz")


def test_a_diffusion_model_learns_and_shows_what_it_draws(data: Path, tmp_path: Path) -> None:
    figures = train_diffusion(
        DiffusionSettings(
            data=str(data), out=tmp_path, group_key="patient", device="cpu", T=50, width=8, mult=(1, 2), attention=(),
            batch_size=16, steps=60, eval_every=30, lr=4e-3, warmup=5, val_limit=16, augment="flip",
        )
    )  # fmt: skip
    first, last = (json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines())
    assert last["val_loss"] < first["val_loss"] < 1 and last["val_loss"] < 0.8
    assert last["bits_per_dim"] < first["bits_per_dim"]
    samples = Image.open(tmp_path / "samples-000060.png")
    assert samples.size == (4 * (64 + 2), 4 * (64 + 2)) and samples.mode == "L"
    model = load_model(tmp_path / "model.safetensors", "diffusion")
    assert model.shape == (16, 16, 1)
    assert model.card.data["name"] == "toy.npz" and len(model.card.data["groups"]) == model.card.data["images"] // 4
    assert model.card.training["validation"] == figures.figures() and model.card.training["steps"] == 60


@pytest.fixture(scope="module")
def told(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainResult]:
    """The folder of a training that was told the class, and what it returned."""
    out = tmp_path_factory.mktemp("told")
    found = train_diffusion(
        DiffusionSettings(
            data=str(data), out=out, group_key="patient", device="cpu", T=50, width=8, mult=(1, 2), attention=(),
            batch_size=16, steps=150, eval_every=150, lr=4e-3, warmup=5, val_limit=32, augment="flip", ema=0.9,
            condition="class",
        )
    )  # fmt: skip
    return out, found


def test_a_network_that_is_told_the_class_learns_what_it_means(data: Path, told: Any) -> None:
    out, found = told
    model = load_model(out / "model.safetensors", "diffusion")
    assert model.conditional and model.card.data["classes"] == ["negative", "positive"]
    figures = model.card.training["validation"]
    assert figures == found.figures() and figures["val_loss_told_class"] < figures["val_loss"]
    assert json.loads((out / "log.jsonl").read_text())["val_loss_told_class"] == found.val_loss_told_class

    x = torch.randn(16, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    negative, positive, nothing = (
        model.denoiser()(x, 45, None if k is None else torch.full((16,), k)) for k in (0, 1, None)
    )
    assert not torch.allclose(negative, positive, atol=1e-3) and not torch.allclose(nothing, positive, atol=1e-3)
    # Told that the image is positive, it takes the same x_l for a brighter image, whose eps is lower.
    assert positive.mean() < negative.mean()


def test_the_losses_of_the_card_are_those_of_its_images_told_their_class_and_nothing(data: Path, told: Any) -> None:
    _, found = told
    model = load_model(found.model)
    held = open_training_data(DiffusionSettings(data=str(data), group_key="patient", val_limit=32)).validation
    z0, labels = to_model(held.read(range(len(held)))), torch.from_numpy(held.labels.astype(np.int64))
    losses = [validate(model.denoiser(), z0, condition=k)["val_loss"] for k in (None, -torch.ones_like(labels), labels)]
    assert losses[0] == losses[1] == pytest.approx(found.val_loss, rel=1e-3)
    assert losses[2] == pytest.approx(found.val_loss_told_class, rel=1e-3)
    assert validate(model.denoiser(), z0, condition=1 - labels)["val_loss"] > losses[2]


def test_its_samples_are_negative_on_the_left_and_positive_on_the_right(told: Any) -> None:
    page = np.asarray(Image.open(told[0] / "samples-000150.png"), dtype=float)
    assert page.shape == (4 * 66, 4 * 66)
    left, right = page[:, : 2 * 66], page[:, 2 * 66 :]
    assert (left != right).any() and right.mean() > left.mean(), "the same noise, and a bright spot besides"


def test_the_class_cannot_be_told_where_the_data_has_one_only(data: Path, tmp_path: Path) -> None:
    arrays = dict(np.load(data))
    np.savez(tmp_path / "one.npz", images=arrays["images"], labels=np.array(["negative"] * 96))
    with pytest.raises(UserError, match="positive"):
        train_diffusion(DiffusionSettings(data=str(tmp_path / "one.npz"), out=tmp_path / "out", condition="class"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("noisy", [True, False])
def test_a_classifier_learns_and_says_what_it_saw(data: Path, tmp_path: Path, noisy: bool) -> None:
    figures = train_classifier(
        ClassifierSettings(
            data=str(data), out=tmp_path, group_key="patient", device="cpu", noisy=noisy, arch="resnet10t",
            kwargs=TINY, T=50, batch_size=16, steps=60, eval_every=60, lr=5e-3, warmup=5, shift=1, ema=0.9,
            calibrate=noisy,
        )
    )  # fmt: skip
    assert figures.val_accuracy > 0.8
    model = load_model(tmp_path / "model.safetensors", "noisy-classifier" if noisy else "clean-classifier")
    assert model.card.data["classes"] == ["negative", "positive"]
    assert model.card.data["split"] == "all but a tenth of its groups"
    assert (figures.val_accuracy_by_level is not None) == noisy
    assert set(model.card.training.get("calibration", {})) == set(figures.val_accuracy_by_level or {})
    assert model.card.schedule == ({"name": "cosine", "T": 50, "s": 0.008} if noisy else None)


@pytest.mark.parametrize("noisy", [True, False])
@pytest.mark.parametrize("group_key", ["patient", None])
def test_the_intercept_shifts_what_is_saved_and_nothing_that_is_trained(
    data: Path, tmp_path: Path, noisy: bool, group_key: str | None
) -> None:
    nets, told, by = {}, {}, {}
    for intercept in (False, True):
        out = tmp_path / str(intercept)
        train_classifier(
            ClassifierSettings(
                data=str(data), out=out, group_key=group_key, device="cpu", noisy=noisy, arch="resnet10t", kwargs=TINY,
                T=50, batch_size=16, steps=9, eval_every=3, warmup=5, half=False, intercept=intercept,
            )
        )  # fmt: skip
        model = load_model(out / "model.safetensors")
        nets[intercept], told[intercept] = model.net, model.card.training["validation"]
        by[intercept] = model.card.training.get("intercept")
    assert told[False].keys() == told[True].keys() and by[False] is None
    plain, shifted = (nets[k].state_dict() for k in (False, True))
    assert [k for k, value in plain.items() if not torch.equal(value, shifted[k])] == ["net.fc.bias"]
    x, log_snr = torch.randn(4, 1, 16, 16), torch.zeros(4) if noisy else None
    moved = nets[True](x, log_snr) - nets[False](x, log_snr)
    assert torch.allclose(moved[:, 1] - moved[:, 0], torch.full((4,), by[True]), atol=1e-4)
    assert by[True] != 0
    assert told[True]["val_loss"] != told[False]["val_loss"]


def test_the_intercept_rests_on_the_groups_that_are_validated_on(data: Path) -> None:
    x, labels = torch.randn(96, 1, 32, 32), torch.arange(96) % 2
    found = []
    for groups in (np.zeros(96), np.arange(96)):
        net = Classifier(ClassifierConfig(arch="resnet10t", kwargs=TINY, size=(32, 32))).eval()
        net.load_state_dict({k: torch.zeros_like(v) for k, v in net.state_dict().items()})
        net.shift(2.0)  # all that it says; p (1 - p) of 96 images without it is 24
        found.append(ClassifierValidation(None, x, labels, False, groups)(net, 0, 1.0)["intercept"])
    assert found == pytest.approx([-2 / (1 + 1 + 4 / 96), -2 / (1 + 1 / 96 + 4 / 96)], rel=1e-3)


def test_a_network_whose_last_layer_has_no_bias_gets_no_intercept(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'levit_128s'.*another --arch"):
        train_classifier(
            ClassifierSettings(
                data=str(data), out=tmp_path / "out", arch="levit_128s", upsample=14, intercept=True, noisy=True
            )
        )
    assert not (tmp_path / "out").exists()


def test_pretrained_weights_are_taken_by_name_and_the_noise_plane_starts_at_zero(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import timm
    from safetensors.torch import save_file

    rgb = timm.create_model("resnet10t", in_chans=3, num_classes=1000, **TINY)
    save_file(rgb.state_dict(), tmp_path / "weights.safetensors")
    train_classifier(
        ClassifierSettings(
            data=str(data), out=tmp_path / "out", device="cpu", arch="resnet10t", kwargs=TINY, T=50, batch_size=8,
            steps=1, lr=1e-9, weight_decay=0, ema=0, pretrained=tmp_path / "weights.safetensors", half=False,
        )
    )  # fmt: skip
    stem = load_model(tmp_path / "out" / "model.safetensors").net.net.conv1[0].weight  # type: ignore[union-attr,index]
    torch.testing.assert_close(stem[:, :1], rgb.conv1[0].weight.sum(1, keepdim=True), atol=1e-6, rtol=0)
    assert stem[:, 1].abs().max() < 1e-6
    assert "tensors start from the pretrained weights" in capsys.readouterr().err
    assert json.loads((tmp_path / "out" / "settings.json").read_text())["pretrained"] == "weights.safetensors"


def test_bits_per_dim_from_a_few_levels_is_near_the_whole_bound() -> None:
    torch.manual_seed(0)
    net = UNet(UNetConfig(size=(16, 16), width=8, mult=(1,), attention=())).eval()
    schedule = NoiseSchedule.linear(60)
    images = to_model(np.random.default_rng(0).integers(0, 256, (16, 16, 16, 1), dtype=np.uint8))
    quick = bits_per_dim(Denoiser(net, schedule), images, np.dtype(np.uint8))["bits_per_dim"]
    source = NoiseSource(1, map(str, range(16)))
    whole = vlb(schedule, lambda x, level: net(x, level - 1), images, source)
    full = float(whole.prior.mean() + whole.terms.mean(0).sum())
    assert quick == pytest.approx(full, rel=0.05)
    assert bits_per_dim(Denoiser(net, schedule), images, np.dtype(np.float32)) == {}


def test_the_default_u_net_halves_the_images_as_often_as_their_size_allows() -> None:
    assert default_mult((48, 48, 1), 2) == (1, 2, 3)
    assert default_mult((28, 28, 1), 2) == (1, 2)
    assert default_mult((30, 64, 3), 2) == (1,)


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
def test_a_diffusion_model_of_any_parametrisation_in_any_space_is_read_as_it_was_trained(
    data: Path, tmp_path: Path, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the card says is enough: the loss of the loaded model is the one that the training measured."""

    class Halves(PixelSpace):
        discrete = False

        def encode(self, x: torch.Tensor) -> torch.Tensor:
            return x / 2

        def decode(self, z: torch.Tensor) -> torch.Tensor:
            return z * 2

    monkeypatch.setitem(registry.SPACES, "halves", Halves)
    quick = {"width": 8, "mult": (1,), "attention": (), "steps": 20, "batch_size": 8, "threads": 1, "T": 50}
    out = tmp_path / "out"
    found = train_diffusion(
        DiffusionSettings(data=str(data), out=out, parametrisation=kind, space="halves", half=False, **quick)
    )
    model = load_diffusion(found.model)
    assert model.shape == (16, 16, 1) and isinstance(model.space, Halves) and found.bits_per_dim is None
    held = open_training_data(DiffusionSettings(data=str(data), out=out)).validation
    z0 = model.space.encode(to_model(held.read(range(len(held)))))
    assert validate(model.denoiser(), z0)["val_loss"] == pytest.approx(found.val_loss, rel=1e-4)
    assert list(out.glob("samples-*.png"))


def test_a_guide_takes_the_noise_schedule_of_somebody_elses_model(data: Path, tmp_path: Path) -> None:
    betas = NoiseSchedule.from_betas(torch.linspace(0.01, 0.2, 30) ** 1.5)
    net = UNet(UNetConfig(size=(16, 16), width=8, mult=(1,), attention=()))
    save_model(tmp_path / "theirs.safetensors", net, Card("diffusion", net.config.model_dump(), betas.config, {}, {}))
    quick = {"arch": "resnet10t", "kwargs": TINY, "steps": 2, "batch_size": 8, "device": "cpu", "threads": 1}
    told = {"schedule_of": tmp_path / "theirs.safetensors", "out": tmp_path / "out"}
    model = load_model(train_classifier(ClassifierSettings(data=str(data), **quick, **told)).model)
    assert (
        model.schedule.same_as(betas)
        and max(map(int, model.card.training["validation"]["val_accuracy_by_level"])) == 21
    )
    assert json.loads((tmp_path / "out" / "settings.json").read_text())["schedule_of"] == "theirs.safetensors"


def test_what_a_network_predicts_is_v_unless_asked_and_what_it_predicted_where_it_begins_from_another(
    data: Path, tmp_path: Path
) -> None:
    quick = {"width": 8, "mult": (1,), "attention": (), "steps": 2, "batch_size": 8, "threads": 1, "data": str(data)}
    assert (
        load_diffusion(train_diffusion(DiffusionSettings(**quick, out=tmp_path / "v")).model).card.parametrisation
        == "v"
    )
    old = train_diffusion(DiffusionSettings(**quick, out=tmp_path / "eps", T=50, parametrisation="eps")).model
    further = tmp_path / "further"
    told = {key: value for key, value in quick.items() if key not in ("width", "mult", "attention")}
    card = load_diffusion(train_diffusion(DiffusionSettings(**told, out=further, init=old)).model).card
    said = json.loads((further / "settings.json").read_text())
    assert card.parametrisation == said["parametrisation"] == "eps" and card.schedule is not None
    assert card.schedule["T"] == said["T"] == 50
