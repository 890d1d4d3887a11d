from __future__ import annotations

import numpy as np
import pytest

from cfdiff.fit.symmetry import fitting_augment

N, SIDE = 300, 16


def noise(seed: int = 0) -> np.ndarray:
    """Textures: no place in them is another's."""
    return np.random.default_rng(seed).uniform(0, 1, (N, SIDE, SIDE, 1))


def with_mean(mean: np.ndarray) -> np.ndarray:
    return 0.3 * noise() + 0.7 * mean[None, :, :, None]


def test_textures_and_round_things_look_alike_all_eight_ways() -> None:
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    assert fitting_augment(noise()) == "dihedral"
    assert fitting_augment(with_mean(np.exp(-(x**2 + y**2) / 20))) == "dihedral"


def test_what_stands_upright_is_only_mirrored_and_what_has_a_side_is_not() -> None:
    upright, sided = np.zeros((SIDE, SIDE)), np.zeros((SIDE, SIDE))
    upright[: SIDE // 2] = 1  # a sky
    sided[4:9, 2:6] = 1  # a heart
    assert fitting_augment(with_mean(upright)) == "flip"
    assert fitting_augment(with_mean(sided)) == "none"


@pytest.mark.parametrize("axis", [1, 2])
def test_stripes_that_run_one_way_are_not_turned(axis: int) -> None:
    smooth = noise()
    for _ in range(4):
        smooth = (smooth + np.roll(smooth, 1, axis)) / 2
    assert fitting_augment(smooth) == "flip"
    assert fitting_augment(smooth[:, :, : SIDE // 2]) == "dihedral", "a rectangle is never turned by quarters"


def test_images_that_are_all_the_same_say_nothing() -> None:
    assert fitting_augment(np.full((5, 8, 8, 1), 0.5)) == "none"
