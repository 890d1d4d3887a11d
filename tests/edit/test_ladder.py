from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cfdiff.data.values import to_model
from cfdiff.edit.acceptance import Acceptance
from cfdiff.edit.editor import Editor
from cfdiff.edit.ladder import ladder
from cfdiff.edit.regenerate import Regenerate
from cfdiff.translate.settings import TranslateSettings


@given(st.floats(0.01, 1e3), st.one_of(st.none(), st.floats(0.01, 10)), st.floats(0.01, 1), st.integers(0, 8))
def test_every_rung_is_stronger_or_deeper_than_the_one_before_whichever_bound_holds(
    scale: float, ratio: float | None, depth: float, retries: int
) -> None:
    """The strength is the smaller of scale and clamp: where one stood still, a rung could repeat the last one."""
    rungs = ladder(TranslateSettings(scale=scale, ratio=ratio, depth=depth, retries=retries))
    assert len(rungs) == retries + 1 and rungs[0].scale == scale and rungs[0].ratio == ratio
    for before, rung in pairwise(rungs):
        stronger = rung.scale > before.scale and (before.ratio is None or rung.ratio > before.ratio)
        assert stronger or rung.depth > before.depth
    assert len(set(rungs)) == len(rungs)


def test_without_guidance_there_is_nothing_to_climb() -> None:
    assert len(ladder(TranslateSettings(scale=0, retries=4))) == 1


@pytest.mark.parametrize(
    ("sure", "settle", "retries"), [(0.7, 1, 1), (0.7, None, 4), (0.3, 1, 4), (0.95, 1, 0), (0.7, 0, 0)]
)
def test_what_flips_without_being_accepted_settles_and_what_does_not_flip_climbs_on(
    exact_cast: Any,
    exact_images: Callable[..., np.ndarray],
    edit_settings: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    sure: float,
    settle: int | None,
    retries: int,
) -> None:
    def asked(self: Acceptance, saved: np.ndarray, ids: Any, target: int) -> tuple[np.ndarray, np.ndarray]:
        return np.full((len(saved), 2), 0.5, np.float32), np.full(len(saved), sure)

    monkeypatch.setattr(Acceptance, "asked", asked)
    editor = Editor(exact_cast, edit_settings(retries=4, settle=settle, accept=0.9, target=0.95, realism=0, trim=0))
    assert editor.edit(exact_images(3), ["a", "b", "c"], 1).retries.tolist() == 3 * [retries]


@pytest.mark.parametrize(("sure", "kept"), [(0.7, "anchored"), (0.3, "regenerate")])
def test_what_settles_comes_to_no_other_way(
    exact_cast: Any,
    exact_images: Callable[..., np.ndarray],
    edit_settings: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    sure: float,
    kept: str,
) -> None:
    """What flips is kept as it is; what does not flip is drawn anew, where that flips it."""

    def asked(self: Acceptance, saved: np.ndarray, ids: Any, target: int) -> tuple[np.ndarray, np.ndarray]:
        drawn = "regenerate" in tried
        return np.full((len(saved), 2), 0.5, np.float32), np.full(len(saved), 0.95 if drawn else sure)

    tried: list[str] = []
    attempt = Regenerate.attempt
    monkeypatch.setattr(Acceptance, "asked", asked)
    monkeypatch.setattr(Regenerate, "attempt", lambda *given: (tried.append("regenerate"), attempt(*given))[1])
    s = edit_settings(edit="anchored+regenerate", settle=0, retries=1, accept=0.9, target=0.95, realism=0, trim=0)
    assert Editor(exact_cast, s).edit(exact_images(2), ["a", "b"], 1).edit.tolist() == 2 * [kept]
    assert bool(tried) == (kept == "regenerate")


@pytest.mark.parametrize("scale", [0.002, 20.0])
def test_no_rung_repeats_the_one_before_where_the_clamp_does_not_bind(
    exact_cast: Any, exact_images: Callable[..., np.ndarray], edit_settings: Callable[..., Any], scale: float
) -> None:
    """With a small scale the clamp never binds, and a ladder that raised it alone gave the same pixels three times."""
    editor = Editor(exact_cast, edit_settings(scale=scale, retries=2, closed_loop=False, depth=1.0))
    path, target = editor.encode(to_model(exact_images(2)), ["a", "b"], 1.0), torch.ones(2).long()
    tries = [editor.decode(path, ["a", "b"], target, rung).z for rung in editor.rungs]
    assert len(tries) == 3
    for before, after in pairwise(tries):
        assert (before != after).flatten(1).any(1).all()
