"""train-diffusion --distil, from a teacher to a student that is a model like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cfdiff.errors import UserError
from cfdiff.models.checkpoint import in_half, load_model, read_card, save_model
from cfdiff.store import open_result
from cfdiff.train.diffusion import train_diffusion
from cfdiff.train.settings import DiffusionSettings
from cfdiff.translate.run import translate

QUICK: dict[str, Any] = {"batch_size": 8, "val_limit": 16, "device": "cpu", "threads": 1, "warmup": 1, "ema": 0.9}


def distilled(toy: Any, out: Path, **more: Any) -> Any:
    given = {"data": str(toy.data), "init": toy.weights / "diffusion.safetensors", "out": out, "distil": 2}
    return train_diffusion(DiffusionSettings(**{**given, "steps": 40, "eval_every": 40, "lr": 1e-3, **QUICK, **more}))


def test_a_student_comes_nearer_to_two_steps_of_its_teacher_and_edits_like_any_model(toy: Any, tmp_path: Path) -> None:
    student = distilled(toy, tmp_path / "student").model
    card = read_card(student)
    found = card.training["validation"]
    assert found["val_distance"] < found["val_distance_before"]
    assert card.data["began_from"] == load_model(toy.weights / "diffusion.safetensors").sha256
    for name, more in {"edited": {}, "still": {"scale": 0}}.items():
        translate(toy.settings(tmp_path / f"{name}.h5", limit=4, diffusion=student, **more))
    with open_result(tmp_path / "still.h5") as still, open_result(tmp_path / "edited.h5") as edited:
        assert (still["counterfactual"][:] == still["source"][:]).all()
        assert (edited["counterfactual"][:] != edited["source"][:]).any()


def test_what_cannot_be_distilled_is_one_sentence_before_any_training(toy: Any, tmp_path: Path) -> None:
    T = load_model(toy.weights / "diffusion.safetensors").schedule.T
    for says, more in {
        "needs a teacher": {"init": None},
        "leaves no level between": {"distil": T // 2 + 1},
        "is told nothing of an image": {"condition": "class"},
    }.items():
        with pytest.raises(UserError, match=says):
            distilled(toy, tmp_path / "out", **more)
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("distil", [2, None])
def test_what_begins_from_a_file_is_saved_in_its_numbers_unless_it_is_said(
    toy: Any, tmp_path: Path, distil: int | None
) -> None:
    model = load_model(toy.weights / "diffusion.safetensors")
    full = tmp_path / "full.safetensors"
    save_model(full, model.net, model.card, half=False)
    quick = {"steps": 1, "eval_every": 1, "distil": distil}
    assert not in_half(distilled(toy, tmp_path / "a", init=full, **quick).model)
    assert in_half(distilled(toy, tmp_path / "b", init=full, half=True, **quick).model)
    assert in_half(distilled(toy, tmp_path / "c", **quick).model)
