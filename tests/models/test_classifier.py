from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from cfdiff.errors import UserError
from cfdiff.fit.classifiers import ARCHITECTURES
from cfdiff.models.bundled import WEIGHTS
from cfdiff.models.checkpoint import Card, load_model, save_model
from cfdiff.models.classifier import Classifier, ClassifierConfig, build_classifier, last_layer, load_pretrained

TINY = {"channels": [8, 8, 8, 8], "stem_width": 8}


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("arch", sorted({*ARCHITECTURES.values(), "resnet10t"}))
def test_a_shift_moves_the_log_odds_of_every_image_alike(arch: str, noisy: bool) -> None:
    net = Classifier(ClassifierConfig(arch=arch, size=(64, 64), noisy=noisy)).eval()
    assert net.shiftable
    x, log_snr = torch.randn(5, 1, 64, 64), torch.linspace(-3, 3, 5) if noisy else None
    before = net(x, log_snr)
    added = net.shift(0.75)
    after = net(x, log_snr)
    assert torch.allclose(after - before, added.expand(5, 2), atol=1e-5)
    assert float(added[1] - added[0]) == pytest.approx(0.75, abs=1e-3)


@pytest.mark.parametrize("half", [False, True])
def test_a_shifted_bias_that_float16_held_is_held_by_it_still(half: bool) -> None:
    net = Classifier(ClassifierConfig(arch="resnet10t", kwargs=TINY, size=(32, 32)))
    last = last_layer(net.net)
    assert last is not None
    with torch.no_grad():
        last.bias.copy_(torch.tensor([0.1, 0.7]).half() if half else torch.tensor([0.1, 0.7]))
    net.shift(1 / 3)
    assert torch.equal(last.bias, last.bias.half().float()) == half


def test_a_network_that_ends_otherwise_says_that_it_cannot() -> None:
    assert not Classifier(ClassifierConfig(arch="levit_128s", channels=3, size=(224, 224))).shiftable


def config(**changes: object) -> ClassifierConfig:
    return ClassifierConfig(**{"arch": "resnet10t", "kwargs": TINY, "size": (16, 16), **changes})  # type: ignore[arg-type]


def test_a_guide_sees_the_noise_level_and_a_clean_image_has_an_infinite_one() -> None:
    torch.manual_seed(0)
    net = build_classifier(config(noisy=True, channels=2)).eval()
    x = torch.randn(2, 2, 16, 16)
    logits = net(x, torch.tensor([0.0, math.inf]))
    assert logits.shape == (2, 2) and logits.isfinite().all()
    assert not torch.allclose(logits[1:], net(x[1:], torch.zeros(1)))


def test_upsampling_reaches_the_network() -> None:
    net = build_classifier(config(upsample=2))
    seen = []
    net.net.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    net(torch.randn(2, 1, 16, 16))
    assert seen == [(2, 1, 32, 32)]


def test_downsampling_shows_the_network_the_means_of_patches() -> None:
    net = build_classifier(config(downsample=2))
    seen = []
    net.net.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.randn(2, 1, 16, 16)
    net(x)
    torch.testing.assert_close(seen[0], torch.nn.functional.avg_pool2d(x, 2), atol=1e-6, rtol=0)
    assert net.config.seen == (8, 8)


def test_an_unknown_model_is_answered_with_close_names() -> None:
    with pytest.raises(UserError, match=r"no model 'resnet10'; did you mean .*resnet1"):
        Classifier(config(arch="resnet10"))


def test_a_model_for_one_size_is_told_the_size() -> None:
    small = {"embed_dim": 16, "depth": 1, "num_heads": 1, "patch_size": 8, "dynamic_img_size": False}
    net = build_classifier(config(arch="test_vit", kwargs=small))
    assert net.config.kwargs["img_size"] == (16, 16)
    again = Classifier(ClassifierConfig(**net.config.model_dump(mode="json")))  # as a model file builds it
    again.load_state_dict(net.state_dict())


def test_a_model_that_cannot_take_the_size_says_what_to_do() -> None:
    with pytest.raises(UserError, match=r"'test_vit' cannot take images of 8x8 pixels .*--upsample"):
        build_classifier(config(arch="test_vit", kwargs={"depth": 1}, size=(8, 8)))


def test_wrong_arguments_and_downloads_are_refused() -> None:
    with pytest.raises(UserError, match="'nonsense' is refused for 'resnet10t'"):
        Classifier(config(kwargs={"nonsense": 1}))
    with pytest.raises(UserError, match="timm cannot build 'resnet10t' with"):
        Classifier(config(kwargs={"channels": "many"}))
    with pytest.raises(UserError, match="--pretrained"):
        Classifier(config(kwargs={"pretrained": True}))


def test_pretrained_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    net = Classifier(config())
    torch.save(net.state_dict(), tmp_path / "pickled.pth")
    (tmp_path / "torn.safetensors").write_bytes(b"\x40\x00\x00")
    save_file({"other": torch.zeros(3)}, tmp_path / "other.safetensors")
    for name, said in (
        ("none.safetensors", "There is no model file 'none.safetensors'"),
        ("pickled.pth", "can run any code"),
        ("torn.safetensors", "no readable safetensors"),
        ("other.safetensors", "no tensor that fits 'resnet10t'"),
    ):
        with pytest.raises(UserError, match=said):
            load_pretrained(net, tmp_path / name)


class Trap:
    """An object whose unpickling makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (Path.touch, (self.mark,))


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A pickle that makes the file `sprung` beside it when something opens it."""
    path = tmp_path / "trap.pth"
    path.write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    return path


def test_a_model_card_cannot_make_timm_open_a_pickle(trap: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a timm that unpickles what it is told to open, as those before 1.0.20 do."""
    import timm.models._factory as factory

    monkeypatch.setattr(factory, "load_checkpoint", lambda _, path: pickle.loads(Path(path).read_bytes()))
    net = Classifier(config())
    told = config(kwargs={**TINY, "checkpoint_path": str(trap)}).model_dump(mode="json")
    save_model(trap.with_name("guide.safetensors"), net, Card("clean-classifier", told, None, {}, {}))
    with pytest.raises(UserError, match=r"cannot be built. The argument 'checkpoint_path' is"):
        load_model(trap.with_name("guide.safetensors"))
    assert not trap.with_name("sprung").exists()


@pytest.mark.parametrize(
    "kwargs",
    [
        {"checkpoint_path": "x.pth"},
        {"pretrained": True},
        {"pretrained": False},
        {"pretrained_cfg": {"file": "x.pth"}},
        {"pretrained_cfg_overlay": {"file": "x.pth", "hf_hub_id": "a/b"}},
        {"cache_dir": "/tmp"},
        {"pretrained_strict": False},
        {"features_only": True},
        {"device": "cuda"},
        {"in_chans": 3},
        {"model_cls": "x"},
        {"block_args": {"rd_ratio": 0.5}},
        {"drop_rate": math.nan},
        {"channels": [8, [8, {"a": 1}], 8, 8]},
    ],
)
def test_only_plain_values_that_shape_the_network_reach_timm(kwargs: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"The argument '{next(iter(kwargs))}'"):
        Classifier(config(kwargs=kwargs))


@pytest.mark.parametrize(
    "arch",
    ["hf-hub:timm/resnet18", "hf_hub:timm/resnet18", "local-dir:resnet18", "resnet18./x/resnet10t"],
)
def test_a_model_is_named_by_its_name_alone(arch: str) -> None:
    with pytest.raises(UserError, match="timm knows no model"):
        Classifier(config(arch=arch))


@pytest.mark.parametrize(
    ("arch", "kwargs"),
    [
        ("resnet10t", {"channels": [8, 8, 8, 8], "stem_width": 8, "drop_rate": 0.1, "stem_type": "deep"}),
        ("regnetx_002", {"se_ratio": 0.25, "act_layer": "silu"}),
        ("test_vit", {"embed_dim": 16, "depth": 1, "num_heads": 1, "patch_size": 4, "img_size": [16, 16]}),
        ("resnet18", {"channels": (8, 8, 8, 8), "layers": [1, 1, 1, 1], "drop_path_rate": 0}),
        ("test_efficientnet", {"drop_rate": None, "global_pool": "max"}),
    ],
)
def test_arguments_of_the_network_itself_are_taken(arch: str, kwargs: dict[str, Any]) -> None:
    net = build_classifier(config(arch=arch, kwargs=kwargs)).eval()
    assert net(torch.zeros(1, 1, 16, 16)).shape == (1, 2)


def test_every_bundled_classifier_is_allowed() -> None:
    paths = [p for p in WEIGHTS.rglob("*.safetensors") if p.stem != "diffusion"]
    assert paths and all(load_model(path).net for path in paths)
