"""The circuit boards: pairs, kinds of defect, and boards in one split each."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cfdiff.data import open_source
from cfdiff.data.bundled import builder, bundled_dir, bundled_file, card
from cfdiff.data.pairs import twins
from cfdiff.errors import UserError

boards = builder("deeppcb")


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    """Six pairs of three boards, as the source of the build has them, out of order."""
    rng = np.random.default_rng(0)
    sound = rng.integers(0, 256, (6, 16, 16), dtype=np.uint8)
    masks = np.zeros((12, 16, 16), bool)
    masks[6:, 4:8, 4:8] = True
    images = np.concatenate([sound, sound])
    images[masks] ^= 255
    arrays = {
        "images": images,
        "labels": np.repeat([0, 1], 6),
        "pair": np.array([f"p{k}" for k in range(6)] * 2),
        "masks": np.packbits(masks, axis=-1),
        "defect": np.array([""] * 6 + ["1", "6,3", "3", "3,3", "5", "2"]),
        "group": np.array(["group20085", "group13000", "group92000"] * 4),
        "name": np.array([f"n{k}" for k in range(12)]),
    }
    np.savez(tmp_path / "tiles.npz", **arrays)
    return tmp_path / "tiles.npz"


def test_the_same_tiles_give_the_same_bytes_with_a_card(tiles: Path, tmp_path: Path) -> None:
    first, second = boards.build(tiles, tmp_path / "a"), boards.build(tiles, tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()
    facts = json.loads((tmp_path / "a" / "card.json").read_text())
    assert facts["pairs"] == 6 and facts["counts"]["test"] == {"sound": 2, "defect": 2, "boards": 1}
    assert facts["sha256"] in (tmp_path / "a" / "README.md").read_text()
    source = open_source(first)
    assert source.column("defect").tolist()[1::2] == [
        "open",
        "mousebite+pin-hole",
        "mousebite",
        "mousebite",
        "copper",
        "short",
    ]
    assert twins(source).tolist() == [1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10]


def test_a_difference_inside_the_masks_alone_is_measured_as_such(tiles: Path) -> None:
    outside, inside = boards.apart(boards.read_tiles(tiles))
    assert outside == 0 and inside == 1


def test_a_source_of_other_arrays_boards_or_kinds_is_one_sentence(tiles: Path, tmp_path: Path) -> None:
    with np.load(tiles) as file:
        arrays = {key: file[key] for key in file.files}
    np.savez(tmp_path / "x.npz", **{**arrays, "group": np.array(["group1"] * 12)})
    with pytest.raises(UserError, match="board group1, which has no split"):
        boards.read_tiles(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", **{**arrays, "defect": np.array(["7"] * 12)})
    with pytest.raises(UserError, match="'7' is no list of kinds"):
        boards.read_tiles(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", images=arrays["images"])
    with pytest.raises(UserError, match="not a .npz of pairs of tiles"):
        boards.read_tiles(tmp_path / "x.npz")


def test_the_bundled_boards_are_under_a_megabyte_and_each_is_in_one_split() -> None:
    assert bundled_file("deeppcb").stat().st_size < 1e6
    source = open_source("deeppcb")
    splits = {(str(g), str(s)) for g, s in zip(source.groups, source.splits, strict=True)}
    assert dict(splits) == boards.SPLITS == card("deeppcb")["boards"] and len(splits) == 8
    largest = sorted(set(source.groups.tolist()), key=lambda g: -(source.groups == g).sum())[:2]
    assert {boards.SPLITS[board] for board in largest} == {"train"}
    for split in set(boards.SPLITS.values()):
        assert set(source.labels[source.splits == split].tolist()) == {0, 1}


def test_every_bundled_tile_has_a_twin_of_its_board_that_differs_where_the_mask_says() -> None:
    source = open_source("deeppcb")
    twin = twins(source)
    assert (twin >= 0).all() and (source.groups == source.groups[twin]).all()
    assert (source.labels != source.labels[twin]).all() and (twin[twin] == np.arange(len(source))).all()
    rows = np.flatnonzero(source.labels == 1)
    images, others, masks = source.read(rows), source.read(twin[rows]), source.read_masks(rows)
    far = np.abs(images.astype(int) - others)[..., 0] > 16
    assert masks.any(axis=(1, 2)).all() and far[masks].mean() > 0.99
    assert not source.read_masks(twin[rows]).any()
    facts = card("deeppcb")
    assert facts["pairs"] == len(rows) and sum(facts["defects"].values()) == len(rows)


def test_the_card_gives_the_reason_of_every_split() -> None:
    page = (bundled_dir("deeppcb") / "README.md").read_text()
    assert all(f"- **{split}**, " in page and why in page for split, why in boards.REASONS.items())
    assert set(boards.REASONS) == set(boards.SPLITS.values())
