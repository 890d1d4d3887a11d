from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from exact import ExactChecker, model
from torch import Tensor

from cfdiff.data.open import open_source
from cfdiff.data.values import mean_change, to_model
from cfdiff.edit.cast import Cast, probabilities
from cfdiff.edit.editor import Editor
from cfdiff.edit.kept import Edits
from cfdiff.edit.ladder import ladder
from cfdiff.edit.roles import load_cast
from cfdiff.errors import UserError
from cfdiff.models.ensemble import ensemble
from cfdiff.translate.run import translate
from cfdiff.translate.settings import TranslateSettings

Images = Callable[..., np.ndarray]
Settings = Callable[..., Any]


class Never(ExactChecker):
    """A verifier that no edit convinces; a gradient of it is a mistake."""

    def forward(self, x: Tensor) -> Tensor:
        assert not torch.is_grad_enabled(), "the verifier never steers"
        self.asked.append(len(x))
        return torch.tensor([[0.0, 0.0]]).expand(len(x), 2)


class Always(ExactChecker):
    """A verifier that takes everything for a positive."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tensor([[-9.0, 9.0]]).expand(len(x), 2)


class Weaker(ExactChecker):
    """Another checker, less sure."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / 6


class Lefty(ExactChecker):
    """A verifier that looks at the left half alone: white there is a positive."""

    def forward(self, x: Tensor) -> Tensor:
        white = x[..., : x.shape[-1] // 2].mean((1, 2, 3))
        return torch.stack([-9 * white, 9 * white], 1)


def names(n: int) -> list[str]:
    return [f"i{k}" for k in range(n)]


def test_the_verifier_alone_accepts_and_is_in_no_gradient_nor_in_the_closed_loop(
    exact_cast: Cast, exact_images: Images, edit_settings: Settings
) -> None:
    never = Never()
    cast = replace(exact_cast, verifier=model(never, "clean-classifier"))
    s = edit_settings(retries=3, depth=1.0, scale=5.0, ratio=None, early=False)
    edits = Editor(cast, s).edit(exact_images(4), names(4), 1)
    assert edits.retries.tolist() == [3] * 4, "the checker is convinced at once, and it is not asked"
    assert never.asked == [4] * 4, "once a rung, of the saved images"
    assert edits.accepting is not None and (edits.accepting == 0.5).all()
    assert Editor(exact_cast, s).edit(exact_images(4), names(4), 1).retries.max() < 3


def test_a_walk_ends_early_only_where_the_verifier_would_accept(
    exact_cast: Cast, exact_images: Images, edit_settings: Settings
) -> None:
    images = exact_images(4)

    def edited(verifier: torch.nn.Module | None, early: bool, steps: int = 12) -> Edits:
        cast = exact_cast if verifier is None else replace(exact_cast, verifier=model(verifier, "clean-classifier"))
        s = edit_settings(retries=0, depth=1.0, steps=steps, early=early, trim=0)
        return Editor(cast, s).edit(images, names(4), 1)

    whole, never = edited(Never(), early=False), edited(Never(), early=True)
    assert np.array_equal(whole.counterfactual, never.counterfactual), "it accepts nothing, so nothing ends early"
    assert (whole.network_calls == never.network_calls).all()
    sooner = edited(None, early=True)  # the checker accepts
    assert (sooner.network_calls < whole.network_calls).all()
    assert sooner.accepting is not None and (sooner.accepting[:, 1] >= 0.9).all()
    assert (mean_change(images, sooner.counterfactual) > 0).all()
    deep, whole = edited(None, early=True, steps=6), edited(None, early=False, steps=6)
    assert (deep.network_calls == whole.network_calls).all(), "no level but the last is up to .3"


def test_a_verifier_that_is_fooled_accepts_nothing_against_the_checker(
    exact_cast: Cast, exact_images: Images, edit_settings: Settings
) -> None:
    """Noise of full contrast convinced verifiers; the checker, which steered there and never arrived, was not."""
    cast = replace(exact_cast, verifier=model(Always(), "clean-classifier"))
    negatives, positives = exact_images(4), exact_images(4, label=1)
    assert cast.checker is not None
    unchanged = Editor(cast, edit_settings(retries=2, scale=1e-6))
    assert unchanged.edit(negatives, names(4), 1).retries.tolist() == [2] * 4
    for images in (negatives, positives):
        p, sure = unchanged.acceptance.asked(images, names(4), 1)
        steered = probabilities(cast.checker, to_model(images)).numpy()[:, 1]
        assert (p[:, 1] > 0.99).all(), "what is stored is the verifier's own"
        assert np.array_equal(sure, np.where(steered < 0.5, steered, p[:, 1]))


def test_each_rung_asks_more_of_the_checker_for_a_verifier_that_is_not_convinced(
    exact_cast: Cast, edit_settings: Settings
) -> None:
    """Else the closed loop would stop every rung where it stopped the first one."""
    s = edit_settings(retries=2, depth=1.0, scale=5.0, ratio=None, target=0.9, accept=0.9)
    cast = replace(exact_cast, verifier=model(Never(), "clean-classifier"))
    editor = Editor(cast, s)
    assert [rung.confidence for rung in editor.rungs] == pytest.approx([0.9, 0.975, 0.99375])
    assert {rung.confidence for rung in ladder(s)} == {None}
    target = torch.ones(4).long()
    made = [editor.guidance(target, rung, editor.guides()) for rung in editor.rungs]
    assert [guidance.confidence for guidance in made if guidance is not None] == pytest.approx([0.9, 0.975, 0.99375])
    unverified = Editor(exact_cast, s)
    assert {unverified.guidance(target, rung, []).confidence for rung in unverified.rungs} == {0.9}  # type: ignore[union-attr]


def test_smoothing_asks_the_guide_of_what_would_be_saved(
    exact_cast: Cast, exact_images: Images, edit_settings: Settings
) -> None:
    s = edit_settings(smooth=(0.1, 0.3))
    editor, images = Editor(exact_cast, s), exact_images(5, label=1)
    assert exact_cast.checker is not None and exact_cast.guide is not None
    p = probabilities(exact_cast.checker, to_model(images)).numpy()
    smoothed = editor.acceptance._smoothed(images, p, names(5))
    assert smoothed.sum(1) == pytest.approx(np.ones(5)) and (smoothed != p).all()
    asked = {call[0] for call in exact_cast.guide.net.asked}  # type: ignore[union-attr]
    assert asked == {10, 30}
    assert np.array_equal(smoothed, editor.acceptance._smoothed(images, p, names(5))), "the same noise again"
    # The exact guide of clean-looking positives is surer than the weak checker at low noise.
    assert smoothed[:, 1].mean() > 0.5


def test_smoothed_it_must_be_as_sure_as_it_is_unsmoothed(
    exact_cast: Cast, exact_images: Images, edit_settings: Settings
) -> None:
    """The guide, which steered, is sure of positives: it may not outvote a verifier that is not."""
    images = exact_images(5, label=1)
    for verifier in (Always(), Never(), Weaker()):
        cast = replace(exact_cast, verifier=model(verifier, "clean-classifier"), checker=None)
        alone, smooth = (Editor(cast, edit_settings(smooth=depths)).acceptance for depths in ((), (0.1, 0.3)))
        p, sure = smooth.asked(images, names(5), 1)
        assert np.array_equal(p, alone.asked(images, names(5), 1)[0])
        mean = smooth._smoothed(images, p, names(5))[:, 1]
        assert np.array_equal(sure, np.minimum(p[:, 1], mean))
    assert (mean > p[:, 1]).any(), "what is not convinced alone would have been outvoted"


def test_several_checkers_are_one_whose_log_probabilities_are_their_mean(exact_cast: Cast) -> None:
    first, second = exact_cast.checker, model(Weaker(), "clean-classifier")
    assert first is not None
    both = ensemble([first, second])
    assert both is not None and ensemble([first]) is first and ensemble([]) is None
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)) / 4
    with torch.no_grad():
        mean = (first.net(x).log_softmax(1) + second.net(x).log_softmax(1)) / 2
    assert torch.allclose(probabilities(both, x), mean.softmax(1), atol=1e-6)
    assert both.sha256 == f"{first.sha256}+{second.sha256}" and both.shape == first.shape


def weights_with(toy: Any, folder: Path, **roles: str) -> Path:
    """A folder with the toy's models, and further ones by role, copies of the model named."""
    for role in ("diffusion", "guide", "checker", "judge"):
        (folder / f"{role}.safetensors").write_bytes((toy.weights / f"{role}.safetensors").read_bytes())
    for role, like in roles.items():
        (folder / f"{role.replace('_', '-')}.safetensors").write_bytes(
            (toy.weights / f"{like}.safetensors").read_bytes()
        )
    return folder


@pytest.mark.parametrize("like", ["checker", "judge"])
def test_a_verifier_that_steers_or_judges_too_is_refused(toy: Any, tmp_path: Path, like: str) -> None:
    settings = toy.settings(tmp_path / "r.h5", weights=str(weights_with(toy, tmp_path, verifier=like)))
    who = "verifier" if like == "checker" else "judge"
    with pytest.raises(UserError, match=f"The {who} is the very model.*name another --{who}"):
        load_cast(settings, settings.data, open_source(settings.data))


@pytest.mark.parametrize("role", ["checker", "verifier"])
def test_a_second_model_of_a_role_in_the_folder_is_taken_and_the_result_knows_both(
    toy: Any, tmp_path: Path, role: str
) -> None:
    others = {"verifier": "judge"} if role == "verifier" else {}
    folder = weights_with(toy, tmp_path, **others, **{f"{role}_2": others.get(role, role)})
    (folder / "judge.safetensors").unlink()
    settings = toy.settings(tmp_path / "r.h5", weights=str(folder), limit=2)
    translate(settings)
    with h5py.File(tmp_path / "r.h5") as file:
        digest = json.loads(file.attrs["models"])[role]
    one, two = digest.split("+")
    assert one == two
    named = toy.settings(tmp_path / "s.h5", weights=str(folder), **{role: (folder / f"{role}.safetensors",)})
    assert load_cast(named, named.data, open_source(named.data)).hashes[role] == one


def test_what_the_verifier_says_is_in_the_file_and_in_the_summary(toy: Any, tmp_path: Path) -> None:
    folder = weights_with(toy, tmp_path)
    (folder / "verifier.safetensors").write_bytes((toy.weights / "judge.safetensors").read_bytes())
    (folder / "judge.safetensors").unlink()
    summary = translate(toy.settings(tmp_path / "r.h5", weights=str(folder), limit=3))
    assert summary.flipped_verifier is not None and summary.flipped_judge is None
    assert "flipped_verifier" in summary.as_json() and "flipped_judge" not in summary.as_json()
    with h5py.File(tmp_path / "r.h5") as file:
        p = file["prob/verifier"][:]
        assert p.shape == (3, 2, 2) and p.sum(-1) == pytest.approx(np.ones((3, 2)), abs=1e-5)
        status = file["status"].asstr()[:]
        assert [s == "ok" for s in status] == (p[np.arange(3), 1, file["target"][:]] > 0.5).tolist()


def test_one_checker_may_stand_in_a_config_as_a_word() -> None:
    assert TranslateSettings.model_validate({"checker": "a.safetensors"}).checker == (Path("a.safetensors"),)


@pytest.mark.parametrize(
    ("views", "sure"), [("none", [1, 1, 0, 1]), ("flip", [1, 0, 0, 1]), ("dihedral", [1, 0, 0, 0])]
)
def test_the_least_sure_of_the_mirror_images_counts(
    exact_cast: Cast, exact_images: Images, edit_settings: Settings, views: str, sure: list[int]
) -> None:
    """White all over, on the left, on the right, and at the top (more white than black on the left still)."""
    images = np.zeros_like(exact_images(4))
    side = images.shape[1]
    images[0], images[1, :, : side // 2], images[2, :, side // 2 :], images[3, : 3 * side // 4] = 255, 255, 255, 255
    cast = replace(exact_cast, verifier=model(Lefty(), "clean-classifier"), checker=None)
    p, hit = Editor(cast, edit_settings(views=views, guides="noisy")).acceptance.asked(images, names(4), 1)
    assert p[:, 1].round().tolist() == [1, 1, 0, 1], "what is stored is said of the image as it is"
    assert (hit.round() >= 0.5).tolist() == [bool(k) for k in sure]
