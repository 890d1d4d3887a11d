"""A folder of a CLIP model as a classifier of two texts: the zero-shot check of an edit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import clips
import pytest
import torch
from typer.testing import CliRunner

from cfdiff.cli.app import app
from cfdiff.errors import UserError
from cfdiff.models.foreign import classes_of, load_classifier
from cfdiff.models.image_text import image_text, load_clip
from cfdiff.roles import file_hashes
from cfdiff.store import open_result
from cfdiff.translate.run import translate

TEXTS = ("a healthy cell", "a sick cell")
SAID = f"texts = {json.dumps(TEXTS)}\n"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clips.save_folder(tmp_path_factory.mktemp("clip") / "clip")


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, with two texts beside it."""
    out = Path(shutil.copytree(whole, tmp_path / "clip"))
    (out / "cfdiff.toml").write_text(SAID)
    return out


def test_two_texts_beside_it_make_a_classifier_of_it(whole: Path, folder: Path) -> None:
    model, clip = load_classifier(folder), image_text(load_clip(whole))
    x = torch.rand(3, 1, 20, 20, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert model.card.kind == "clean-classifier" and model.takes((20, 20, 1)) == (20, 20, 1)
    torch.testing.assert_close(model.logits(x), clip.scale * clip.see(x) @ clip.read(TEXTS).T)
    assert file_hashes(model.sha256) == file_hashes(load_clip(whole).sha256), "one model, however it is described"
    assert model.sha256 != load_clip(whole).sha256 and image_text(load_clip(folder)).class_texts == TEXTS
    (folder / "cfdiff.toml").write_text(SAID + 'names = ["sick", "healthy"]\n')
    assert classes_of(folder) == ("sick", "healthy")
    assert load_classifier(folder).sha256 != model.sha256


def test_it_judges_accepts_and_steers_a_run_which_stores_its_texts(folder: Path, toy: Any, tmp_path: Path) -> None:
    quick = {"limit": 2, "steps": 3, "retries": 0}
    translate(toy.settings(tmp_path / "judged.h5", judge=folder, **quick))
    with open_result(tmp_path / "judged.h5") as run:
        assert run.settings["classifiers"]["judge"] == [{"name": "clip", "kind": "CLIPModel", "texts": list(TEXTS)}]
        assert "judge" in run.settings["models"]
    translate(toy.settings(tmp_path / "accepted.h5", verifier=folder, **quick))
    for name, scale in (("still", 0.0), ("steered", 300.0)):
        steers = {"checker": folder, "guides": "clean", "scale": scale, "ratio": None}
        translate(toy.settings(tmp_path / f"{name}.h5", **steers, **quick))
    with open_result(tmp_path / "still.h5") as still, open_result(tmp_path / "steered.h5") as steered:
        assert (still.counterfactual[:] == still.source[:]).all()
        assert (steered.counterfactual[:] != steered.source[:]).any(), "its likeness has a gradient"


def test_the_classes_that_it_is_told_are_held_against_those_of_the_data(folder: Path, toy: Any, tmp_path: Path) -> None:
    (folder / "cfdiff.toml").write_text(SAID + 'names = ["sick", "healthy"]\n')
    with pytest.raises(UserError, match="is the positive class and 'healthy' the negative one, but to the judge model"):
        translate(toy.settings(tmp_path / "run.h5", judge=folder, limit=2))


@pytest.mark.parametrize("role", ["checker", "verifier", "judge"])
def test_without_texts_it_is_said_what_to_write(whole: Path, toy: Any, tmp_path: Path, role: str) -> None:
    with pytest.raises(UserError) as error:
        translate(toy.settings(tmp_path / "run.h5", limit=2, **{role: whole}))
    said = (
        "'clip' is a CLIP model, and a classifier only with two texts that say what the classes are called: write "
        'texts = ["a healthy cell", "a sick cell"] into cfdiff.toml in that folder.'
    )
    assert str(error.value) == said
    done = CliRunner().invoke(app, ["models", "describe", str(whole), "--classes", "0,1"])
    assert str(done.exception) == said and not (whole / "cfdiff.toml").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('texts = ["a cell", "A  cell"]', "cfdiff.toml in 'clip' calls both classes 'a cell', which tells none apart"),
        ('texts = ["a cell", " "]', "calls a class by an empty text"),
        ('texts = ["a cell"]', "cfdiff.toml in 'clip', a CLIP model, may say texts = .* cannot be read as that"),
        ('text = "a cell"', "may say texts = .* cannot be read as that: mend it"),
        ("texts", "The description 'cfdiff.toml' cannot be read"),
    ],
)
def test_what_cannot_be_told_is_one_sentence(folder: Path, text: str, words: str) -> None:
    (folder / "cfdiff.toml").write_text(text)
    for load in (load_classifier, load_clip):
        with pytest.raises(UserError, match=words) as error:
            load(folder)
        assert str(folder.parent) not in str(error.value)
