from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfdiff.engine.tiles import Grid, Tiles

SIDES = st.integers(8, 40)
OVERLAPS = st.sampled_from([0.01, 0.125, 0.25, 0.4, 0.5])


def total(grid: Grid) -> np.ndarray:
    """What the windows of all tiles sum to at each pixel."""
    found = np.zeros((grid.image_height, grid.image_width))
    for tile, box in enumerate(grid.boxes):
        found[box] += grid.window(tile)
    return found


@given(st.integers(1, 150), st.integers(1, 150), SIDES, OVERLAPS)
def test_tiles_cover_every_pixel_and_their_windows_sum_to_one(
    height: int, width: int, side: int, overlap: float
) -> None:
    grid = Tiles(side, overlap).grid(height, width)
    assert np.abs(total(grid) - 1).max() < 1e-12
    assert all(grid.window(tile).min() >= 0 for tile in range(len(grid)))
    for rows, columns in grid.boxes:
        assert rows.start >= 0 and rows.stop <= height and rows.stop - rows.start == min(side, height)
        assert columns.start >= 0 and columns.stop <= width and columns.stop - columns.start == min(side, width)


@given(st.integers(41, 300), SIDES, OVERLAPS)
def test_neighbours_overlap_by_what_was_asked_for_and_no_tile_is_too_many(n: int, side: int, overlap: float) -> None:
    starts = np.array(Tiles(side, overlap).grid(n, side).tops)
    assert starts[0] == 0 and starts[-1] == n - side and (np.diff(starts) > 0).all()
    assert (starts[:-1] + side - starts[1:] >= overlap * side - 1).all(), "but for a pixel of rounding"
    most = side - np.ceil(overlap * side)
    assert len(starts) < 2 or (n - side) > (len(starts) - 2) * most, "one less would overlap too little"


def test_an_image_that_is_no_larger_is_one_tile_of_weight_one() -> None:
    grid = Tiles(16).grid(16, 12)
    assert len(grid) == 1 and grid.boxes == ((slice(0, 16), slice(0, 12)),) and (grid.window(0) == 1).all()
    assert Tiles(16).shape((40, 12, 3)) == (16, 12, 3)


@pytest.mark.parametrize("overlap", [0.1, 0.25, 0.5])
def test_a_window_is_one_at_the_borders_of_the_image_and_fades_to_nothing_where_the_tile_ends_inside(
    overlap: float,
) -> None:
    grid = Tiles(32, overlap).grid(64, 32)
    first = grid.window(0)
    assert (first[0] == 1).all() and (np.diff(first[:, 0]) <= 0).all()
    assert first[-1].max() < (0.25 if overlap == 0.1 else 0.02), "no step at the edge"
