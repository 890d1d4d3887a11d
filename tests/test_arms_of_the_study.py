"""Arms of benchmarks/mil_study.py whose answer is known: what the controls control, and where the rivals edit."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

from mil_study_arms import ARMS, SHARES, Arm, World, drawn_rows, edited, real_bags, swapped_like  # noqa: E402
from mil_study_data import Cells  # noqa: E402

from cfdiff.mil.series import Series  # noqa: E402

SIZE, PATIENTS, EACH = 60, 8, 90


@pytest.fixture(scope="module")
def world() -> World:
    """Patients of 90 cells, half of them with 20 positives; 6 negatives and 2 positives of each were edited."""
    n = PATIENTS * EACH
    patients = np.repeat([f"p{i}" for i in range(PATIENTS)], EACH)
    labels = np.zeros(n, np.int8)
    core: list[int] = []
    for i in range(PATIENTS):
        rows = np.arange(i * EACH, (i + 1) * EACH)
        labels[rows[:20]] = i % 2
        core += [*rows[20:26], *(rows[:2] if i % 2 else ())]
    cells = Cells(np.zeros((n, 1, 1, 1), np.uint8), labels, patients, np.arange(n).astype(str))
    flips = {(row, 1 - int(labels[row])): n + i for i, row in enumerate(core)}
    shams = {(row, int(labels[row])): n + len(core) + i for i, row in enumerate(core)}
    contents = np.zeros((n + 2 * len(core), 2), np.float32)
    where = np.tile(np.arange(n), (8, 1))
    told = {"instance": flips, "sham": shams}
    return World(contents, cells, np.array(core), told, where, np.arange(n), labels)


@pytest.fixture(scope="module")
def real(world: World) -> list[Series]:
    return list(real_bags(world, [f"p{i}" for i in range(PATIENTS)], SHARES, SIZE, 0))


def test_labels_at_random_are_right_no_more_often_than_by_chance(world: World, real: list[Series]) -> None:
    arm = ARMS["instance mode + sham, labels at random"]
    told, true = arm.mixes(world, real, 0)[0], arm.build(world, real, 0)[0]
    assert all((a.rows == b.rows).all() for a, b in zip(told, true, strict=True))
    said = np.concatenate([one.classes for one in told])
    known = np.concatenate([one.classes for one in true])
    share = known.mean()
    assert sorted(said) == sorted(known)
    assert (said == known).mean() == pytest.approx(share**2 + (1 - share) ** 2, abs=0.1)
    higher = []
    for a, b in zip(told, true, strict=True):
        more = b.positives[:, None] > b.positives[None]
        higher.append((a.positives[:, None] > a.positives[None])[more])
    assert np.concatenate(higher).mean() < 0.6


def test_swap_stands_in_the_very_places_that_are_edited(world: World, real: list[Series]) -> None:
    build = edited("instance", "sham")
    edits = {one.name: one for one in build(world, real, 0)[0]}
    swaps = swapped_like(build)(world, real, 0)[0]
    assert len(swaps) == len(edits)
    for one in swaps:
        other = edits[one.name]
        assert (one.labels == other.labels).all() and one.labels.any() and len(one) == len(other)
        changed = one.rows != one.rows[0]
        assert (changed == (one.labels != one.labels[0])).all()
        whose = world.cells.patients[one.rows[changed]]
        assert (whose != one.group).all()


def test_shams_alone_differ_from_version_to_version_and_nothing_is_left_as_it_was_without_them(
    world: World, real: list[Series]
) -> None:
    only = Arm(edited(sham="sham")).mixes(world, real, 0)[0]
    assert all(len(one) == 4 and (one.labels == one.labels[0]).all() for one in only)
    distinct = [len({row.tobytes() for row in one.rows}) for one in only]
    assert np.mean(distinct) > 3.7, "two halves of six or eight cells are seldom the same"
    for one in Arm(edited("instance")).mixes(world, real, 0)[0]:
        assert len({row.tobytes() for row in one.rows}) == len(one)


def test_no_edited_cell_stands_beside_its_copy(world: World) -> None:
    core = set(world.core.tolist())
    rows = drawn_rows(world.cells, "p1", 0.05, 150, np.random.default_rng(0), core)
    assert len(rows) == 150 and world.cells.labels[rows].sum() == 7
    found, times = np.unique(rows, return_counts=True)
    assert core & set(found.tolist()) and times.max() > 1
    assert times[np.isin(found, world.core)].max() == 1
