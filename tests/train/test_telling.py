"""Trainings whose network is told words: attributes and captions, from scratch and from a model that knew none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clips import save_folder
from typer.testing import CliRunner

from cfdiff.cli.app import app
from cfdiff.errors import UserError
from cfdiff.models.checkpoint import Card, load_model, read_card, save_model
from cfdiff.models.unet import UNet, UNetConfig
from cfdiff.train.batches import Draws, drop_told
from cfdiff.train.data import open_training_data
from cfdiff.train.diffusion import train_diffusion
from cfdiff.train.settings import DiffusionSettings
from cfdiff.train.telling import telling

QUICK: dict[str, Any] = {
    "device": "cpu", "val_limit": 8, "augment": "none", "T": 50, "width": 16, "mult": (1, 2), "attention": (2,),
    "steps": 2, "batch_size": 8, "warmup": 1, "eval_every": 2, "ema": 0.0, "lr": 4e-3, "threads": 1,
}  # fmt: skip
FREE = {k: v for k, v in QUICK.items() if k not in ("T", "width", "mult", "attention")}


@pytest.fixture(scope="module")
def world(toys: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Toy images, what is said of them, and an unconditional model of theirs."""
    folder = tmp_path_factory.mktemp("telling")
    stains = np.array(["giemsa", "", "leishman"])[np.arange(48) % 3]
    data = toys.write_npz(folder / "toy.npz", 48, stain=stains, place=np.array(["north", "south"])[np.arange(48) % 2])
    with np.load(data) as file:
        rows = [
            f'{name},"a {kind} cell, {"dark" if i % 3 else "bright"}",{kind},{"dark" if i % 3 else ""}'
            for i, (name, kind) in enumerate(zip(file["id"], file["labels"], strict=True))
        ]
    said = folder / "captions.csv"
    said.write_text("\n".join(["id,caption,class,shade", *rows]) + "\n")
    plain = train_diffusion(DiffusionSettings(data=str(data), out=folder / "plain", **QUICK)).model
    (folder / "sd").mkdir()
    return {
        "data": data,
        "said": said,
        "folder": folder / "sd",
        "plain": plain,
        "clip": save_folder(folder / "clip", size=16),
    }


def settings(world: dict[str, Path], out: Path, **more: Any) -> DiffusionSettings:
    base = QUICK if "init" not in more else FREE
    return DiffusionSettings(**{**base, "data": str(world["data"]), "out": out, "captions": world["said"], **more})


def test_attributes_are_learned_with_the_network_and_stored_with_it(world: dict[str, Path], tmp_path: Path) -> None:
    result = train_diffusion(settings(world, tmp_path / "a", condition="attributes"))
    assert result.val_loss_told is not None
    model = load_model(result.model, "diffusion")
    assert model.reads and model.card.config["encoder"]["columns"] == {"class": ["healthy", "sick"], "shade": ["dark"]}
    assert model.card.config["texts"] == ["class=healthy", "class=sick"]
    assert model.net.asked.tolist() == [[1, 0], [2, 0], [0, 0]]
    with pytest.raises(UserError, match="another condition encoder"):
        train_diffusion(settings(world, tmp_path / "b", condition="attributes", columns="class", init=result.model))


@pytest.mark.parametrize("captions", [True, False])
def test_columns_of_the_data_are_told_beside_those_of_captions_or_measured_ones(
    world: dict[str, Path], tmp_path: Path, captions: bool
) -> None:
    """An empty value is not said, and a column that is named is the data's own, whatever is measured under its name."""
    other = "shade" if captions else "brightness"
    asked = {"columns": f"class,stain, {other},place", **({} if captions else {"captions": None})}
    result = train_diffusion(settings(world, tmp_path / "a", condition="attributes", steps=1, **asked))
    known = load_model(result.model, "diffusion").card.config["encoder"]["columns"]
    assert list(known) == sorted(["class", "stain", other, "place"])
    assert known["class"] == ["healthy", "sick"] and known["stain"] == ["giemsa", "leishman"]
    assert known["place"] == ["north", "south"] and known[other]


def test_an_attribute_means_after_the_loading_what_it_meant_in_the_training(
    world: dict[str, Path], tmp_path: Path
) -> None:
    """In whatever order the columns are named: a card has them in that of the alphabet."""
    s = settings(world, tmp_path / "out", condition="attributes", columns="stain,class,stain")
    told = telling(s, open_training_data(s))
    net = UNet(UNetConfig(size=(16, 16), width=8, mult=(1, 2), attention=(2,), tokens=told.width))
    card = Card("diffusion", told.config(net), {"name": "cosine", "T": 50}, {}, {}, condition="tokens")
    save_model(tmp_path / "model.safetensors", told.network(net), card, half=False)
    loaded = load_model(tmp_path / "model.safetensors").net.encoder
    said = ["class=sick, stain=giemsa", "stain=leishman", "none"]
    assert torch.equal(loaded(loaded.codes(said)), told.encoder(told.encoder.codes(said)))


def test_the_table_of_the_data_itself_is_told_by_the_command(world: dict[str, Path], tmp_path: Path) -> None:
    """As `--data m.csv --columns stage,stain`, with blanks where nothing is said."""
    from PIL import Image

    with np.load(world["data"]) as file:
        for i, image in enumerate(file["images"]):
            Image.fromarray(image[..., 0]).save(tmp_path / f"{i}.png")
        rows = [f"{i}.png,{kind},{('ring', '', 'late')[i % 3]},blue" for i, kind in enumerate(file["labels"])]
    (tmp_path / "m.csv").write_text("\n".join(["path,label,stage,stain", *rows]) + "\n")
    words = ["train-diffusion", "--condition", "attributes", "--data", str(tmp_path / "m.csv"), "--columns"]
    quick = {**QUICK, "mult": "1,2", "attention": "2"}
    words += ["stage,stain", *(f"--{key.replace('_', '-')}={value}" for key, value in quick.items())]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    known = read_card(tmp_path / "out" / "model.safetensors").config["encoder"]["columns"]
    assert known == {"stage": ["late", "ring"], "stain": ["blue"]}


def test_a_text_is_taught_to_a_model_that_knew_none_and_nothing_else_is_changed_at_first(
    world: dict[str, Path], tmp_path: Path
) -> None:
    s = settings(
        world, tmp_path / "t", condition="text", init=world["plain"], image_text=world["clip"], lr=1e-12, half=False
    )
    model, plain = load_model(train_diffusion(s).model), load_model(world["plain"])
    x, t = torch.randn(2, 1, 16, 16), torch.tensor([3, 30])
    torch.testing.assert_close(model.net(x, t, torch.tensor([0, 1])), plain.net(x, t), atol=1e-5, rtol=1e-5)
    assert model.card.schedule == plain.card.schedule and model.card.data["began_from"] == plain.sha256
    assert model.card.config["texts"] == ["a healthy image", "a sick image"]
    more = {"condition": "text", "init": world["plain"], "image_text": world["clip"], "half": False}
    taught = train_diffusion(settings(world, tmp_path / "u", **more))
    moved = load_model(taught.model).net
    assert not torch.allclose(moved(x, t, torch.tensor([0, 0])), moved(x, t, torch.tensor([1, 1])), atol=1e-5)
    further = train_diffusion(settings(world, tmp_path / "v", condition="text", init=taught.model, half=False))
    assert load_model(further.model).card.config == load_model(taught.model).card.config, "its own tower reads"
    tower = moved.encoder.tower.state_dict()
    assert all(torch.equal(v, tower[k]) for k, v in model.net.encoder.tower.state_dict().items()), "the tower is frozen"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"condition": "text"}, "--condition text needs a text tower"),
        ({"condition": "none", "columns": "class", "captions": None}, "--columns is of --condition attributes"),
        (
            {"condition": "attributes", "columns": "height"},
            "--columns height is not there: of captions.csv are class, shade, and columns of toy.npz are id, .*stain",
        ),
        (
            {"condition": "attributes", "columns": "class,height", "captions": None},
            "--columns height is not there: measured are class, brightness, size, place, and columns of toy.npz are id",
        ),
        (
            {"condition": "class"},
            "--captions is of --condition attributes or text, and this training has --condition c",
        ),
        ({"condition": "none"}, "--captions is of --condition attributes or text, and this training has --condition n"),
        ({"condition": "class", "captions": None, "clauses": 0.5}, "--clauses is of --condition attributes or text"),
        ({"condition": "none", "captions": None, "drop": 0.5}, "--drop is of --condition class or attributes or text"),
        ({"condition": "text", "token_width": 32}, "--token-width is of --condition attributes, and"),
        (
            {"init": "folder", "captions": None},
            "--init 'sd' is a folder, .* own files alone, not from models of diffusers",
        ),
        (
            {"condition": "class", "init": "plain", "width": 8, "captions": None},
            "has width 16, which a training that begins from it keeps",
        ),
    ],
    ids=str,
)
def test_what_does_not_fit_is_one_sentence(
    world: dict[str, Path], tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    given = {k: world[v] if k == "init" else v for k, v in changes.items()}
    with pytest.raises(UserError, match=says):
        train_diffusion(settings(world, tmp_path / "out", **given))
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_captions_that_say_where_are_not_for_turned_images(world: dict[str, Path], tmp_path: Path) -> None:
    said = tmp_path / "said.csv"
    said.write_text(world["said"].read_text().replace("dark", "left"))
    s = settings(world, tmp_path / "out", condition="attributes", captions=said, augment="dihedral")
    with pytest.raises(UserError, match="at their left, and --augment dihedral would turn them: use --augment none"):
        train_diffusion(s)


def test_codes_are_dropped_image_by_image() -> None:
    codes = torch.arange(2000).view(1000, 2)
    told = drop_told(Draws(0, 1000, slice(None)), codes, 0.15)
    gone = (told == -1).all(1)
    assert torch.equal(told[~gone], codes[~gone]) and 0.1 < float(gone.float().mean()) < 0.2
