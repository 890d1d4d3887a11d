"""Networks that read tokens, with their encoders: told words, stored in one file, loaded alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from clips import CAPTIONS, save_folder

from cfdiff.engine import NoiseSchedule
from cfdiff.errors import UserError
from cfdiff.models.checkpoint import Card, Model, load_model, save_model
from cfdiff.models.encoders import Attributes, AttributesConfig
from cfdiff.models.image_text import image_text, load_clip
from cfdiff.models.prompted import Prompted, asked
from cfdiff.models.text_encoder import text_encoder_of
from cfdiff.models.unet import UNet, UNetConfig

COLUMNS = {"class": ("healthy", "sick"), "stage": ("ring", "schizont"), "place": ("left", "right")}
X, T = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([3, 50])


def network(encoder: Any, texts: tuple[str, str] = ("none", "none")) -> Prompted:
    torch.manual_seed(0)
    net = UNet(UNetConfig(size=(8, 8), width=8, mult=(1, 2), attention=(1,), tokens=encoder.width))
    for p in net.parameters():
        p.data += 0.1 * torch.randn_like(p)
    return Prompted(net, encoder, texts).eval()


def attributes() -> Attributes:
    torch.manual_seed(1)
    return Attributes(AttributesConfig(columns=COLUMNS, width=6))


def saved(path: Path, net: Prompted, name: str) -> Model:
    encoder = {"name": name, **net.encoder.config.model_dump(mode="json")}
    config = {"network": "unet-tokens", **net.net.config.model_dump(mode="json"), "encoder": encoder}
    schedule = NoiseSchedule.cosine(100).config
    card = Card("diffusion", {**config, "texts": list(net.texts)}, schedule, {}, {}, condition="tokens")
    save_model(path, net, card, half=False)
    return load_model(path, "diffusion")


def test_attributes_are_said_by_name_or_by_a_value_that_one_alone_has() -> None:
    encoder = attributes()
    said = encoder.codes(["class=sick, stage=ring", "left,sick", "none", ""])
    assert said.tolist() == [[2, 1, 0], [2, 0, 1], [0, 0, 0], [0, 0, 0]]
    columns = {"class": ["sick", ""], "stage": ["ring", "unheard of"], "place": ["", "right"]}
    assert encoder.codes_of(columns).tolist() == [[2, 1, 0], [0, 0, 2]]
    tokens = encoder(said)
    assert tokens.shape == (4, 3, 6) and torch.equal(tokens[0, 0], tokens[1, 0])
    assert len(tokens.reshape(-1, 6).unique(dim=0)) == 6, "each attribute has a token for not being said"
    with pytest.raises(UserError, match=r"'tall' is none of them: say class=healthy\|sick; stage="):
        encoder.codes(["tall"])


def test_a_text_that_two_attributes_could_mean_is_refused() -> None:
    encoder = Attributes(AttributesConfig(columns={"size": ("small",), "spot": ("small",)}, width=4))
    with pytest.raises(UserError, match="'small' is in several attributes"):
        encoder.codes(["small"])


def test_values_may_hold_commas_and_equals_signs() -> None:
    columns = {
        "class": ("cell", "cell, clean", "a=b"),
        "bright=": ("clear|pale", "dark, very", "a"),
        "size, um": ("1,5", "1"),
    }
    encoder = Attributes(AttributesConfig(columns=columns, width=4))
    said = {
        "cell": [1, 0, 0],
        "cell, clean": [2, 0, 0],
        "class=cell, clean": [2, 0, 0],
        "class = cell, bright= = dark, very": [1, 2, 0],
        "a=b, clear|pale ,size, um=1,5": [3, 1, 1],
        "1, cell, clean": [2, 0, 2],
        "bright==a": [0, 3, 0],
        " none ": [0, 0, 0],
    }
    assert encoder.codes(list(said)).tolist() == list(said.values())
    for row, name in enumerate(columns):
        for value in columns[name]:
            assert encoder.codes([f"{name}={value}"])[0, row] == 1 + columns[name].index(value)
    for text, part in (("cell clean", "cell clean"), ("cell, tall, x", "tall"), ("cell,", ""), (", cell", "")):
        with pytest.raises(UserError, match=f"{part!r} is none of them"):
            encoder.codes([text])


def test_an_attribute_that_is_said_twice_is_refused() -> None:
    for text in ("class=sick, class=healthy", "sick, ring, class=sick"):
        with pytest.raises(UserError, match=f"each attribute once, and '{text}' says class twice"):
            attributes().codes([text])


def test_it_is_told_classes_codes_or_nothing_each_image_its_own(tmp_path: Path) -> None:
    net = network(attributes(), ("class=healthy", "class=sick"))
    codes = net.encoder.codes(["class=sick", "class=healthy"])
    told = net(X, T, codes)
    torch.testing.assert_close(net(X, T, torch.tensor([1, 0])), told)
    nothing = net(X, T)
    torch.testing.assert_close(net(X, T, torch.tensor([-1, -1])), nothing)
    torch.testing.assert_close(net(X, T, torch.where(torch.tensor([[True], [False]]), -1, codes))[0], nothing[0])
    assert not torch.allclose(told, nothing, atol=1e-4) and not torch.allclose(told[0], net(X, T, codes.flip(0))[0])


def test_other_texts_may_stand_for_the_classes_and_for_nothing(tmp_path: Path) -> None:
    model = saved(tmp_path / "m.safetensors", network(attributes(), ("class=healthy", "class=sick")), "attributes")
    other = asked(model, positive="stage=ring", nothing="class=healthy")
    say = lambda text: model.net(X, T, model.net.encoder.codes([text] * 2))  # noqa: E731
    torch.testing.assert_close(other.net(X, T, torch.tensor([1, 1])), say("stage=ring"))
    torch.testing.assert_close(other.net(X, T, torch.tensor([0, 0])), say("class=healthy"))
    torch.testing.assert_close(other.net(X, T), say("class=healthy"))
    (
        torch.testing.assert_close(model.net(X, T, torch.tensor([1, 1])), say("class=sick")),
        "the model itself is as it was",
    )


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = save_folder(tmp_path_factory.mktemp("clip") / "clip", size=8)
    return image_text(load_clip(folder))


def test_a_text_is_the_hidden_states_of_the_frozen_tower(clip: Any) -> None:
    encoder = text_encoder_of(clip.reading, half=False)
    codes = encoder.codes([CAPTIONS[0], "", "none", "word " * 99])
    assert codes.shape == (4, 16) and torch.equal(codes[1], codes[2]) and torch.equal(codes[1], encoder.nothing)
    ids = clip.tokenizer(CAPTIONS[:1], padding="max_length", max_length=16, return_tensors="pt")["input_ids"]
    assert torch.equal(codes[:1], ids), "as transformers' own tokenizer pads it"
    with torch.no_grad():
        want = clip.net.text_model(input_ids=ids).last_hidden_state
    torch.testing.assert_close(encoder(codes)[:1], want)
    assert not any(p.requires_grad for p in encoder.parameters()) and not encoder.train().training


def test_a_model_of_text_loads_alone_from_its_file(clip: Any, tmp_path: Path) -> None:
    net = network(text_encoder_of(clip.reading, half=False), (CAPTIONS[1], CAPTIONS[0]))
    model = saved(tmp_path / "m.safetensors", net, "text")
    assert model.reads and model.conditional and model.shape == (8, 8, 1)
    for told in (None, torch.tensor([0, 1])):
        torch.testing.assert_close(model.net(X, T, told), net(X, T, told))
    assert torch.equal(asked(model, positive=CAPTIONS[0]).net.asked, model.net.asked)
