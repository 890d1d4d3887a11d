from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cfdiff.errors import UserError
from cfdiff.modelfiles.inspect import describe
from cfdiff.models.bundled import WEIGHTS, named, role_file, role_files, weights_folder
from cfdiff.models.checkpoint import diffusion_card, load_diffusion, load_model
from cfdiff.models.foreign import classes_of, load_classifier


def test_a_part_lies_beside_the_others_or_in_the_folder_of_its_training(tmp_path: Path) -> None:
    assert role_file(tmp_path, "judge") is None
    (tmp_path / "judge").mkdir()
    assert role_file(tmp_path, "judge") is None
    trained = tmp_path / "judge" / "model.safetensors"
    trained.touch()
    assert role_file(tmp_path, "judge") == trained
    beside = tmp_path / "judge.safetensors"
    beside.touch()
    assert role_file(tmp_path, "judge") == beside


def test_data_without_weights_is_told_the_option_that_every_command_has() -> None:
    with pytest.raises(UserError, match="no folder 'pneumoniamnist', nor does.*give --weights the folder"):
        weights_folder("pneumoniamnist")


def test_further_models_of_a_role_are_numbered_up_to_the_first_gap(tmp_path: Path) -> None:
    assert role_files(tmp_path, "checker") == ()
    names = ["checker.safetensors", "checker-2.safetensors", "checker-4.safetensors"]
    for name in names:
        (tmp_path / name).touch()
    assert role_files(tmp_path, "checker") == (tmp_path / names[0], tmp_path / names[1])


def test_a_bundled_model_is_named_by_its_weights_and_its_own_name_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words, judge, magic = (Path("malaria-cells") / name for name in ("words", "judge.safetensors", "magic"))
    assert named(words) == WEIGHTS / "malaria-cells" / "words.safetensors"
    assert diffusion_card(words).condition == "tokens" and describe(words).condition
    torch.set_num_threads(1)
    assert load_diffusion(words).path == load_model(words).path == named(words)
    assert load_classifier(judge).name == "judge" and classes_of(judge) == ("uninfected", "parasitized")
    with pytest.raises(UserError, match="There is no model file 'magic'"):
        load_diffusion(magic)


def test_a_file_of_the_name_of_a_bundled_one_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = Path("malaria-cells/words")
    own.parent.mkdir()
    own.touch()
    assert named(own) == own and named(tmp_path / "malaria-cells" / "judge") == tmp_path / "malaria-cells" / "judge"
