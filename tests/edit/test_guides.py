"""Classifier-free guidance through the editor, with a diffusion model whose two classes are exact Gaussians."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cfdiff.data.values import to_model
from cfdiff.edit.cast import Cast
from cfdiff.edit.editor import Editor
from cfdiff.edit.guides import CFG, CLEAN, NOISY
from cfdiff.edit.ladder import ladder
from cfdiff.engine import Guidance
from cfdiff.errors import UserError
from cfdiff.registry import SOLVERS

Images = Callable[..., np.ndarray]
Settings = Callable[..., Any]
BASES = pytest.mark.parametrize("base", ["none", "source"])


def names(n: int) -> list[str]:
    return [f"cell/{i}.png" for i in range(n)]


@BASES
@pytest.mark.parametrize("label", [0, 1])
def test_it_leads_to_the_class_asked_for_without_any_classifier(
    told_cast: Cast, exact_images: Images, edit_settings: Settings, base: str, label: int
) -> None:
    cast = replace(told_cast, guide=None, checker=None)
    images = exact_images(4, label)
    edits = Editor(cast, edit_settings(guides="cfg", base=base, closed_loop=False)).edit(images, names(4), 1 - label)
    moved = (edits.counterfactual.astype(int) - images)[:, 1:4, 1:4].mean(axis=(1, 2, 3))
    assert (moved > 2).all() if label == 0 else (moved < -2).all()


# The fixtures are functions and frozen models, which no example changes.
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    st.sampled_from(sorted(SOLVERS)),
    st.sampled_from(["ddim", "fixed-point", "noise"]),
    st.sampled_from(["none", "source"]),
    st.sampled_from(["uint8", "float32"]),
    st.sampled_from([{"w": 0.0}, {"scale": 0.0}]),
    st.integers(0, 1),
)
def test_w_0_gives_the_source_byte_for_byte(
    told_cast: Cast,
    exact_images: Images,
    edit_settings: Settings,
    solver: str,
    inversion: str,
    base: str,
    dtype: str,
    off: dict[str, float],
    target: int,
) -> None:
    images = exact_images(3, 1 - target, dtype=dtype)
    s = edit_settings(guides="cfg", solver=solver, inversion=inversion, base=base, retries=1, steps=3, **off)
    editor = Editor(told_cast, s)
    assert editor.edit(images, names(3), target).counterfactual.tobytes() == images.tobytes()
    labels = np.full(3, 1 - target)
    assert editor.reconstruct(images, names(3), labels)[0].tobytes() == images.tobytes()


def test_w_is_the_weight_of_the_field_and_the_scale_is_no_part_of_it(
    told_cast: Cast, exact_images: Images, edit_settings: Settings
) -> None:
    """One step of the guidance that the editor makes: eps(source) + w (eps(target) - eps(source))."""
    x, level = to_model(exact_images(4)), 30
    source, target = torch.zeros(4, dtype=torch.int64), torch.ones(4, dtype=torch.int64)
    from_, to = (told_cast.denoise(x, level, k) for k in (source, target))
    for w, scale in ((0.5, 20.0), (3.0, 20.0), (3.0, 4.0)):
        s = edit_settings(guides="cfg", w=w, scale=scale, base="source")
        guidance = Guidance(told_cast.schedule, Editor(told_cast, s).guides(), s.scale, None, target)
        torch.testing.assert_close(guidance(x, level, from_, x).eps, from_ + w * (to - from_), atol=1e-5, rtol=1e-5)


def test_every_rung_of_the_ladder_raises_w(told_cast: Cast, exact_images: Images, edit_settings: Settings) -> None:
    s = edit_settings(guides="cfg", w=0.2, ratio=None, retries=2, closed_loop=False)
    images, target = exact_images(3), torch.ones(3, dtype=torch.int64)
    editor, x = Editor(told_cast, s), to_model(images)
    path = editor.encode(x, names(3), s.depth, 1 - target)
    changes = [
        float((editor.decode(path, names(3), target, rung).z - x).abs().mean())
        for rung in ladder(s)
        if rung.depth == s.depth
    ]
    assert changes[0] < changes[1]


@pytest.mark.parametrize("guides", ["cfg", "noisy+clean+cfg", "clean+cfg"])
@pytest.mark.parametrize("options", [{}, {"exact": True}, {"mask": "auto"}, {"retries": 3}], ids=str)
@BASES
def test_the_calls_of_every_image_are_counted(
    told_cast: Cast, exact_images: Images, edit_settings: Settings, guides: str, options: dict[str, Any], base: str
) -> None:
    s = edit_settings(ratio=0.05, guides=guides, base=base, **options)
    edits = Editor(told_cast, s).edit(exact_images(5), names(5), 1)
    assert edits.network_calls.sum() == sum(len(t) for t in told_cast.diffusion.net.asked)


def test_what_a_gradient_costs_is_said_by_each_kind(edit_settings: Settings) -> None:
    cases = {"plain": {}, "exact": {"exact": True}, "source": {"base": "source"}}
    cost = {
        name: [kind.calls_a_gradient(edit_settings(**case)) for kind in (NOISY, CLEAN, CFG)]
        for name, case in cases.items()
    }
    assert cost == {"plain": [0, 0, 2], "exact": [0, 1, 2], "source": [0, 0, 1]}


def test_the_walk_is_told_what_base_says_on_the_way_up_and_down(
    told_cast: Cast, exact_images: Images, edit_settings: Settings
) -> None:
    net = told_cast.diffusion.net
    for base, told in (("none", None), ("source", [1, 1])):
        net.told.clear()
        s = edit_settings(guides="noisy", base=base, closed_loop=False, steps=4)
        Editor(told_cast, s).edit(exact_images(2, 1), names(2), 0)
        assert net.told == [told] * (5 + 3)


def test_a_retry_tells_the_images_that_still_climb_their_own_classes(
    told_cast: Cast, exact_images: Images, edit_settings: Settings
) -> None:
    """A path that is cut to some of the images is told what those are."""
    source = torch.tensor([0, 1, 1, 0])
    editor = Editor(told_cast, edit_settings(base="source", closed_loop=False))
    path = editor.encode(to_model(exact_images(4)), names(4), 0.4, source)
    assert path.told is source and path.select([1, 3]).told.tolist() == [1, 0]
    told_cast.diffusion.net.told.clear()
    z = editor.decode(path.select([1, 3]), names(2), 1 - source[[1, 3]], editor.rungs[0]).z
    assert set(map(tuple, told_cast.diffusion.net.told)) == {(1, 0)}
    # As one path of four, up to the rounding of another batch size.
    whole = editor.decode(path, names(4), 1 - source, editor.rungs[0]).z
    torch.testing.assert_close(z, whole[[1, 3]], atol=1e-5, rtol=1e-5)


def test_a_bag_in_chunks_is_told_chunk_by_chunk(told_cast: Cast, exact_images: Images, edit_settings: Settings) -> None:
    source = torch.tensor([0, 1, 1, 0, 1])
    editor = Editor(told_cast, edit_settings(base="source", anchored=False))
    path = editor.encode(to_model(exact_images(5)), names(5), 0.4, source)
    whole = editor.walk(path, names(5), None).z
    told_cast.diffusion.net.told.clear()
    torch.testing.assert_close(editor.walk(path, names(5), None, chunk=2).z, whole, atol=1e-5, rtol=1e-5)
    assert told_cast.diffusion.net.told[:3] == [[0, 1], [1, 0], [1]]


@pytest.mark.parametrize("guides", ["cfg", "noisy+clean+cfg"])
def test_an_unconditional_diffusion_model_is_refused_with_what_to_train(
    exact_cast: Cast, edit_settings: Settings, guides: str
) -> None:
    with pytest.raises(
        UserError, match=r"knows the classes, and 'diffusion' does not: train one with --condition class"
    ):
        Editor(exact_cast, edit_settings(guides=guides)).guides()


@BASES
def test_the_classes_in_the_other_order_give_the_edit_of_the_other_direction(
    told_cast: Cast, exact_images: Images, edit_settings: Settings, base: str
) -> None:
    """The mixture is symmetric, so to translate -x to 0 is minus to translate x to 1."""
    images = exact_images(3, dtype="float32")
    editor = Editor(told_cast, edit_settings(guides="cfg", base=base, closed_loop=False))
    one, other = editor.edit(images, names(3), 1), editor.edit(1 - images, names(3), 0)
    assert np.abs(one.counterfactual - (1 - other.counterfactual)).max() < 1e-5
