from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from cfdiff.data.values import as_saved, to_model
from cfdiff.edit.editor import Editor
from cfdiff.edit.strategy import Attempt
from cfdiff.edit.trim import GROW, SHARES, changed_region, regions, trimmed, without_needless_regions


def pairs(n: int, dtype: Any = np.uint8, size: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Images, and edits of them that darken a spot of 3 x 3 and shake everything else by a gray level."""
    rng = np.random.default_rng(0)
    images = rng.integers(100, 200, (n, size, size, 1))
    edits = images + rng.integers(-1, 2, images.shape)
    edits[:, 10:13, 20:23] = images[:, 10:13, 20:23] - 90
    scale = 1 if dtype == np.uint8 else 255
    return (images / scale).astype(dtype), (edits / scale).astype(dtype)


def of_the_spot(images: np.ndarray, edits: np.ndarray) -> Any:
    """As sure as the share of the spot's change that is there."""

    def sure(rows: np.ndarray, less: np.ndarray) -> np.ndarray:
        here = np.s_[:, 10:13, 20:23]
        done = np.abs(less.astype(float) - images[rows])[here].sum((1, 2, 3))
        share: np.ndarray = done / np.abs(edits.astype(float) - images)[here].sum((1, 2, 3))[rows]
        return share

    return sure


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_what_does_not_convince_goes_and_what_does_stays(dtype: Any) -> None:
    images, edits = pairs(5, dtype)
    found = trimmed(images, edits, of_the_spot(images, edits), np.full(5, 0.99))
    np.testing.assert_allclose(found[:, 10:13, 20:23], edits[:, 10:13, 20:23], rtol=1e-6)
    outside = np.ones((32, 32), bool)
    outside[6:17, 16:27] = False
    assert found[:, outside].tobytes() == images[:, outside].tobytes()
    assert found.dtype == images.dtype


def test_an_edit_of_which_all_is_needed_comes_back_as_it_came() -> None:
    images, edits = pairs(3)
    assert trimmed(images, edits, lambda rows, less: np.zeros(len(rows)), np.ones(3)).tobytes() == edits.tobytes()


def test_each_image_gets_the_smallest_share_that_convinces_in_three_looks() -> None:
    images, edits = pairs(8)
    x, change = to_model(images), to_model(edits) - to_model(images)
    by_share = [as_saved(images, x, x + changed_region(change, share, grow=GROW) * change)[0] for share in SHARES] + [
        edits
    ]
    needed = np.arange(8)  # the first that convinces, by image; of the last nothing can be left out
    looks = np.zeros(8, int)

    def sure(rows: np.ndarray, less: np.ndarray) -> np.ndarray:
        looks[rows] += 1
        tried = [
            [part[row].tobytes() for part in by_share].index(image.tobytes())
            for row, image in zip(rows, less, strict=True)
        ]
        return (np.array(tried) >= needed[rows]).astype(float)

    found = trimmed(images, edits, sure, np.full(8, 0.5))
    for row, k in enumerate(needed):
        assert found[row].tobytes() == by_share[k][row].tobytes()
    assert looks.tolist() == [3] * 8


def test_an_edit_keeps_only_its_place_and_stays_accepted(
    exact_cast: Any, edit_settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.full((2, 8, 8, 1), 0.5, np.float32)
    image[:, 1:4, 1:4] = 0.25

    def decode(path: Any, ids: Any, goals: Any, rung: Any, mask: Any, early: Any) -> Attempt:
        x = path.x[0] + 0.02  # everywhere, for nothing
        x[:, :, 1:4, 1:4] = np.log(0.99 / 0.01) / 3.2 / 9  # the checker says 0.99
        return Attempt(x, *torch.zeros(2, len(x), dtype=torch.int64))

    found = {}
    for trim in (0, 0.95):
        editor = Editor(exact_cast, edit_settings(trim=trim))
        monkeypatch.setattr(editor, "decode", decode)
        found[trim] = editor.edit(image, ["a", "b"], 1)
    whole, less = found[0], found[0.95]
    assert (whole.counterfactual != image).all()
    assert less.counterfactual[:, 7:].tobytes() == image[:, 7:].tobytes()
    assert less.accepting is not None and (less.accepting[:, 1] >= 0.95).all()
    assert (less.retries == whole.retries).all() and (less.network_calls == whole.network_calls).all()


def test_without_who_accepts_nothing_is_trimmed(exact_cast: Any, exact_images: Any, edit_settings: Any) -> None:
    blind = replace(exact_cast, checker=None)
    settings = {"guides": "noisy", "closed_loop": False}
    images = exact_images(2)
    a, b = (Editor(blind, edit_settings(trim=t, **settings)).edit(images, ["a", "b"], 1) for t in (0, 0.95))
    assert a.counterfactual.tobytes() == b.counterfactual.tobytes()


def spots(n: int, dtype: Any = np.uint8) -> tuple[np.ndarray, np.ndarray, list[tuple[slice, slice]]]:
    """Images, edits of them with three darker spots and a tone of one gray level about each, and the spots."""
    rng = np.random.default_rng(1)
    images = rng.integers(100, 200, (n, 32, 32, 1))
    places = [np.s_[4:8, 4:8], np.s_[20:23, 5:9], np.s_[10:14, 22:26]]
    edits = images + 1
    for place in places:
        edits[:, *place] = images[:, *place] - 90
    scale = 1 if dtype == np.uint8 else 255
    return (images / scale).astype(dtype), (edits / scale).astype(dtype), places


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_of_several_places_only_those_that_convince_stay(dtype: Any) -> None:
    images, edits, places = spots(4, dtype)
    needs = [{0}, {0, 2}, {0, 1, 2}, {1}]

    def sure(rows: np.ndarray, less: np.ndarray) -> np.ndarray:
        def done(row: int, image: np.ndarray) -> float:
            there = {k for k, place in enumerate(places) if np.array_equal(image[place], edits[row][place])}
            return len(there & needs[row]) / len(needs[row])

        return np.array([done(row, image) for row, image in zip(rows, less, strict=True)])

    found = without_needless_regions(images, edits, sure, np.full(4, 0.9))
    for row in range(4):
        for k, place in enumerate(places):
            kept = edits if k in needs[row] else images
            assert found[row][place].tobytes() == kept[row][place].tobytes()
    assert found.dtype == images.dtype


def test_of_places_that_are_all_needless_one_stays_and_where_nothing_may_go_all_stay() -> None:
    images, edits, places = spots(2)
    found = without_needless_regions(images, edits, lambda rows, less: np.ones(len(rows)), np.full(2, 0.9))
    assert [len(regions(*pair)) for pair in zip(images, found, strict=True)] == [1, 1]
    found = without_needless_regions(images, edits, lambda rows, less: np.zeros(len(rows)), np.full(2, 0.9))
    assert found.tobytes() == edits.tobytes()


def test_the_regions_of_an_image_part_it() -> None:
    images, edits, places = spots(1)
    found = regions(images[0], edits[0])
    assert np.sum(found, axis=0).tolist() == np.ones((32, 32)).tolist()
    assert sorted(sum(place[where].all() for where in places) for place in found) == [1, 1, 1]
    assert len(regions(images[0], images[0])) == 0
