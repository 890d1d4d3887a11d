from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfdiff.data import open_source, require_both_classes
from cfdiff.data.source import class_index, random_subset
from cfdiff.errors import UserError


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    """60 images: patient a has 50, patient b 10; every third is positive."""
    path = tmp_path / "d.npz"
    n = 60
    np.savez(
        path,
        images=np.arange(n, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 4), np.uint8),
        labels=(np.arange(n) % 3 == 0).astype(int),
        patient=np.array(["a"] * 50 + ["b"] * 10),
    )
    return path


def test_what_does_not_exist_is_an_error_that_names_the_bundled_sets(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no data at 'nowhere'.*malaria-cells, malaria-cells-rgb, pneumoniamnist"):
        open_source("nowhere")
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(UserError, match=r"a\.txt is of no kind that can be read"):
        open_source(tmp_path / "a.txt")


@pytest.mark.parametrize("kind", ["csv", "npz", "h5"])
def test_an_empty_file_is_called_empty(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    path.touch()
    with pytest.raises(UserError, match="is empty"):
        open_source(path)


@pytest.mark.parametrize("bad", ["a\0b", "a\udcff"])
@pytest.mark.parametrize("key", ["id", "labels", "patient", "split", "pair"])
def test_a_name_that_no_file_can_hold_is_one_sentence(tmp_path: Path, key: str, bad: str) -> None:
    arrays = {"labels": np.array(["no", "yes"] * 2), "id": np.arange(4), key: np.array([bad, "no", bad[::-1], "1"])}
    np.savez(tmp_path / "a.npz", images=np.zeros((4, 4, 4), "u1"), **arrays)
    with pytest.raises(UserError, match="no file of results can hold"):
        _ = open_source(tmp_path / "a.npz", negative="no", positive=bad if key == "labels" else None).pairs


def test_from_label_keeps_one_class_and_both_classes_can_be_demanded(npz: Path) -> None:
    source = open_source(npz, from_label=1)
    assert set(source.labels.tolist()) == {1}
    require_both_classes(open_source(npz))
    with pytest.raises(UserError, match="no image of class '0'"):
        require_both_classes(source)


def test_a_split_asked_of_a_source_without_splits_is_an_error(npz: Path) -> None:
    with pytest.raises(UserError, match="has no splits"):
        open_source(npz, split="test")


def test_a_limit_below_one_is_an_error(npz: Path) -> None:
    with pytest.raises(UserError, match="at least 1"):
        open_source(npz, limit=0)


def test_a_limit_is_spread_evenly_over_groups_and_classes_and_keeps_the_order(npz: Path) -> None:
    source = open_source(npz, limit=12, seed=3)
    assert source.ids.tolist() == sorted(source.ids.tolist())
    cells = list(zip(source.groups.tolist(), source.labels.tolist(), strict=True))
    assert {cell: cells.count(cell) for cell in set(cells)} == {
        ("a", 0): 3,
        ("a", 1): 3,
        ("b", 0): 3,
        ("b", 1): 3,
    }


@settings(max_examples=20)
@given(small=st.integers(1, 60), large=st.integers(1, 60), seed=st.integers(0, 5))
def test_a_smaller_limit_takes_a_part_of_a_larger_one(small: int, large: int, seed: int) -> None:
    small, large = sorted((small, large))
    whole = open_source("pneumoniamnist", split="val")
    part = whole.select(np.arange(60))
    few, many = random_subset(part, small, seed), random_subset(part, large, seed)
    assert len(few) == small
    assert set(few.ids.tolist()) <= set(many.ids.tolist())


def test_a_limit_does_not_depend_on_the_order_of_the_images(npz: Path) -> None:
    source = open_source(npz)
    turned = source.select(np.arange(60)[::-1])
    assert set(random_subset(source, 9, 1).ids.tolist()) == set(random_subset(turned, 9, 1).ids.tolist())
    assert set(random_subset(source, 9, 1).ids.tolist()) != set(random_subset(source, 9, 2).ids.tolist())


def test_views_of_views_read_the_right_pixels(npz: Path) -> None:
    view = open_source(npz).select(np.arange(10, 60)).select([5, 0])
    assert view.read([0, 1])[:, 0, 0, 0].tolist() == [15, 10]
    assert view.ids.tolist() == ["000015", "000010"]


def test_the_fingerprint_changes_with_pixels_labels_and_selection_only(tmp_path: Path, npz: Path) -> None:
    source = open_source(npz)
    assert source.fingerprint == open_source(npz).fingerprint
    assert source.select([0, 1]).fingerprint == open_source(npz).select([0, 1]).fingerprint
    assert source.select([0, 1]).fingerprint != source.select([0, 2]).fingerprint
    assert open_source(npz, negative="1", positive="0").fingerprint != source.fingerprint
    other = dict(np.load(npz))
    other["images"][0, 0, 0] ^= 1
    np.savez(tmp_path / "other.npz", **other)
    assert open_source(tmp_path / "other.npz").fingerprint != source.fingerprint


def test_other_classes_are_dropped_unless_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    np.savez(path, images=np.zeros((4, 4, 4), np.uint8), labels=np.array(["NORM", "TUM", "MUC", "TUM"]))
    assert open_source(path, negative="NORM", positive="TUM").labels.tolist() == [0, 1, 1]
    kept = open_source(path, negative="NORM", positive="TUM", keep_other=True)
    assert kept.labels.tolist() == [0, 1, -1, 1]


def test_from_and_to_are_compared_without_case(npz: Path) -> None:
    source = open_source(npz)
    assert [class_index(name, source, "--from") for name in ("Negative", " POSITIVE ", "1")] == [0, 1, 1]
    with pytest.raises(UserError, match="'2' is no class"):
        class_index("2", source, "--from")


def test_a_narrow_view_is_the_same_as_a_source_that_was_opened_so(npz: Path) -> None:
    opened, narrowed = open_source(npz, from_label=1, limit=5, seed=3), open_source(npz).narrow(None, 1, 5, 3)
    assert opened.ids.tolist() == narrowed.ids.tolist() and opened.fingerprint == narrowed.fingerprint


def test_a_small_source_is_read_once_and_kept(npz: Path) -> None:
    read: list[int] = []
    source = open_source(npz).select([9, 3, 7, 50])
    counted = replace(source, reader=lambda rows: (read.extend(rows.tolist()), source.reader(rows))[1])
    kept = counted.in_memory(10**6)
    for view, rows in ((kept, [0, 1, 2, 3]), (kept, [2, 2, 0]), (kept.select([3, 1]), [1, 0])):
        expected = open_source(npz).read(view.rows[rows])
        np.testing.assert_array_equal(view.read(rows), expected)
    assert read == [9, 3, 7, 50] and kept.fingerprint == source.fingerprint
    assert counted.in_memory(10) is counted and len(read) == 8
