"""Features of a timm model: its weights come from this machine, or not at all."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from cfdiff.errors import UserError
from cfdiff.models.features import timm_features

CPU = torch.device("cpu")


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for what timm has downloaded before, hub/ and checkpoints/; asking the net fails the test."""
    from huggingface_hub import constants

    def asked(*given: Any, **options: Any) -> None:
        pytest.fail(f"the net was asked for {given[:1]}")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(socket, "getaddrinfo", asked)
    return tmp_path


def in_the_hub(folder: Path, net: torch.nn.Module, repo: str) -> None:
    """As huggingface_hub lays a downloaded file down."""
    there = folder / "hub" / f"models--{repo.replace('/', '--')}"
    (there / "snapshots" / "a1").mkdir(parents=True)
    (there / "refs").mkdir()
    (there / "refs" / "main").write_text("a1")
    save_file(net.state_dict(), there / "snapshots" / "a1" / "model.safetensors")


def of_the_url(folder: Path, net: torch.nn.Module, repo: str) -> None:
    (folder / "checkpoints").mkdir()
    torch.save(net.state_dict(), folder / "checkpoints" / Path(timm.get_pretrained_cfg("resnet10t").url).name)


def test_weights_that_are_not_here_are_refused_at_once_and_the_net_is_not_asked(
    caches: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("resnet10t", "test_vit.r160_in1k"):
        with pytest.raises(UserError, match=rf"The weights of '{name}' are not on this machine.*--feature-weights"):
            timm_features(name, None, 1, CPU)
    assert capfd.readouterr() == ("", "")
    with pytest.raises(UserError, match="timm knows no model 'resnet10t.magic'"):
        timm_features("resnet10t.magic", None, 1, CPU)


@pytest.mark.parametrize("kept", [in_the_hub, of_the_url])
def test_weights_that_timm_has_downloaded_before_are_used(caches: Path, kept: Callable[..., None]) -> None:
    net = timm.create_model("resnet10t", pretrained=False)
    kept(caches, net, "timm/resnet10t.c3_in1k")
    x = torch.rand(2, 1, 16, 16) * 2 - 1
    save_file(timm.create_model("resnet10t", num_classes=0).state_dict(), caches / "other.safetensors")
    found = timm_features("resnet10t", None, 1, CPU)(x)
    assert not torch.equal(found, timm_features("resnet10t", caches / "other.safetensors", 1, CPU)(x))
    del net.fc
    save_file(net.state_dict(), caches / "same.safetensors")
    assert torch.equal(found, timm_features("resnet10t", caches / "same.safetensors", 1, CPU)(x))


def test_a_damaged_download_is_one_sentence(caches: Path) -> None:
    in_the_hub(caches, torch.nn.Linear(1, 1), "timm/resnet10t.c3_in1k")
    (file,) = caches.glob("hub/*/snapshots/a1/model.safetensors")
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(UserError, match="timm cannot make 'resnet10t'.*--feature-weights"):
        timm_features("resnet10t", None, 1, CPU)
