from __future__ import annotations

import numpy as np
from mil_toy import toy_bags, translated

from cfdiff.mil.data import permuted
from cfdiff.mil.swaps import Donors, like_edits, swap_counts, swap_series


def test_exchanged_instances_are_real_ones_of_the_other_class_and_of_other_groups() -> None:
    bags = toy_bags(8, 0)
    donors, one = Donors(bags), bags.series[1]
    owner = {int(row): o for o in bags.series for row in o.rows[0]}
    made = swap_series(one, donors, swap_counts(one.size), seed=0)
    assert made is not None and made.real
    assert made.positives.tolist()[1:] == swap_counts(one.size)
    for v in range(1, len(made)):
        changed = made.labels[v] != made.labels[0]
        assert np.array_equal(made.rows[v] != made.rows[0], changed)
        for row, label in zip(made.rows[v][changed].tolist(), made.labels[v][changed].tolist(), strict=True):
            other = owner[row]
            assert other.group != one.group and other.labels[0][other.rows[0].tolist().index(row)] == label
    higher = [set(np.flatnonzero(row != made.rows[0])) for row in made.rows[1:]]
    grown = [a <= b for a, b in zip(higher[2:], higher[3:], strict=False)]
    assert all(grown), "a larger count keeps what a smaller one took"


def test_the_twin_of_an_edited_bag_changes_the_same_instances() -> None:
    real = toy_bags(6, 0)
    mixes = translated(real, 0, sham=0.3)
    twin = like_edits(mixes.series[0], Donors(real), seed=0)
    assert twin is not None and np.array_equal(twin.labels, mixes.series[0].labels)
    kept = twin.labels == twin.labels[0]
    assert np.array_equal(twin.rows[kept], np.broadcast_to(twin.rows[0], twin.rows.shape)[kept])


def test_permuted_labels_are_of_the_same_mixes_and_say_nothing() -> None:
    one = translated(toy_bags(2, 0), 0).series[1]
    other = permuted(one, 0)
    assert sorted(other.positives) == sorted(one.positives) and not np.array_equal(other.labels, one.labels)
    assert np.array_equal(other.classes, (other.positives > 0).astype(np.int8))
