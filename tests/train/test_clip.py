"""cfdiff train-clip and cfdiff zero-shot, from captions to figures."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import clips
import numpy as np
import pytest
import torch

from cfdiff.cli.app import main
from cfdiff.errors import UserError
from cfdiff.models.image_text import image_text, load_clip
from cfdiff.train.batches import Draws
from cfdiff.train.clip import shortened, train_clip
from cfdiff.train.result import TrainResult
from cfdiff.train.settings import ClipSettings
from cfdiff.zero_shot.run import zero_shot
from cfdiff.zero_shot.settings import ZeroShotSettings

TINY = {"channels": [8, 16, 16, 16], "stem_width": 8}
QUICK: dict[str, Any] = {
    "arch": "resnet10t", "kwargs": TINY, "joint": 16, "text_width": 16, "text_layers": 1, "text_heads": 2,
    "vocabulary": 300, "length": 24, "batch_size": 32, "device": "cpu", "warmup": 5, "lr": 4e-3, "ema": 0.9,
    "augment": "flip", "shift": 0, "threads": 1,
}  # fmt: skip


def cfdiff(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int, *words: Any) -> str:
    """What the command says, on the one stream or the other; it must end with `code`."""
    monkeypatch.setattr(sys, "argv", ["cfdiff", *map(str, words)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert (ended.value.code or 0) == code, said
    return said.err if code else said.out


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, TrainResult]:
    """Toy cells, their captions and what a training on these gave."""
    import conftest as toys

    folder = tmp_path_factory.mktemp("clip")
    data = toys.write_npz(folder / "toy.npz", 144)
    with np.load(data) as stored:
        rows = [f'{name},"a {kind} cell, seen"' for name, kind in zip(stored["id"], stored["labels"], strict=True)]
    captions = folder / "captions.csv"
    captions.write_text("\n".join(["id,caption", *rows]) + "\n")
    s = ClipSettings(
        data=str(data), out=folder / "out", captions=captions, texts="a healthy cell|a sick cell", steps=70,
        eval_every=70, **QUICK,
    )  # fmt: skip
    return data, captions, train_clip(s)


def test_it_learns_which_caption_belongs_to_an_image(trained: Any) -> None:
    _, _, found = trained
    assert found.val_image_to_text > 0.8 and found.val_chance_to_text == 0.5
    assert found.val_accuracy > 0.8 and found.val_loss < 4
    card = load_clip(found.model).card
    assert card.kind == "clip" and card.data["classes"] == ["healthy", "sick"] and card.data["groups"]
    assert card.training["settings"]["captions"] == "captions.csv", "no path of a machine"
    assert image_text(load_clip(found.model)).class_texts == ("a healthy cell", "a sick cell")


def test_zero_shot_measures_it_on_images_of_other_patients(trained: Any, tmp_path: Path) -> None:
    import conftest as toys

    _, captions, found = trained
    data = toys.write_npz(tmp_path / "new.npz", 48, seed=7, patient=np.array([f"Q{i // 6}" for i in range(48)]))
    s = ZeroShotSettings(model=found.model, data=str(data), captions=captions, device="cpu")
    said = zero_shot(s)
    assert (said.images, said.captions, said.groups, said.known) == (48, 2, 8, 0)
    assert said.rates["class"].value > 0.8 and said.rates["image to text @1"].value > 0.8
    assert said.rates["image to text @1"].chance == 0.5 and said.rates["image to text @5"].value == 1
    turned = zero_shot(s.model_copy(update={"texts": "a sick cell|a healthy cell"}))
    assert turned.rates["class"].value == pytest.approx(1 - said.rates["class"].value)


def test_figures_of_patients_that_it_learned_from_are_said_to_flatter(
    trained: Any, monkeypatch: Any, capsys: Any
) -> None:
    data, captions, found = trained
    words = ["zero-shot", found.model, "--data", data, "--captions", captions, "--device", "cpu"]
    assert "learned from" in " ".join(cfdiff(monkeypatch, capsys, 0, *words).split())
    assert json.loads(cfdiff(monkeypatch, capsys, 0, *words, "--json"))["rates"]["class"]["chance"] == 0.5


def test_a_folder_of_transformers_is_measured_too(trained: Any, tmp_path: Path) -> None:
    data, captions, _ = trained
    s = ZeroShotSettings(model=clips.save_folder(tmp_path / "folder"), data=str(data), captions=captions, device="cpu")
    said = zero_shot(s)
    assert "class" not in said.rates and 0 <= said.rates["image to text @1"].value <= 1
    assert "class" in zero_shot(s.model_copy(update={"texts": "a healthy cell|a sick cell"})).rates
    with pytest.raises(UserError, match="calls both classes 'a cell', which tells none apart"):
        zero_shot(s.model_copy(update={"texts": "a cell| a  Cell"}))


def test_clauses_are_left_out_at_random_and_never_the_first() -> None:
    draws = Draws(0, 400, slice(None))
    said = shortened(["a cell, dark, with a spot"] * 400, draws, 0.25)
    assert set(said) == {"a cell", "a cell, dark", "a cell, with a spot", "a cell, dark, with a spot"}
    assert 0.67 < np.mean(["dark" in text for text in said]) < 0.83
    assert shortened(["a, b"], draws, 0.0) == ["a, b"]


def test_a_stopped_training_goes_on_and_other_captions_are_refused(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, captions, _ = trained
    given = {"data": str(data), "captions": captions, "eval_every": 2, **QUICK}
    whole = train_clip(ClipSettings(out=tmp_path / "whole", steps=4, **given))
    out = tmp_path / "cut"
    train_clip(ClipSettings(out=out, steps=4, **given))
    a, b = (torch.load(folder / "state.pt", weights_only=True)["net"] for folder in (tmp_path / "whole", out))
    assert whole.step == 4 and all(torch.equal(a[k], b[k]) for k in a)
    other = tmp_path / "captions.csv"
    other.write_text(captions.read_text().replace("sick cell", "ill cell"))
    words = [
        "train-clip",
        "--data",
        data,
        "--captions",
        other,
        "--out",
        out,
        "--steps",
        4,
        "--kwargs",
        json.dumps(TINY),
    ]
    plain = {k: v for k, v in QUICK.items() if k != "kwargs"}
    words += [f"--{key.replace('_', '-')}={value}" for key, value in plain.items()] + ["--eval-every", 2]
    assert "has changed since the training" in cfdiff(monkeypatch, capsys, 2, *words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--captions short.csv", "no caption for"),
        ("--captions none.csv", "cannot be read"),
        ("--texts healthy", "is not two texts"),
        ("--texts a|b|c", "is not two texts"),
        ("--texts a|a", "--texts 'a|a' calls both classes 'a', which tells none apart: give two texts that differ."),
        ("--texts=a|A", "calls both classes 'a', which tells none apart"),
        ("--text-width 30 --text-heads 4", "cannot be cut into 4 heads"),
        ("--arch resnet10", "timm knows no model"),
        ("--vocabulary 10", "vocabulary"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_2(
    trained: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: str,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short.csv").write_text("id,caption\ncell/000.png,a cell\n")
    given = ["train-clip", "--data", str(trained[0]), "--device", "cpu", "--steps", "1", *options.split()]
    said = cfdiff(monkeypatch, capsys, 2, *given)
    assert words in said and said.startswith("Error: ") and said.count("\n") == 1, said
    assert not (tmp_path / "runs").exists()
