from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from cfdiff.errors import UserError
from cfdiff.store import open_result
from cfdiff.store.bag_layouts import FeatureBag, square, write_npz, write_table
from cfdiff.store.bags import BagParts, open_bags, sha256_of, write_bags

SETTINGS = {"mix": "0.5", "classes": ["no", "yes"]}
ATTRS = {"seed": 0, "models": {"judge": "ab"}}


def toy(edits: int = 2) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Bags of 3 and 1 instances, each at two mixes, with three sources and some edits of them."""
    source = np.arange(3 * 4, dtype=np.uint8).reshape(3, 2, 2, 1)
    after = source[:edits] + 100
    row_edit = np.array([-1, 0, -1, 0, -1, 1, -1, -1]) if edits else np.full(8, -1)
    instance = np.array([0, 1, 2, 0, 1, 2, 3, 3])
    pool = np.array([0, 1, 2, 1])
    sha = np.array([sha256_of(image) for image in source])[pool]
    arrays = {
        "bag/name": np.array(["Größe", "b"]),
        "bag/offset": np.array([0, 3, 4]),
        "instance/id": np.array(["x", "y", "z", "y"]),
        "instance/source": pool,
        "instance/label": np.array([0, 1, 0, 1], np.int8),
        "instance/label_from": np.array(["data"] * 4),
        "instance/frozen": np.zeros(4, bool),
        "instance/score": np.zeros(4),
        "instance/sha256": sha,
        "mix/bag": np.array([0, 0, 1, 1]),
        "mix/offset": np.array([0, 3, 6, 7, 8]),
        "mix/requested": np.array([0.3, 0.6, 0.3, 0.6]),
        "mix/wanted": np.array([1, 2, 0, 1]),
        "mix/planned": np.array([1 / 3, 2 / 3, 0, 1]),
        "mix/before": np.array([1 / 3, 1 / 3, 1, 1]),
        "mix/target": np.ones(4, np.int8),
        "row/instance": instance,
        "row/edit": row_edit,
        "row/edited": row_edit >= 0,
        "row/sham": np.zeros(8, bool),
        "row/label": np.zeros(8, np.int8),
        "row/sha256": sha[instance],
        "edit/source": np.arange(edits),
        "edit/target": np.ones(edits, np.int8),
        "edit/used": np.ones(edits, bool),
        "edit/status": np.array(["ok"] * edits, dtype=str),
        "edit/ratio": np.ones(edits, np.float32),
        "edit/depth": np.ones(edits, np.float32),
        "edit/alpha_bar": np.ones(edits, np.float32),
        "edit/retries": np.zeros(edits, np.int16),
        "edit/network_calls": np.zeros(edits, np.int32),
        "prob/judge": np.tile(np.float32([[0.9, 0.1], [0.2, 0.8]]), (8, 1, 1)),
    }
    images = {
        "source": (source.shape, source.dtype, [source[:2], source[2:]]),
        "counterfactual": ((edits, 2, 2, 1), source.dtype, [after] if edits else []),
        "difference": ((edits, 2, 2, 1), np.dtype(np.float16), [np.ones((edits, 2, 2, 1))] if edits else []),
    }
    return arrays, images


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_bags(tmp_path / "bags.h5", SETTINGS, ATTRS, *toy())
    return tmp_path / "bags.h5"


def test_a_bag_is_read_as_it_was_before_and_after(path: Path) -> None:
    with open_bags(path) as bags:
        assert len(bags) == 4
        view = bags[1]
        assert view.name == "Größe" and view.requested == 0.6 and view.wanted == 2
        assert view.ids.tolist() == ["x", "y", "z"]
        assert view.source[:, 0, 0, 0].tolist() == [0, 4, 8]
        assert view.image[:, 0, 0, 0].tolist() == [100, 4, 104]
        assert view.achieved is None and set(view.prob) == {"judge"}
        assert bags[3].source[:, 0, 0, 0].tolist() == [4]
        with pytest.raises(IndexError):
            bags[4]


def test_plain_h5py_reads_a_bag_by_its_offsets(path: Path) -> None:
    with h5py.File(path) as run:
        start, stop = run["mix/offset"][1:3]
        edit = run["row/edit"][start:stop]
        source = run["instance/source"][:][run["row/instance"][start:stop]]
        images = np.where((edit >= 0)[:, None, None, None], run["counterfactual"][:][edit], run["source"][:][source])
    with open_bags(path) as bags:
        assert (images == bags[1].image).all()


def test_a_file_without_edits_is_written_and_read(tmp_path: Path) -> None:
    write_bags(tmp_path / "none.h5", SETTINGS, ATTRS, *toy(0))
    with open_bags(tmp_path / "none.h5") as bags:
        assert (bags[0].image == bags[0].source).all()


def test_the_same_bags_give_the_same_bytes(path: Path, tmp_path: Path) -> None:
    write_bags(tmp_path / "again.h5", SETTINGS, ATTRS, *toy())
    assert path.read_bytes() == (tmp_path / "again.h5").read_bytes()


def test_missing_and_unknown_data_sets_are_mistakes_of_the_program(tmp_path: Path) -> None:
    arrays, images = toy()
    with pytest.raises(ValueError, match="not in the schema: more"):
        write_bags(tmp_path / "x.h5", SETTINGS, ATTRS, {**arrays, "more": np.zeros(1)}, images)
    del arrays["row/edit"]
    with pytest.raises(ValueError, match="missing: row/edit"):
        write_bags(tmp_path / "x.h5", SETTINGS, ATTRS, arrays, images)


def test_what_is_no_bag_file_is_refused(path: Path, tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("no")
    with h5py.File(tmp_path / "other.h5", "w"):
        pass
    for name, words in (
        ("none.h5", "does not exist"),
        ("text.h5", "damaged"),
        ("other.h5", "is not a finished bag file"),
    ):
        with pytest.raises(UserError, match=words):
            open_bags(tmp_path / name)
    with pytest.raises(UserError, match="not a cfdiff result"):
        open_result(path)


def test_a_run_is_finished_once_and_refuses_other_settings(tmp_path: Path) -> None:
    out = tmp_path / "bags.h5"
    with BagParts(out, SETTINGS) as parts:
        assert not parts.finished
    with pytest.raises(UserError, match="other settings"):
        BagParts(out, {**SETTINGS, "mix": "0.7"})
    with BagParts(out, SETTINGS) as parts:
        parts.finish(lambda path: write_bags(path, SETTINGS, ATTRS, *toy()))
    assert out.exists() and not parts.folder.exists()
    with BagParts(out, SETTINGS) as parts:  # the same command again
        assert parts.finished
    assert [path.name for path in tmp_path.iterdir()] == ["bags.h5"]
    with pytest.raises(UserError, match="exists already"):
        BagParts(out, {**SETTINGS, "mix": "0.7"})


def test_a_write_that_fails_leaves_no_file(tmp_path: Path) -> None:
    out = tmp_path / "bags.h5"

    def fail(path: Path) -> None:
        path.write_text("half")
        raise ValueError

    with BagParts(out, SETTINGS) as parts, pytest.raises(ValueError):
        parts.finish(fail)
    assert not out.exists()


def test_places_on_the_sheet_are_distinct_and_row_by_row() -> None:
    assert square(5).tolist() == [[0, 0], [1, 0], [2, 0], [0, 1], [1, 1]]


def test_an_exported_bag_is_positive_if_one_instance_is(tmp_path: Path) -> None:
    bags = [
        FeatureBag(f"b{k}", "P1", np.ones((3, 4), np.float32), square(3), np.array([0, 0, k]), np.zeros(3, bool), 0.3)
        for k in (0, 1)
    ]
    write_table(tmp_path, bags)
    write_npz(tmp_path, bags[1])
    assert [line.split(",")[2] for line in (tmp_path / "dataset.csv").read_text().split()[1:]] == ["0", "1"]
    with np.load(tmp_path / "b1.npz") as file:
        assert file["features"].shape == (3, 4) and file["label"] == 1
