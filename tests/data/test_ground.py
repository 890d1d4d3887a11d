"""The ground of a disc that lies on it."""

from __future__ import annotations

import numpy as np
import pytest

from cfdiff.data.ground import off_ground

Y, X = np.mgrid[:32, :32]
DISC = np.hypot(Y - 15.5, X - 15.5) < 10


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
