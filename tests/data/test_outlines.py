"""Control images of a disc, whose outline is known."""

from __future__ import annotations

import numpy as np
import pytest

from cfdiff.data.outlines import border, edges, mask, objects, outline
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


def test_masks_are_the_datas_own() -> None:
    assert np.array_equal(mask(np.zeros((1, 32, 32, 1)), DISC[None]), DISC[None].astype(np.float32))
    with pytest.raises(UserError, match="--control mask needs masks, and the data has none"):
        mask(np.zeros((1, 32, 32, 1)))
