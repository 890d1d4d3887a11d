from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from cfdiff.errors import UserError
from cfdiff.models.checkpoint import FORMAT, Card, load_model, read_card, save_model
from cfdiff.models.classifier import Classifier, ClassifierConfig
from cfdiff.models.unet import UNet, UNetConfig

SCHEDULE = {"name": "cosine", "T": 10}


@pytest.fixture
def net() -> UNet:
    torch.manual_seed(0)
    return UNet(UNetConfig(size=(8, 8), width=8, mult=(1, 2), attention=(2,)))


@pytest.fixture
def path(net: UNet, tmp_path: Path) -> Path:
    card = Card("diffusion", net.config.model_dump(mode="json"), SCHEDULE, {"name": "toy"}, {"steps": 3})
    save_model(tmp_path / "unet.safetensors", net, card)
    return tmp_path / "unet.safetensors"


def test_a_model_comes_back_with_its_card_in_eval_mode_and_float32(net: UNet, path: Path) -> None:
    model = load_model(path, "diffusion")
    assert not model.net.training and model.shape == (8, 8, 1) and model.name == "unet" and len(model.sha256) == 64
    assert model.card.schedule == SCHEDULE and model.card.data == {"name": "toy"}
    for mine, saved in zip(net.parameters(), model.net.parameters(), strict=True):
        assert saved.dtype == torch.float32 and not saved.requires_grad
        torch.testing.assert_close(saved, mine, rtol=1e-3, atol=1e-6)


def test_full_precision_is_exact_and_half_is_half_the_size(net: UNet, path: Path) -> None:
    full = path.with_name("full.safetensors")
    save_model(full, net, load_model(path).card, half=False)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), load_model(full).net.parameters(), strict=True))
    assert path.stat().st_size < 0.7 * full.stat().st_size


def test_a_classifier_comes_back_with_its_batch_norm(tmp_path: Path) -> None:
    tiny = {"channels": [8, 8, 8, 8], "stem_width": 8}
    config = ClassifierConfig(arch="resnet10t", kwargs=tiny, size=(16, 16), noisy=True)
    net = Classifier(config)
    net(torch.randn(4, 1, 16, 16), torch.zeros(4))  # moves the running averages
    path = tmp_path / "guide.safetensors"
    save_model(path, net, Card("noisy-classifier", config.model_dump(mode="json"), SCHEDULE, {}, {}), half=False)
    x = torch.randn(2, 1, 16, 16)
    assert torch.equal(load_model(path).net(x, torch.zeros(2)), net.eval()(x, torch.zeros(2)))


def test_another_kind_than_wanted_is_refused(path: Path) -> None:
    with pytest.raises(UserError, match="is a diffusion model, but a clean-classifier model is needed"):
        load_model(path, "clean-classifier")


def test_files_that_are_no_models_of_ours_are_refused(path: Path, tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(1)}, tmp_path / "zip.safetensors")
    (tmp_path / "pickle.safetensors").write_bytes(b"\x80\x04\x95rest")
    (tmp_path / "empty.safetensors").touch()
    (tmp_path / "truncated.safetensors").write_bytes(path.read_bytes()[:-100])
    save_file({"a": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    for name, said in (
        ("missing", "There is no model file 'missing.safetensors'"),
        ("zip", "is a pickled checkpoint"),
        ("pickle", "is a pickled checkpoint"),
        ("empty", "truncated or damaged"),
        ("truncated", "truncated or damaged"),
        ("foreign", "was not made by cfdiff"),
    ):
        with pytest.raises(UserError, match=said) as caught:
            load_model(tmp_path / f"{name}.safetensors")
        assert str(tmp_path) not in str(caught.value)


def test_a_folder_that_is_there_is_not_said_to_be_missing(tmp_path: Path) -> None:
    (tmp_path / "sd").mkdir()
    with pytest.raises(UserError, match="'sd' is a folder, and what is needed here is one .safetensors file"):
        load_model(tmp_path / "sd", "control")


def test_weights_that_do_not_fit_the_config_are_damage(net: UNet, path: Path) -> None:
    card = read_card(path)
    save_model(path, net, replace(card, config={**card.config, "width": 16}))
    with pytest.raises(UserError, match="do not fit its config"):
        load_model(path)


def test_entries_of_a_newer_cfdiff_are_passed_over_but_not_a_newer_kind(net: UNet, path: Path) -> None:
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    card = json.loads(metadata["card"])
    save_file(load_file(path), path, {**metadata, "card": json.dumps(card | {"colour": "red"})})
    assert read_card(path).kind == "diffusion"
    save_file(load_file(path), path, {**metadata, "card": json.dumps(card | {"kind": "flow"})})
    with pytest.raises(UserError, match="needs a newer cfdiff"):
        read_card(path)


def test_a_card_whose_parts_are_no_dictionaries_is_a_damaged_file(net: UNet, path: Path) -> None:
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    card = json.loads(metadata["card"])
    save_file(load_file(path), path, {**metadata, "card": json.dumps(card | {"data": None})})
    with pytest.raises(UserError, match="truncated or damaged"):
        read_card(path)


def test_a_failed_write_keeps_the_model_that_was_there(net: UNet, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(UserError, match="No space left"):
        save_model(path, net, read_card(path))
    assert path.read_bytes() == before and [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_header_whose_length_looks_like_a_pickle_is_still_read(net: UNet, path: Path) -> None:
    card = read_card(path)
    firsts = set()
    for n in range(0, 256, 8):
        save_file(load_file(path), path, {"format": FORMAT, "card": json.dumps(asdict(card)), "pad": "x" * n})
        firsts.add(path.read_bytes()[:1])
        assert read_card(path) == card
    assert b"\x80" in firsts


def test_a_card_tells_whether_the_network_may_be_told_the_class(net: UNet, path: Path, tmp_path: Path) -> None:
    plain = load_model(path)
    assert not plain.conditional and not plain.denoiser().conditional
    classed = UNet(net.config.model_copy(update={"classes": 2}))
    card = replace(plain.card, config=classed.config.model_dump(mode="json"), condition="class")
    save_model(tmp_path / "told.safetensors", classed, card)
    told = load_model(tmp_path / "told.safetensors")
    assert told.card.condition == "class" and told.conditional and told.denoiser().conditional


def test_a_card_of_before_there_were_conditions_is_read_as_unconditional(path: Path) -> None:
    with safe_open(path, "pt") as file:
        told = json.loads(file.metadata()["card"])
    del told["condition"], told["config"]["classes"]
    save_file(load_file(path), path, {"format": FORMAT, "card": json.dumps(told)})
    model = load_model(path)
    assert not model.conditional and model.net.config.classes == 0


@pytest.mark.parametrize(
    ("condition", "said"),
    [("class", "is damaged"), ("tokens", "is damaged"), ("scent", "does not know: update it")],
)
def test_a_condition_that_is_not_the_networks_or_not_known_is_refused(path: Path, condition: str, said: str) -> None:
    model = load_model(path)
    save_model(path, model.net, replace(model.card, condition=condition))
    with pytest.raises(UserError, match=said):
        load_model(path).denoiser()
