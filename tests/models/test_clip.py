"""Image-text models: the towers, the tokenizer, our files, and folders of transformers."""

from __future__ import annotations

from pathlib import Path

import clips
import pytest
import torch

from cfdiff.errors import UserError
from cfdiff.models.bag_network import build_encoder
from cfdiff.models.checkpoint import Card, load_model, save_model
from cfdiff.models.classifier import ClassifierConfig
from cfdiff.models.clip import Clip, ClipConfig
from cfdiff.models.foreign import classes_of, load_classifier
from cfdiff.models.image_text import as_classifier_of_texts, image_text, load_clip, read_texts
from cfdiff.models.text import SPECIAL, Words, learn_bpe

TINY = {"channels": [8, 8, 8, 8], "stem_width": 8}
TEXTS = ("a healthy cell", "a sick cell")


def toy_clip(texts: tuple[str, str] | None = TEXTS) -> Clip:
    torch.manual_seed(0)
    image, features = build_encoder(ClassifierConfig(arch="resnet10t", kwargs=TINY, size=(16, 16)))
    small = {"joint": 12, "width": 16, "layers": 1, "heads": 2, "length": 12, "texts": texts}
    tokenizer = learn_bpe(clips.CAPTIONS, 300)
    return Clip(ClipConfig(image=image.config, features=features, tokenizer=tokenizer, **small)).eval()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, net = tmp_path_factory.mktemp("clip") / "model.safetensors", toy_clip()
    config = {"network": "clip", **net.config.model_dump(mode="json")}
    save_model(path, net, Card("clip", config, None, {"classes": ["healthy", "sick"]}, {}), half=False)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clips.save_folder(tmp_path_factory.mktemp("folder"))


def test_the_tokenizer_knows_every_text_and_forgets_case() -> None:
    words = Words(learn_bpe(clips.CAPTIONS, 300), 12)
    assert words.size <= 300
    assert words(["A sick CELL "]).equal(words([" a sick cell"]))
    rows = words(["cell", "日本 \N{SNOWMAN} zebra", "a " * 50])
    assert rows.shape == (3, 12) and int(rows[2, -1]) == SPECIAL.index("<end>")
    assert rows.max() < words.size and not (rows == SPECIAL.index("<unknown>")).any()
    whole = words(["cell"])[0, 1:-1].tolist()
    assert words.tokenizer.decode(whole).strip() == "cell"


def test_a_tokenizer_that_is_none_is_refused() -> None:
    for json in ("{", '{"version": "1.0"}'):
        with pytest.raises(UserError, match="tokenizer cannot be read"):
            Words(json, 12)


def test_embeddings_are_of_unit_length_and_do_not_hang_on_the_batch() -> None:
    net = toy_clip()
    x, texts = torch.rand(3, 1, 16, 16) * 2 - 1, ["a cell", "a cell, with a large spot at the left", "spot"]
    seen, read = net.see(x), net.read(texts)
    torch.testing.assert_close(seen.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(read.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(torch.cat([net.read([text]) for text in texts]), read, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(net.see(x[1:2]), seen[1:2], atol=1e-5, rtol=1e-5)


def test_a_model_file_gives_the_same_model_back(file: Path) -> None:
    model, net = load_clip(file), toy_clip()
    x = torch.rand(2, 1, 16, 16)
    assert model.shape == (16, 16, 1) and image_text(model).class_texts == TEXTS
    torch.testing.assert_close(image_text(model).see(x), net.see(x))
    torch.testing.assert_close(image_text(model).read(TEXTS), net.read(TEXTS))


def test_as_a_classifier_it_says_which_text_is_nearer(file: Path) -> None:
    """`--judge clip.safetensors`: the logits are s <i, t_k>, as transformers would have them."""
    model, net = load_classifier(file), toy_clip()
    x = torch.rand(4, 1, 16, 16) * 2 - 1
    assert model.card.kind == "clean-classifier" and classes_of(file) == ("healthy", "sick")
    torch.testing.assert_close(model.logits(x), net.scale * net.see(x) @ net.read(TEXTS).T)
    other = as_classifier_of_texts(load_clip(file), ("spot", "cell"))
    assert not torch.allclose(other.logits(x), model.logits(x))


def test_a_folder_of_transformers_says_what_transformers_says(folder: Path) -> None:
    from transformers import CLIPModel, CLIPTokenizer

    model, texts = load_clip(folder), ["a sick cell", "a cell with a spot at the left"]
    clip = image_text(model)
    x = torch.rand(2, 3, 32, 32)
    theirs = CLIPModel.from_pretrained(folder).eval()
    told = CLIPTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    mean, std = model.net.mean, model.net.std
    with torch.no_grad():
        wanted = theirs(pixel_values=(x - mean) / std, **told).logits_per_image
    torch.testing.assert_close(clip.scale * clip.see(2 * x - 1) @ clip.read(texts).T, wanted, atol=1e-4, rtol=1e-4)
    assert model.takes((48, 40, 1)) == (48, 40, 1) and clip.see(torch.rand(1, 1, 48, 40)).shape == (1, 16)


def test_a_folder_that_is_not_whole_is_refused(folder: Path, tmp_path: Path) -> None:
    def without(*names: str) -> Path:
        out = tmp_path / "-".join(names)
        out.mkdir()
        for path in folder.iterdir():
            if path.name not in names:
                (out / path.name).write_bytes(path.read_bytes())
        return out

    with pytest.raises(UserError, match="holds no model.safetensors.*pickles"):
        load_clip(without("model.safetensors"))
    with pytest.raises(UserError, match="tokenizer"):
        load_clip(without("tokenizer.json", "tokenizer_config.json"))
    with pytest.raises(UserError, match="holds no image-text model"):
        load_clip(without("config.json"))
    broken = without("config.json", "nothing")
    (broken / "config.json").write_text("{")
    with pytest.raises(UserError, match="no readable JSON"):
        load_clip(broken)


def test_what_is_no_image_text_model_is_said(toys: object, tmp_path: Path) -> None:
    path = toys.save_classifier(tmp_path / "x.safetensors", toys.toy_classifier(0))  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="clean-classifier model, but a clip model is needed"):
        load_clip(path)
    with pytest.raises(UserError, match="There is no model file"):
        load_clip(tmp_path / "none.safetensors")


def test_texts_must_say_something(file: Path, folder: Path) -> None:
    with pytest.raises(UserError, match="--to-text is empty"):
        read_texts(load_clip(file), ["  "], "--to-text")
    with pytest.raises(UserError, match="does not say what the two classes are called"):
        as_classifier_of_texts(load_clip(folder))


def test_a_card_whose_tokenizer_is_damaged_is_one_sentence(file: Path, tmp_path: Path) -> None:
    net = load_model(file).net
    config = {"network": "clip", **net.config.model_dump(mode="json"), "tokenizer": "{}"}
    save_model(tmp_path / "x.safetensors", net, Card("clip", config, None, {}, {}))
    with pytest.raises(UserError, match="x.safetensors cannot be built. Its tokenizer cannot be read"):
        load_clip(tmp_path / "x.safetensors")
