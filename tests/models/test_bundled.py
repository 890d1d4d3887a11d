from __future__ import annotations

from pathlib import Path

import pytest

from cfdiff.errors import UserError
from cfdiff.models.bundled import role_file, role_files, weights_folder


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
