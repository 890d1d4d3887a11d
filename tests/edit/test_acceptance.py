from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from exact import ExactChecker, model
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cfdiff.edit.acceptance import SUREST, beyond
from cfdiff.edit.cast import Cast
from cfdiff.edit.editor import Editor

Images = Callable[..., np.ndarray]
Settings = Callable[..., Any]


class Unsure(ExactChecker):
    """A verifier that is never very sure, so that its odds can grow."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / 8


def names(n: int) -> list[str]:
    return [f"i{k}" for k in range(n)]


def odds(p: np.ndarray) -> np.ndarray:
    return p / (1 - p)


shares = st.floats(0.001, 0.999)


@given(shares, shares, shares)
def test_only_what_was_above_a_half_before_is_asked_for_more(hit: float, more: float, before: float) -> None:
    now, later, b = np.array([hit]), np.array([more]), np.array([before])
    if before <= 0.5:
        np.testing.assert_allclose(beyond(now, b), now)
    else:
        np.testing.assert_allclose(odds(beyond(now, b)), odds(now) / odds(b), rtol=1e-6)
    assert (beyond(now, b) <= now + 1e-12).all()
    assert (beyond(later, b) > beyond(now, b)) == (later > now) or np.isclose(hit, more)
    np.testing.assert_allclose(beyond(b, b), min(before, 0.5), rtol=1e-9)


def test_of_whoever_was_certain_no_more_than_numbers_can_hold_is_asked() -> None:
    certain = np.array([1.0, 1.0, 0.9], np.float32)
    assert beyond(certain, np.array([1.0, 0.2, 1.0])).tolist()[:2] == [1, 1]
    assert beyond(certain, np.ones(3))[2] == pytest.approx(9 / (9 + odds(np.array(SUREST))), rel=1e-5)


def test_an_image_taken_for_the_class_already_is_edited_as_far_as_another(
    exact_cast: Cast, exact_images: Images, edit_settings: Settings
) -> None:
    """The negatives of a slide that a verifier takes for positive stayed as they were, and no judge was convinced."""
    cast = replace(exact_cast, verifier=model(Unsure(), "clean-classifier"))
    images = np.concatenate([exact_images(3), exact_images(3, label=1)])
    steering = edit_settings(depth=0.6, retries=6, ratio=1.0, target=0.8, accept=0.75, realism=0, trim=0.0)
    kept, edited = (Editor(cast, steering.model_copy(update={"already": a})) for a in ("keep", "edit"))
    before = kept.acceptance.asked(images, names(6), 1)[1]
    assert (before[:3] < 0.5).all() and (before[3:] > 0.75).all()
    stays, moves = (editor.edit(images, names(6), 1) for editor in (kept, edited))
    changed = (moves.counterfactual != images).any(axis=(1, 2, 3))
    assert changed.all() and (stays.counterfactual[3:] == images[3:]).all() and not stays.retries[3:].any()
    assert (moves.counterfactual[:3] == stays.counterfactual[:3]).all(), "nothing changes for the others"
    after = edited.acceptance.asked(moves.counterfactual, names(6), 1)[1]
    assert (odds(after[3:]) > 1.5 * odds(before[3:])).all()


def test_without_guidance_it_stays_all_the_same(
    exact_cast: Cast, exact_images: Images, edit_settings: Settings
) -> None:
    images = exact_images(3, label=1)
    for way in ("anchored", "regenerate", "auto"):
        s = edit_settings(already="edit", scale=0, edit=way, redraw_steps=4)
        assert Editor(exact_cast, s).edit(images, names(3), 1).counterfactual.tobytes() == images.tobytes()


def test_trimming_leaves_what_makes_it_surer(exact_cast: Cast, exact_images: Images, edit_settings: Settings) -> None:
    """Any trace of an edit is enough for who was sure before: the odds that it gained are what must remain."""
    cast = replace(exact_cast, verifier=model(Unsure(), "clean-classifier"))
    images = exact_images(3, label=1)
    asked = {"already": "edit", "depth": 0.6, "retries": 6, "ratio": 1.0, "target": 0.8, "accept": 0.75, "realism": 0}
    editor = Editor(cast, edit_settings(**asked, trim=0.7))
    before = editor.acceptance.before(images, names(3), 1)
    edits = editor.edit(images, names(3), 1)
    hit = editor.acceptance.asked(edits.counterfactual, names(3), 1, before)[1]
    whole = Editor(cast, edit_settings(**asked, trim=0.0)).edit(images, names(3), 1)
    untrimmed = editor.acceptance.asked(whole.counterfactual, names(3), 1, before)[1]
    assert (hit >= np.minimum(untrimmed, 0.7) - 1e-6).all() and (hit > 0.5).all()
