from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cfdiff.data.open import open_source
from cfdiff.edit.cast import Cast, probabilities
from cfdiff.edit.roles import load_cast, model_paths
from cfdiff.errors import UserError
from cfdiff.translate.settings import TranslateSettings


def cast_of(toy: Any, **changes: Any) -> Cast:
    settings = toy.settings(Path("run.h5"), **changes)
    return load_cast(settings, settings.data, open_source(settings.data))


def test_every_network_of_a_cast_is_frozen_in_evaluation_mode_and_float32(toy: Any) -> None:
    cast = cast_of(toy)
    for part in (cast.diffusion, cast.guide, cast.checker, cast.judge):
        assert part is not None
        assert not any(module.training for module in part.net.modules())
        assert not any(p.requires_grad or p.dtype != torch.float32 for p in part.net.parameters())
    assert any(isinstance(module, nn.BatchNorm2d) for module in cast.checker.net.modules())  # type: ignore[union-attr]


def test_a_verdict_does_not_depend_on_the_rest_of_the_batch(toy: Any) -> None:
    judge = cast_of(toy).judge
    assert judge is not None
    x = torch.rand(9, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert torch.allclose(probabilities(judge, x)[:1], probabilities(judge, x[:1]), atol=1e-6)
    assert torch.allclose(probabilities(judge, x, batch=2), probabilities(judge, x), atol=1e-6)


def test_level_0_is_asked_as_level_1_and_level_l_as_timestep_l_minus_1(exact_cast: Cast) -> None:
    x = torch.zeros(2, 1, 8, 8)
    for level in (0, 1, 2, 100):
        exact_cast.denoise(x, level)
    assert exact_cast.diffusion.net.asked == [[0, 0], [0, 0], [1, 1], [99, 99]]


def test_a_part_that_is_named_replaces_that_of_the_folder(toy: Any) -> None:
    cast = cast_of(toy, judge=toy.weights / "checker.safetensors", checker=toy.weights / "judge.safetensors")
    usual = cast_of(toy)
    assert cast.hashes["judge"] == usual.hashes["checker"] and cast.hashes["guide"] == usual.hashes["guide"]


def test_a_run_without_checker_needs_neither_loop_nor_ladder(toy: Any, tmp_path: Path) -> None:
    for part in ("diffusion", "guide"):
        (tmp_path / f"{part}.safetensors").write_bytes((toy.weights / f"{part}.safetensors").read_bytes())
    alone: dict[str, Any] = {"weights": str(tmp_path), "guides": "noisy"}
    with pytest.raises(UserError, match="--open-loop --retries 0"):
        cast_of(toy, **alone)
    with pytest.raises(UserError, match="needs a checker"):
        cast_of(toy, weights=str(tmp_path))
    cast = cast_of(toy, **alone, closed_loop=False, retries=0)
    assert cast.checker is None and cast.judge is None


def test_classes_the_other_way_round_are_refused(toy: Any) -> None:
    settings = toy.settings(Path("run.h5"))
    turned = open_source(settings.data, negative="sick", positive="healthy")
    with pytest.raises(UserError, match="--negative healthy --positive sick"):
        load_cast(settings, settings.data, turned)


def test_names_of_classes_are_compared_with_the_cards_without_case(toy: Any, tmp_path: Path) -> None:
    arrays = dict(np.load(toy.data))
    arrays["labels"] = np.char.upper(arrays["labels"])
    np.savez(tmp_path / "upper.npz", **arrays)
    settings = toy.settings(Path("run.h5"), data=str(tmp_path / "upper.npz"))
    load_cast(settings, settings.data, open_source(settings.data))
    turned = open_source(settings.data, negative="sick", positive="healthy")
    with pytest.raises(UserError, match="--negative HEALTHY --positive SICK"):
        load_cast(settings, settings.data, turned)


def test_a_class_that_the_cards_call_the_other_way_is_refused_beside_any_other_class(toy: Any, tmp_path: Path) -> None:
    arrays = dict(np.load(toy.data))
    arrays["labels"] = np.where(arrays["labels"] == "sick", "Sick", "odd")
    np.savez(tmp_path / "odd.npz", **arrays)
    settings = toy.settings(Path("run.h5"), data=str(tmp_path / "odd.npz"))
    with pytest.raises(UserError, match="'Sick' the negative one, but to the diffusion model .* 'sick' is positive"):
        load_cast(settings, settings.data, open_source(settings.data, negative="sick"))


def test_a_device_that_is_not_here_is_named(toy: Any) -> None:
    with pytest.raises(UserError, match="'nonsense' cannot be used here"):
        cast_of(toy, device="nonsense")


def test_a_stored_verdict_is_on_one_thread_and_a_figure_may_take_all(toy: Any) -> None:
    model = cast_of(toy).judge
    assert model is not None
    seen: list[int] = []
    model.net.register_forward_pre_hook(lambda net, inputs: seen.append(torch.get_num_threads()))
    x, before = torch.zeros(2, 1, 16, 16), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        exact, quick = probabilities(model, x), probabilities(model, x, exact=False)
        assert seen == [1, 2] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert torch.allclose(exact, quick, atol=1e-5)


def test_bundled_data_without_weights_takes_the_models_that_are_named_and_misses_no_other() -> None:
    s = TranslateSettings(data="pneumoniamnist", diffusion=Path("d.safetensors"), guide=Path("g.safetensors"))
    assert model_paths(s, s.data, "diffusion") == (Path("d.safetensors"),)
    assert model_paths(s, s.data, "verifier") == ()
    with pytest.raises(UserError, match="has no weights for 'pneumoniamnist': make some .cfdiff fit."):
        model_paths(TranslateSettings(data="pneumoniamnist"), "pneumoniamnist", "diffusion")


def test_both_stands_for_two_guides_also_beside_others() -> None:
    assert TranslateSettings(guides="both").guide_names == ["noisy", "clean"]
    assert TranslateSettings(guides="both+cfg").guide_names == ["noisy", "clean", "cfg"]
    assert TranslateSettings(guides="clean+both").guide_names == ["clean", "noisy"]


def test_a_model_that_edits_to_one_class_alone_need_is_missed_before_any_edit(toy: Any, tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(toy.weights, folder)
    (folder / "guide.safetensors").unlink()
    settings = TranslateSettings(data=str(toy.data), weights=str(folder), device="cpu", guides="clean")
    assert load_cast(settings, settings.data, open_source(settings.data)).guide is None
    either = settings.model_copy(update={"towards": {"negative": {"guides": "both"}}})
    with pytest.raises(UserError, match="--guides both needs a guide"):
        load_cast(either, either.data, open_source(either.data))
