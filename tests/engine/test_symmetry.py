from __future__ import annotations

import pytest
import torch

from cfdiff.engine.symmetry import Symmetry, turned, view_at, views


@pytest.mark.parametrize(("kind", "n"), [("none", 1), ("flip", 2), ("dihedral", 8)])
def test_every_view_of_a_square_is_another_one_and_the_first_is_the_image(kind: Symmetry, n: int) -> None:
    x = torch.rand(3, 2, 5, 5)
    seen = views(x, kind)
    assert seen.shape == (n, 3, 2, 5, 5) and torch.equal(seen[0], x)
    assert len({tuple(view.flatten().tolist()) for view in seen}) == n
    assert all(torch.equal(view.flatten().sort().values, x.flatten().sort().values) for view in seen)


def test_the_views_of_a_rectangle_keep_its_sides() -> None:
    x = torch.rand(2, 1, 4, 6)
    assert views(x, "dihedral").shape == (4, 2, 1, 4, 6)


def test_each_image_is_turned_as_its_own_coins_say() -> None:
    x = torch.rand(3, 1, 4, 4)
    coins = torch.tensor([[False, False, False], [True, False, False], [True, True, True]])
    found = turned(x, coins)
    assert torch.equal(found[0], x[0]) and torch.equal(found[1], x[1].flip(-1))
    assert torch.equal(found[2], x[2].flip(-1, -2).transpose(-1, -2))


def test_each_level_has_a_view_and_the_levels_of_a_walk_have_many() -> None:
    x = torch.rand(2, 1, 5, 5)
    all_of_them = views(x, "dihedral")

    def which(level: int) -> int:
        return next(k for k, view in enumerate(all_of_them) if torch.equal(view, view_at(x, "dihedral", level)))

    assert {which(level) for level in range(1, 1001)} == set(range(8))
    for step in (20, 25, 43, 75, 100):
        assert len({which(level) for level in range(step, 8 * step + 1, step)}) >= 4
    assert torch.equal(view_at(x[1:], "dihedral", 300), view_at(x, "dihedral", 300)[1:]), "in any batch"
    assert torch.equal(view_at(x, "none", 300), x) and view_at(torch.rand(0, 1, 5, 5), "flip", 3).shape == (0, 1, 5, 5)
