from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from exact import ExactChecker, model
from torch import Tensor

from cfdiff.data.ground import off_ground
from cfdiff.data.values import to_model
from cfdiff.edit.cast import Cast
from cfdiff.edit.editor import Editor
from cfdiff.edit.ladder import redraws
from cfdiff.edit.regenerate import Regenerate
from cfdiff.edit.strategy import Batch
from cfdiff.engine.saliency import place_holding
from cfdiff.errors import UserError
from cfdiff.translate.run import translate

Images = Callable[..., np.ndarray]
Settings = Callable[..., Any]
QUICK = {"edit": "regenerate", "redraw_steps": 8, "redraw_depth": 0.9, "redraw_share": 0.2, "redraw_grow": 3}


class Never(ExactChecker):
    """A verifier that no edit convinces."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros(len(x), 2)


class Picky(ExactChecker):
    """A verifier that accepts by a pixel which no edit is about."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([-9 * x[:, 0, 7, 7].sign(), 9 * x[:, 0, 7, 7].sign()], dim=1)


def names(n: int) -> list[str]:
    return [f"i{k}" for k in range(n)]


def test_the_place_is_where_the_classes_differ_and_outside_is_the_source(
    exact_cast: Cast, exact_images: Images, edit_settings: Settings
) -> None:
    images = exact_images(6)
    edits = Editor(exact_cast, edit_settings(**QUICK)).edit(images, names(6), 1)
    assert edits.mask is not None and edits.saliency is not None and edits.accepting is not None
    outside = ~edits.mask
    assert (edits.counterfactual[outside] == images[outside]).all() and outside.mean() > 0.3
    assert edits.mask[:, 1:4, 1:4].mean() > 0.9, "the classes differ at (1..3, 1..3)"
    assert (edits.saliency.max((1, 2)) == 1).all() and edits.saliency.min() >= 0
    assert (edits.accepting[:, 1] > 0.5).all() and set(edits.edit) == {"regenerate"}


@pytest.mark.parametrize("way", ["anchored", "regenerate", "auto"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_the_plain_ground_that_an_object_lies_on_never_changes(
    exact_cast: Cast, exact_images: Images, edit_settings: Settings, way: str, dtype: str
) -> None:
    images = exact_images(6, dtype=dtype)
    ground = np.zeros((6, 8, 8), bool)
    ground[:, :2] = ground[:, :, 6:] = True  # a third of the place where the classes differ, too
    images[ground] = 0
    s = edit_settings(**{**QUICK, "edit": way, "depth": 0.6, "retries": 1, "mask": "object"})
    edits = Editor(exact_cast, s).edit(images, names(6), 1)
    assert edits.counterfactual[ground].tobytes() == images[ground].tobytes()
    assert (edits.counterfactual != images).any((1, 2, 3)).all()
    assert edits.mask is not None and not edits.mask[ground].any()
    if way == "anchored":
        assert (edits.mask == off_ground(images)).all()
    if way == "regenerate":
        assert edits.mask[:, 2:4, 1:4].mean() > 0.9 and edits.mask.sum() < off_ground(images).sum(), (
            "its place is still looked for"
        )


def test_a_draw_costs_its_steps_and_no_encoding(
    exact_cast: Cast, exact_images: Images, edit_settings: Settings
) -> None:
    cast = replace(exact_cast, verifier=model(Never(), "clean-classifier"))
    edits = Editor(cast, edit_settings(**QUICK, redraw_times=3, redraws=2, realism=0)).edit(
        exact_images(2), names(2), 1
    )
    assert edits.network_calls.tolist() == [2 * (3 * 7 + 1)] * 2 and edits.retries.tolist() == [1, 1]


def test_draws_are_from_other_noise_stronger_and_in_more_of_the_image(edit_settings: Settings) -> None:
    rungs = redraws(edit_settings(**QUICK, redraws=3))
    assert [rung.draw for rung in rungs] == [0, 1, 2]
    assert [rung.share for rung in rungs] == pytest.approx([0.2, 0.3, 0.45])
    assert rungs[0].ratio is not None and rungs[2].ratio == pytest.approx(2.25 * rungs[0].ratio)
    assert len(redraws(edit_settings(**QUICK, scale=0))) == 1
    again = redraws(edit_settings(**QUICK, redraws=5))
    assert again[:3] == rungs and [rung.draw for rung in again] == [0, 1, 2, 3, 4]
    assert [replace(rung, draw=rung.draw - 3) for rung in again[3:]] == rungs[:2], "they begin again, from other noise"


def test_a_place_may_be_told_by_what_it_holds_and_each_draw_holds_more(
    exact_cast: Cast, exact_images: Images, edit_settings: Settings
) -> None:
    s = edit_settings(**{**QUICK, "redraw_grow": 1}, redraw_mass=0.3, redraws=3)
    assert [rung.mass for rung in redraws(s)] == pytest.approx([0.3, 0.525, 0.91875])
    assert [rung.mass for rung in redraws(edit_settings(**QUICK))] == [None] * 3
    images = exact_images(2)
    x = to_model(images)
    batch = Batch(images, x, x, x, names(2), torch.tensor([1, 1]))
    way = Regenerate(Editor(exact_cast, s), batch)
    masks = [way.attempt(np.arange(2), rung).mask for rung in way.rungs]
    assert way.saliency is not None
    for mask, rung in zip(masks, way.rungs, strict=True):
        assert mask is not None and rung.mass is not None
        held = (way.saliency * mask[:, 0]).sum((1, 2)) / way.saliency.sum((1, 2))
        assert (held >= rung.mass - 1e-6).all()
        assert torch.equal(mask, place_holding(way.saliency[:, None], rung.mass, 1))


def test_a_conditional_denoiser_helps_to_find_the_place_once_for_twelve_calls(
    told_cast: Cast, exact_images: Images, edit_settings: Settings
) -> None:
    images = exact_images(4)
    plain = {**QUICK, "redraws": 2, "redraw_grow": 1}
    guides, both = (
        Editor(told_cast, edit_settings(**plain, redraw_find=who)).edit(images, names(4), 1)
        for who in ("guides", "guides+denoiser")
    )
    assert (both.network_calls >= 12 + 8).all() and (guides.network_calls >= 8).all()
    assert guides.saliency is not None and both.saliency is not None and (both.saliency != guides.saliency).any()
    one = Editor(told_cast, edit_settings(**plain, redraw_find="guides+denoiser")).edit(images[2:3], names(4)[2:3], 1)
    assert one.counterfactual.tobytes() == both.counterfactual[2:3].tobytes(), "whoever else is in the batch"
    assert one.network_calls.tolist() == both.network_calls[2:3].tolist()
    cast = replace(told_cast, verifier=model(Never(), "clean-classifier"))
    calls = [
        Editor(cast, edit_settings(**plain, redraw_find=who, realism=0)).edit(images, names(4), 1).network_calls
        for who in ("guides", "guides+denoiser")
    ]
    assert (calls[1] - calls[0] == 12).all(), "two draws, and they looked once"


def test_auto_keeps_the_smaller_accepted_change_of_both_ways(
    exact_cast: Cast, exact_images: Images, edit_settings: Settings
) -> None:
    images = exact_images(8)
    found = {
        way: Editor(exact_cast, edit_settings(**{**QUICK, "edit": way, "depth": 1.0, "retries": 2, "realism": 0})).edit(
            images, names(8), 1
        )
        for way in ("anchored", "regenerate", "auto")
    }

    def change(way: str) -> np.ndarray:
        return np.abs(found[way].counterfactual.astype(float) - images).mean((1, 2, 3))

    both = np.minimum(change("anchored"), change("regenerate"))
    accepted = [(found[way].accepting[:, 1] >= 0.9).all() for way in ("anchored", "regenerate")]  # type: ignore[index]
    assert all(accepted) and change("auto") == pytest.approx(both)
    calls = found["anchored"].network_calls + found["regenerate"].network_calls
    assert (found["auto"].network_calls == calls).all()
    smaller = np.where(change("anchored") <= change("regenerate"), "anchored", "regenerate")
    assert (found["auto"].edit == smaller).all()


@pytest.mark.parametrize("nothing", [{"scale": 0}, {"guides": "cfg", "w": 0}], ids=str)
@pytest.mark.parametrize("way", ["regenerate", "auto", "anchored+regenerate"])
def test_without_guidance_nothing_changes_and_nothing_is_asked(
    told_cast: Cast, exact_images: Images, edit_settings: Settings, nothing: dict[str, Any], way: str
) -> None:
    images = exact_images(2)
    edits = Editor(told_cast, edit_settings(**{**QUICK, "edit": way, **nothing})).edit(images, names(2), 1)
    assert edits.counterfactual.tobytes() == images.tobytes()
    if way == "regenerate":
        assert edits.network_calls.tolist() == edits.guide_calls.tolist() == [0, 0]


def test_ways_after_one_another_draw_anew_only_what_was_not_accepted(
    exact_cast: Cast, exact_images: Images, edit_settings: Settings
) -> None:
    images, kept = exact_images(8), {**QUICK, "depth": 1.0, "retries": 0, "redraws": 1, "realism": 0}
    cast = replace(exact_cast, verifier=model(Picky(), "clean-classifier"))
    first = Editor(cast, edit_settings(**{**kept, "edit": "anchored"})).edit(images, names(8), 1)
    both = Editor(cast, edit_settings(**{**kept, "edit": "anchored+regenerate"})).edit(images, names(8), 1)
    assert first.accepting is not None and both.accepting is not None and both.mask is not None
    enough = first.accepting[:, 1] >= 0.9
    assert enough.any() and not enough.all(), "some are accepted at once"
    assert (both.counterfactual[enough] == first.counterfactual[enough]).all() and both.mask[enough].all()
    assert set(both.edit[enough]) == {"anchored"}
    assert (both.network_calls[enough] == first.network_calls[enough]).all()
    drawn = QUICK["redraw_steps"] * 2 - 1  # each step twice, the last once
    assert (both.network_calls[~enough] == first.network_calls[~enough] + drawn).all()
    assert both.saliency is None, "nobody looked at those that were accepted"


def test_a_depth_that_cannot_be_is_said_at_once(exact_cast: Cast, edit_settings: Settings) -> None:
    with pytest.raises(UserError, match="steps"):
        Editor(exact_cast, edit_settings(**{**QUICK, "redraw_steps": 500}))


def test_a_result_says_which_way_was_kept_where_and_by_what_map(toy: Any, tmp_path: Any) -> None:
    translate(toy.settings(tmp_path / "r.h5", limit=3, edit="auto", redraw_steps=4, redraws=1))
    with h5py.File(tmp_path / "r.h5") as file:
        assert set(file["guidance/edit"].asstr()[:]) <= {"anchored", "regenerate"}
        assert file["saliency"].shape == file["mask"].shape == (3, 16, 16)
        kept = file["guidance/edit"].asstr()[:] == "regenerate"
        outside = ~file["mask"][:][kept]
        assert (file["source"][:][kept][outside] == file["counterfactual"][:][kept][outside]).all()
