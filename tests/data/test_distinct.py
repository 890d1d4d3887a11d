from __future__ import annotations

import numpy as np
import pytest

from cfdiff.data import distinct as module
from cfdiff.data.distinct import distinct, repeated
from cfdiff.data.source import Source, random_subset

NAMES = np.array(["b", "a", "", "b", "é", "a\u0301", "\U0001f600", "ab", "a", "longer/name.png", "b"])


@pytest.mark.parametrize(
    "names", [NAMES, NAMES[::2], NAMES[:0], np.array(["x"]), np.array(["", ""]), NAMES.astype(">U20")]
)
def test_it_finds_what_numpy_finds(names: np.ndarray) -> None:
    unique, place = distinct(names)
    wanted, where = np.unique(names, return_inverse=True)
    assert unique.tolist() == wanted.tolist()
    assert place.tolist() == where.reshape(-1).tolist()


def test_names_of_one_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_hashes", lambda names: np.zeros(len(names), np.uint64))
    assert distinct(NAMES)[0].tolist() == np.unique(NAMES).tolist()
    assert repeated(np.array(["a", "b"])) is None


def test_a_name_that_is_there_twice_is_found() -> None:
    assert repeated(NAMES) == "b"
    assert repeated(np.unique(NAMES)) is None
    assert repeated(NAMES[:0]) is None


def test_a_part_of_a_source_of_many_groups_takes_every_group_alike_and_no_longer_than_of_few() -> None:
    n = 60_000
    rows = np.arange(n)
    source = Source(
        name="many", ids=np.char.mod("%06d", rows), labels=(rows % 2).astype(np.int8),
        classes=("negative", "positive"), groups=np.char.mod("p%05d", rows // 4), splits=None,
        shape=(8, 8, 1), dtype=np.dtype(np.uint8),
        reader=lambda rows: np.zeros((len(rows), 8, 8, 1), np.uint8), mask_reader=None, digest=lambda rows: "",
        rows=rows,
    )  # fmt: skip
    few = random_subset(source, n // 2, seed=0)  # one of two of each of 15,000 groups and 2 labels
    strata = np.char.add(few.groups, few.labels.astype(str))
    assert len(np.unique(strata)) == n // 2
