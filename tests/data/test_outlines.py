"""Control images of a disc, whose outline is known."""

from __future__ import annotations

import numpy as np
import pytest

from cfdiff.data.outlines import border, edges, mask, objects, off_ground, outline
from cfdiff.errors import UserError

Y, X = np.mgrid[:32, :32]
DISTANCE = np.hypot(Y - 15.5, X - 15.5)
DISC = DISTANCE < 10


@pytest.mark.parametrize("invert", [False, True])
def test_the_outline_of_a_disc_is_its_border_bright_on_dark_or_dark_on_bright(invert: bool) -> None:
    gray = np.where(DISC, 180, 20).astype(np.uint8)
    gray[14:17, 14:17] = 25  # a dark spot on it is no outline
    image = 255 - gray if invert else gray
    assert np.array_equal(objects(image / 255), DISC)
    found = outline(image[None, :, :, None])
    assert found.dtype == np.float32 and np.array_equal(found[0] > 0, border(DISC)) and 40 < found.sum() < 80


def test_edges_lie_where_the_brightness_changes_in_colour_images_too() -> None:
    image = np.where(DISC[..., None], [200, 90, 90], [40, 30, 30]).astype(np.uint8)
    found = edges(image[None])[0] > 0
    assert found.sum() > 40 and np.abs(DISTANCE[found] - 10).max() < 1.5
    assert (
        not edges(np.full((1, 32, 32, 1), 7, np.uint8)).any()
        and not outline(np.full((1, 32, 32, 1), 7, np.uint8)).any()
    )


@pytest.mark.parametrize("ground", [(0, 0, 0), (250, 250, 240), (90, 120, 60)])
def test_the_ground_is_what_is_plain_and_joined_to_the_rim(ground: tuple[int, int, int]) -> None:
    image = np.where(DISC[..., None], [200, 90, 90], ground).astype(np.uint8)
    image[14:17, 14:17] = ground  # a hole of its colour in the object is no ground
    image[:, :2] = [30, 200, 200]  # nor is a bar along the rim
    rings = np.random.default_rng(0).integers(-3, 4, image.shape)  # as JPEG leaves them
    seen = (image.astype(int) + rings).clip(0, 255).astype(np.uint8)
    seen[0, 5:29] = ground  # its own colour is the most frequent one
    assert np.array_equal(off_ground(np.stack([image, seen])), np.stack([DISC | (X < 2)] * 2))


def test_an_image_without_an_object_may_change_all_over_and_one_without_a_ground_nearly() -> None:
    assert off_ground(np.full((1, 32, 32, 1), 7, np.uint8)).all()
    noise = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.uint8)
    assert off_ground(noise).mean() > 0.99


def test_masks_are_the_datas_own() -> None:
    assert np.array_equal(mask(np.zeros((1, 32, 32, 1)), DISC[None]), DISC[None].astype(np.float32))
    with pytest.raises(UserError, match="--control mask needs masks, and the data has none"):
        mask(np.zeros((1, 32, 32, 1)))
