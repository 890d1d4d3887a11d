"""What a user's mistake gets from `cfdiff translate`: exit code 2, one sentence, and nothing half-written."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from cfdiff.engine import NoiseSchedule

Refused = Callable[..., str]


def _toys() -> ModuleType:
    path = Path(__file__).parents[1] / "conftest.py"
    spec = importlib.util.spec_from_file_location("toys", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["toys"] = module
    spec.loader.exec_module(module)
    return module


toys = _toys()


def test_data_of_another_size_than_the_model_takes(refused: Refused, tmp_path: Path) -> None:
    said = refused(data=toys.write_npz(tmp_path / "big.npz", 4, size=24))
    assert "24x24" in said and "16x16" in said and "--size" in said


def test_data_with_other_channels_than_the_model_takes(refused: Refused, tmp_path: Path) -> None:
    said = refused(data=toys.write_npz(tmp_path / "rgb.npz", 4, channels=3))
    assert "3 channels" in said and "1 channel" in said


def test_a_guide_of_another_size_than_the_diffusion_model(refused: Refused, tmp_path: Path) -> None:
    path = toys.save_classifier(tmp_path / "guide32.safetensors", toys.toy_classifier(1, True, size=32))
    said = refused(guide=path)
    assert "guide" in said and "32x32" in said


def test_a_guide_for_another_schedule_than_the_diffusion_model(refused: Refused, tmp_path: Path) -> None:
    guide = toys.toy_classifier(1, True)
    path = toys.save_classifier(tmp_path / "linear.safetensors", guide, NoiseSchedule.linear(200))
    said = refused(guide=path)
    assert "linear with 200 steps" in said and "cosine with 100 steps" in said


def test_a_guide_given_as_checker_and_a_checker_as_guide(refused: Refused, toy: Any) -> None:
    assert "clean-classifier model is needed" in refused(checker=toy.weights / "guide.safetensors")
    assert "noisy-classifier model is needed" in refused(guide=toy.weights / "checker.safetensors")


def test_unknown_classes_are_answered_with_the_known_ones(refused: Refused, tmp_path: Path) -> None:
    for options in ({"from_": "ill"}, {"to": "ill"}, {"negative": "ill"}, {"positive": "ill"}):
        said = refused(**options)
        assert "'ill'" in said and "healthy" in said and "sick" in said
    odd = toys.write_npz(tmp_path / "odd.npz", 4, labels=np.array(["ring", "disc"] * 2))
    assert "disc, ring" in refused(data=odd)


def test_from_and_to_the_same_class(refused: Refused) -> None:
    assert "both 'sick'" in refused(from_="sick", to="positive")


def test_a_pickled_checkpoint(refused: Refused, tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(3)}, tmp_path / "model.pt")
    assert "pickled" in refused(diffusion=tmp_path / "model.pt")


def test_somebody_elses_safetensors_file(refused: Refused, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"weights": torch.zeros(3)}, tmp_path / "other.safetensors")
    assert "was not made by cfdiff" in refused(diffusion=tmp_path / "other.safetensors")


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.999])
def test_a_truncated_model_file(refused: Refused, toy: Any, tmp_path: Path, share: float) -> None:
    whole = (toy.weights / "judge.safetensors").read_bytes()
    (tmp_path / "short.safetensors").write_bytes(whole[: int(share * len(whole))])
    assert "short.safetensors" in refused(judge=tmp_path / "short.safetensors")


def test_a_model_file_that_does_not_exist(refused: Refused, tmp_path: Path) -> None:
    assert "no model file 'gone.safetensors'" in refused(guide=tmp_path / "gone.safetensors")


def test_a_weights_folder_without_models(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "diffusion.safetensors" in refused(weights=tmp_path / "empty")
    assert "nowhere" in refused(weights=tmp_path / "nowhere")


def test_own_data_without_models(refused: Refused) -> None:
    assert "--diffusion" in refused(weights=None)


def test_the_judge_may_not_be_the_checker(refused: Refused, toy: Any) -> None:
    assert "--judge" in refused(judge=toy.weights / "checker.safetensors")


def test_a_missing_output_folder_and_one_that_cannot_be_written(refused: Refused, tmp_path: Path) -> None:
    assert "no existing folder" in refused(out=tmp_path / "nowhere" / "run.h5")
    assert "choose another --out" in refused(out="/proc/run.h5")
    assert "is a folder" in refused(out=tmp_path)


def test_an_existing_file_that_is_no_result_is_not_overwritten(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "mine.h5").write_text("precious")
    assert "--force" in refused(out=tmp_path / "mine.h5")
    assert (tmp_path / "mine.h5").read_text() == "precious"


def test_a_preview_of_no_known_kind_or_place_or_content(refused: Refused, toy: Any, tmp_path: Path) -> None:
    assert ".png, .pdf, .svg" in refused(preview=tmp_path / "run.gif")
    assert "no existing folder" in refused(preview=tmp_path / "nowhere" / "run.png")
    (tmp_path / "folder.png").mkdir()
    assert "is a folder" in refused(preview=tmp_path / "folder.png")
    (tmp_path / "folder.png").rmdir()
    few = tmp_path / "few"
    few.mkdir()
    for part in ("diffusion", "guide"):
        (few / f"{part}.safetensors").write_bytes((toy.weights / f"{part}.safetensors").read_bytes())
    options = {"weights": few, "guides": "noisy", "retries": 0, "preview": tmp_path / "run.png"}
    assert "no model here gives any" in refused("--open-loop", **options)


def test_data_without_masks_for_the_masks_of_the_data(refused: Refused, tmp_path: Path) -> None:
    assert "has no masks" in refused(data=toys.write_npz(tmp_path / "bare.npz", 4, masks=None), mask="data")


def test_numbers_that_cannot_be(refused: Refused) -> None:
    assert "limit = 0" in refused(limit=0)
    assert "steps = 0" in refused(steps=0)
    assert "depth = 1.5" in refused(depth=1.5)
    assert "scale = -1" in refused(scale=-1)
    assert "eta = 2" in refused(eta=2)
    assert "solver = 'euler'" in refused(solver="euler")


def test_more_steps_than_levels(refused: Refused) -> None:
    said = refused(steps=41, depth=0.4)
    assert "41 steps" in said and "1 to 40 steps" in said


def test_a_config_file_that_is_missing_no_toml_or_holds_what_cannot_be(refused: Refused, tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    assert "run.toml" in refused(config=config)
    for text, expected in (
        ("scale = ", "no valid TOML"),
        ("scael = 3", "'scael' in run.toml"),
        ("scale = 'strong'", "scale = 'strong'"),
        ("depth = 7", "depth = 7"),
    ):
        config.write_text(text)
        assert expected in refused(config=config)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda path: path.unlink(), id="missing"),
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:-400]), id="truncated"),
        pytest.param(lambda path: toys.write_npz(path, 4, labels=np.array(["healthy"] * 4)), id="one class"),
        pytest.param(lambda path: toys.write_npz(path, 4, images=np.full((4, 16, 16), np.nan, "f4")), id="NaN"),
        pytest.param(lambda path: toys.write_npz(path, 4, labels=np.array(["healthy"] * 3)), id="too few labels"),
        pytest.param(lambda path: toys.write_npz(path, 4, images=np.zeros((4, 16), "u1")), id="no images"),
    ],
)
def test_data_that_cannot_be_used(refused: Refused, tmp_path: Path, damage: Callable[[Path], Any]) -> None:
    data = toys.write_npz(tmp_path / "cells.npz", 4)
    damage(data)
    assert "cells.npz" in refused(data=data, from_="positive")


def test_splits_and_groups_that_the_data_does_not_have(refused: Refused) -> None:
    assert "no splits" in refused(split="test")
    assert "'ward'" in refused(group_key="ward")


def test_a_device_that_is_not_here(refused: Refused) -> None:
    assert "'cuda:99'" in refused(device="cuda:99")


@pytest.mark.parametrize("guides", ["cfg", "noisy+clean+cfg"])
def test_classifier_free_guidance_with_an_unconditional_model(refused: Refused, guides: str) -> None:
    said = refused(guides=guides)
    assert f"--guides {guides} needs a diffusion model that knows the classes" in said
    assert "'diffusion' does not: train one with --condition class" in said


def test_an_unconditional_model_cannot_be_told_the_source_class(refused: Refused) -> None:
    assert "--base source tells the diffusion model a class" in refused(base="source")
    assert "--redraw-find guides+denoiser asks the diffusion model" in refused(
        edit="auto", redraw_find="guides+denoiser"
    )


def test_a_conditional_model_whose_classes_are_in_the_other_order(refused: Refused, toy_told: Any) -> None:
    said = refused(weights=toy_told.weights, guides="cfg", negative="sick", positive="healthy", from_="sick")
    assert "to the diffusion model" in said and "--negative healthy --positive sick" in said


def test_a_weight_below_zero(refused: Refused) -> None:
    assert "The setting w = -1.0 is not possible" in refused(w=-1)
    assert "should be greater than 0, or 'auto'." in refused(batch_size=0)
