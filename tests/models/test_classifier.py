from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cfdiff.errors import UserError
from cfdiff.models.classifier import Classifier, ClassifierConfig, build_classifier, load_pretrained

TINY = {"channels": [8, 8, 8, 8], "stem_width": 8}


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
    with pytest.raises(UserError, match="timm cannot build 'resnet10t' with"):
        Classifier(config(kwargs={"nonsense": 1}))
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
