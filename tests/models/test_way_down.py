from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from cfdiff.engine.schedule import NoiseSchedule
from cfdiff.errors import UserError
from cfdiff.models.checkpoint import Card, load_model, save_model
from cfdiff.models.classifier import LOG_SNR_SPAN, Classifier, ClassifierConfig, build_classifier
from cfdiff.models.features import feature_maps, has_features, judge_features
from cfdiff.models.unet import UNet, UNetConfig
from cfdiff.models.way_down import ARCH, SHAPING, WayDown, arguments_of

SMALL: dict[str, Any] = {"width": 32, "mult": [1, 2], "attention": [2], "schedule": {"name": "cosine", "T": 200}}


def config(**changes: Any) -> ClassifierConfig:
    return ClassifierConfig(**{"arch": ARCH, "kwargs": SMALL, "size": (16, 24), "channels": 2, **changes})


def way_down(**changes: Any) -> WayDown:
    net = build_classifier(config(**changes)).net
    assert isinstance(net, WayDown)
    return net


def trained(classes: int = 0) -> UNet:
    """A denoiser none of whose weights is zero."""
    torch.manual_seed(1)
    net = UNet(UNetConfig(channels=2, size=(16, 24), width=32, mult=(1, 2), attention=(2,), classes=classes))
    with torch.no_grad():
        for weight in net.parameters():
            weight += 0.05 * torch.randn_like(weight)
    return net.eval()


@pytest.mark.parametrize("noisy", [False, True])
def test_it_is_a_classifier_like_any_other(noisy: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = build_classifier(config(noisy=noisy)).eval()
    x, told = torch.randn(3, 2, 16, 24), (torch.tensor([0.0, math.inf, -3.0]),) if noisy else ()
    logits = net(x, *told)
    assert logits.shape == (3, 2) and net.shiftable
    torch.testing.assert_close(net(x, *told) + net.shift(0.5), net(x, *told))
    kind = "noisy-classifier" if noisy else "clean-classifier"
    save_model(
        tmp_path / "m.safetensors", net, Card(kind, net.config.model_dump(mode="json"), None, {}, {}), half=False
    )
    again = load_model(tmp_path / "m.safetensors", kind).net
    assert torch.equal(again(x, *told), net(x, *told))


@pytest.mark.parametrize("classes", [0, 2])
def test_it_begins_with_what_the_denoiser_makes_of_an_image_that_it_is_told_nothing_of(classes: int) -> None:
    denoiser, net = trained(classes), way_down(noisy=True)
    net.begin_from(denoiser)
    x, t = torch.randn(4, 2, 16, 24), torch.tensor([1, 60, 120, 180])
    with torch.no_grad():
        wanted, skips = denoiser.encoded(denoiser.folded(x), denoiser.embedded(t))
        found, own = net.net.encoded(net.net.folded(x), net.net.embedded(t))
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(own, skips)


def test_the_plane_is_read_as_the_timestep_of_its_log_snr() -> None:
    schedule, net = NoiseSchedule.cosine(200), way_down(noisy=True)
    t = torch.arange(200)
    log_snr = schedule.log_snr(t + 1).float()
    seen = log_snr.abs() < LOG_SNR_SPAN
    assert int(seen.sum()) > 190
    assert torch.equal(net.timestep(log_snr / LOG_SNR_SPAN)[seen], t[seen])
    clean = int(net.timestep(torch.ones(1)))
    assert clean < 3, "a clean image is one of hardly any noise"
    asked: list[Any] = []
    net.net.embed.register_forward_pre_hook(lambda _, given: asked.append(given[0]))
    classifier = Classifier(config())
    classifier.net = net
    net.noisy = False
    classifier(torch.zeros(1, 2, 16, 24))
    net.noisy = True
    classifier(torch.zeros(1, 2, 16, 24), torch.tensor([math.inf]))
    assert torch.equal(asked[0], asked[1])


def test_a_guide_answers_by_the_noise_and_its_gradient_reaches_the_image() -> None:
    torch.manual_seed(0)
    net = build_classifier(config(noisy=True)).eval()
    assert isinstance(net.net, WayDown)
    net.net.begin_from(trained())
    x = torch.randn(1, 2, 16, 24, requires_grad=True)
    assert not torch.allclose(net(x, torch.tensor([4.0])), net(x, torch.tensor([-4.0])))
    net(x, torch.tensor([0.0])).log_softmax(1)[:, 1].sum().backward()
    assert x.grad is not None and bool(x.grad.isfinite().all()) and bool((x.grad.abs().amax((2, 3)) > 0).all())


def test_its_features_and_its_maps_are_read_as_those_of_timm_are(tmp_path: Path) -> None:
    net = build_classifier(config())
    save_model(
        tmp_path / "m.safetensors", net, Card("clean-classifier", net.config.model_dump(mode="json"), None, {}, {})
    )
    model = load_model(tmp_path / "m.safetensors")
    assert has_features(model)
    assert judge_features(model, torch.device("cpu"))(torch.zeros(3, 2, 16, 24)).shape == (3, 3 * 64)
    maps = feature_maps(model, torch.device("cpu"))(torch.zeros(1, 2, 16, 24))
    assert [tuple(each.shape[1:]) for each in maps] == [(32, 8, 12), (64, 4, 6)]
    net.net.reset_classifier(5)
    assert net(torch.zeros(1, 2, 16, 24)).shape == (1, 5)


def test_its_arguments_are_those_of_the_u_net_that_it_is_of() -> None:
    unet = UNetConfig(channels=2, size=(16, 24), width=32, mult=(1, 2), attention=(2,), dropout=0.1, classes=2)
    schedule = {"name": "linear", "T": 50}
    told = arguments_of(unet.model_dump(mode="json"), schedule)
    assert set(told) == {*SHAPING, "schedule"} and told["dropout"] == 0
    net = way_down(kwargs=told)
    assert net.net.config == UNetConfig(channels=2, size=(16, 24), width=32, mult=(1, 2), attention=(2,))
    assert len(net.levels) == 50


@pytest.mark.parametrize(
    ("kwargs", "says"),
    [
        ({"wide": 3}, "--arch unet has no 'wide': its further arguments are patch, width"),
        ({"width": -1}, "--arch unet cannot be built of these arguments"),
        ({"mult": [1, 2, 3, 4, 5]}, "divisible by 32"),
        ({"schedule": {"name": "sine", "T": 5}}, "Unknown noise schedule 'sine'"),
        ({"schedule": "cosine"}, "is no schedule"),
    ],
)
def test_what_cannot_be_built_says_so(kwargs: Any, says: str) -> None:
    with pytest.raises(UserError, match=says):
        Classifier(config(kwargs={**SMALL, **kwargs}))


@pytest.mark.parametrize("kind", ["noisy-classifier", "clean-classifier"])
def test_a_card_that_lies_of_its_size_is_refused_before_that_takes_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    net = build_classifier(config(noisy=kind == "noisy-classifier"))
    told = net.config.model_dump(mode="json")
    path = tmp_path / "m.safetensors"
    save_model(path, net, Card(kind, {**told, "kwargs": {**SMALL, "width": 64}}, None, {}, {}))
    built: list[str] = []
    real = UNet.__init__

    def build(self: UNet, config: UNetConfig) -> None:
        real(self, config)
        built.append(self.stem.weight.device.type)

    monkeypatch.setattr(UNet, "__init__", build)
    with pytest.raises(UserError, match=r"m.safetensors is damaged"):
        load_model(path)
    assert built == ["meta"]
