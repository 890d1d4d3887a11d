"""Drawing with models that are exact: two classes of Gaussians, of which one knows what must come out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from exact import HEIGHT, STD
from wordy import reading

from cfdiff.edit.cast import Cast
from cfdiff.engine import decode, x0_from_eps
from cfdiff.errors import UserError
from cfdiff.generate.models import Canvas, leading_of, worded
from cfdiff.generate.plan import make_plan
from cfdiff.generate.sampler import Sampler
from cfdiff.generate.settings import GenerateSettings
from cfdiff.registry import SOLVERS

CANVAS = Canvas("exact", (8, 8, 1), ("healthy", "sick"), np.dtype(np.float32))


def sampler(cast: Cast, target: int | None = None, **options: Any) -> Sampler:
    s = GenerateSettings(**{"steps": (40,), "images": 16, "clip": False, "batch_size": 8, **options})
    return Sampler(cast, CANVAS, s, leading_of(s, cast.diffusion, target is not None), target)


def drawn(of: Sampler, rows: np.ndarray | None = None) -> dict[str, np.ndarray]:
    plan = make_plan(of.s, None)
    return of.rows(plan, np.arange(len(plan)) if rows is None else rows, {})


def height(images: np.ndarray) -> np.ndarray:
    """(N,) of the patch that tells the classes apart: -HEIGHT or HEIGHT, give or take STD / 3."""
    return 2 * images[:, 1:4, 1:4, 0].mean(axis=(1, 2)) - 1


@pytest.mark.parametrize("solver", sorted(SOLVERS))
def test_every_sampler_draws_both_classes_and_nothing_between(exact_cast: Cast, solver: str) -> None:
    arrays = drawn(sampler(exact_cast, solver=solver, images=48))
    found = height(arrays["image"])
    assert np.all(np.abs(np.abs(found) - HEIGHT) < 4 * STD / 3) and (found > 0).any() and (found < 0).any()
    assert set(arrays["status"]) == {"ok"} and set(arrays["target"]) == {-1} and not arrays["guide_calls"].any()
    assert set(arrays["network_calls"]) == ({79} if solver == "heun" else {40}), (
        "heun looks twice but for the last step"
    )


@pytest.mark.parametrize("target", [0, 1])
@pytest.mark.parametrize("guides", ["noisy", "cfg", "noisy+cfg"])
def test_guidance_draws_the_class_alone(told_cast: Cast, target: int, guides: str) -> None:
    arrays = drawn(sampler(told_cast, target, guides=guides, scale=1.5, w=1.5, images=32))
    assert np.all(np.sign(height(arrays["image"])) == 2 * target - 1)
    assert set(arrays["guide_calls"]) == {40} and set(arrays["target"]) == {target}
    assert set(arrays["network_calls"]) == {40 if guides == "noisy" else 80}, "cfg asks once more"


def test_w_1_tells_the_walk_its_class_and_costs_nothing_more(told_cast: Cast) -> None:
    one = sampler(told_cast, 1, w=1.0)
    assert one.leading.words == "told"
    images = drawn(one)
    assert set(images["network_calls"]) == {40} and np.all(height(images["image"]) > 0)
    near = drawn(sampler(told_cast, 1, w=1.0 + 1e-9))
    np.testing.assert_allclose(near["image"], images["image"], atol=1e-4)


@pytest.mark.parametrize(
    ("text", "negative", "w"), [("bright", None, 1.0), ("dark", None, 2.0), ("dark", "bright", 1.5)]
)
def test_words_draw_what_they_say_without_a_class(exact_cast: Cast, text: str, negative: str | None, w: float) -> None:
    cast = reading(exact_cast)
    s = GenerateSettings(text=text, negative_text=negative, w=w, steps=(40,), images=16, clip=False, batch_size=8)
    cast = replace(cast, diffusion=worded(s, cast.diffusion))
    arrays = drawn(Sampler(cast, CANVAS, s, leading_of(s, cast.diffusion, True), None))
    assert np.all(np.sign(height(arrays["image"])) == (1 if text == "bright" else -1)) and set(arrays["target"]) == {-1}
    assert set(arrays["network_calls"]) == {40 if w == 1 else 80}


def test_words_that_nobody_reads_are_refused(exact_cast: Cast) -> None:
    with pytest.raises(UserError, match="'diffusion' reads no words, so it cannot be told --text"):
        worded(GenerateSettings(text="bright"), exact_cast.diffusion)
    with pytest.raises(UserError, match="say with --text what it is to be"):
        worded(GenerateSettings(negative_text="bright"), exact_cast.diffusion)
    with pytest.raises(UserError, match="leads to a class: name it with --class"):
        worded(GenerateSettings(text="bright", guides="noisy+cfg"), reading(exact_cast).diffusion)


@pytest.mark.parametrize("options", [{"guides": "cfg", "w": 0.0}, {"guides": "noisy", "scale": 0.0}])
def test_no_strength_is_no_class(told_cast: Cast, options: dict[str, Any]) -> None:
    nothing = drawn(sampler(told_cast, 1, **options))
    np.testing.assert_array_equal(nothing["image"], drawn(sampler(told_cast))["image"])


@pytest.mark.parametrize("solver", ["dpm++", "ddpm"])
def test_an_image_is_its_seed_whatever_else_is_drawn(exact_cast: Cast, solver: str) -> None:
    whole = drawn(sampler(exact_cast, solver=solver))
    some = drawn(sampler(exact_cast, solver=solver), np.array([3, 11]))
    np.testing.assert_allclose(some["image"], whole["image"][[3, 11]], atol=1e-5)
    later = drawn(sampler(exact_cast, solver=solver, seed=3, images=2))
    np.testing.assert_allclose(later["image"][0], whole["image"][3], atol=1e-5)
    assert list(later["id"]) == ["seed-3", "seed-4"] and list(later["seed"]) == [3, 4]
    assert len(np.unique(whole["image"].reshape(16, -1), axis=0)) == 16


def test_a_path_between_seeds_begins_and_ends_with_their_images(exact_cast: Cast) -> None:
    path = drawn(sampler(exact_cast, interpolate="seeds", ends=(2, 9), images=5))
    whole = drawn(sampler(exact_cast, solver="dpm++"))
    np.testing.assert_allclose(path["image"][[0, -1]], whole["image"][[2, 9]], atol=1e-5)
    np.testing.assert_array_equal(path["position"], np.float32([0, 0.25, 0.5, 0.75, 1]))
    steps = np.abs(np.diff(path["image"], axis=0)).mean(axis=(1, 2, 3))
    assert np.all(steps > 0), "and goes on between them"


def test_a_path_between_images_begins_and_ends_near_them(exact_cast: Cast, exact_images: Any) -> None:
    of = sampler(exact_cast, interpolate="images", steps=(99,), solver="ddim", images=2)
    ends = np.concatenate([exact_images(1, 0, "float32"), exact_images(1, 1, "float32", seed=1)])
    start = of.path(ends, 99)
    back = of.draw(start(np.float32([0, 1])), 99).images
    assert np.abs(back - ends).mean() < 0.02 < np.abs(ends[0] - ends[1]).mean()


def test_what_is_not_finite_is_black_and_said(exact_cast: Cast) -> None:
    of = sampler(exact_cast, solver="dpm++")
    z = of.start(of.noise([0, 1]), 2)
    z[0] = torch.nan
    found = of.draw(z, 5)
    assert found.finite.tolist() == [False, True] and not found.images[0].any() and found.images[1].any()


def test_pixels_are_clipped_at_each_step_unless_one_says_not(exact_cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sampler(exact_cast, clip=None).clip and not sampler(exact_cast).clip
    most = []

    def watched(*args: Any, callback: Any, **options: Any) -> torch.Tensor:
        def step(step: Any) -> None:
            most.append(
                float(x0_from_eps(exact_cast.schedule, before[-1], step.level_from, step.eps_guided).abs().max())
            )
            before.append(step.x)
            callback(step)

        before = [args[2].x[-1]]
        return decode(*args, callback=step, **options)

    monkeypatch.setattr("cfdiff.generate.sampler.decode", watched)
    drawn(sampler(exact_cast, clip=True))
    assert max(most) <= 1 + 1e-4
    most.clear()
    drawn(sampler(exact_cast))
    assert max(most) > 1.05


def test_what_cannot_be_drawn_is_said_before_anything_is(exact_cast: Cast) -> None:
    with pytest.raises(UserError, match="100 steps are more than the 99 levels"):
        sampler(exact_cast, steps=(5, 100))
    with pytest.raises(UserError, match="draws new noise at every step"):
        make_plan(GenerateSettings(interpolate="seeds", solver="ddpm"), None)
    with pytest.raises(UserError, match="draws new noise at every step"):
        make_plan(GenerateSettings(interpolate="seeds", solver="ddim", eta=0.5), None)
    with pytest.raises(UserError, match="no two seeds"):
        make_plan(GenerateSettings(interpolate="seeds", ends=("a", "b")), None)
    with pytest.raises(UserError, match="--interpolate seeds or images"):
        make_plan(GenerateSettings(ends=(1, 2)), None)
    with pytest.raises(UserError, match="name them with --data"):
        make_plan(GenerateSettings(interpolate="images"), None)
