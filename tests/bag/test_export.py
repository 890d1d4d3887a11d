from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from cfdiff.bag.export import check_export, export_bags
from cfdiff.bag.run import bag
from cfdiff.bag.settings import BagSettings
from cfdiff.bag.setup import Setup, set_up
from cfdiff.data.open import open_source
from cfdiff.data.raw import file_sha256
from cfdiff.errors import UserError
from cfdiff.store.bag_layouts import read_origin
from cfdiff.store.bags import open_bags

ProcessedMILDataset = pytest.importorskip("torchmil.datasets").ProcessedMILDataset


def settings(toy: Any, out: Path | None = None, **changes: Any) -> BagSettings:
    quick = {"data": str(toy.data), "weights": str(toy.weights), "out": out, "device": "cpu", "batch_size": 8}
    return BagSettings(**{**quick, "steps": 4, "depth": 0.4, "retries": 0, "on_fail": "keep", "bags": 3, **changes})


@pytest.fixture(scope="module")
def made(toy: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Setup]:
    out = tmp_path_factory.mktemp("export") / "bags.h5"
    s = settings(toy, out, mix="0,0.67")
    bag(s)
    return out, set_up(s)


def exported(made: tuple[Path, Setup], folder: Path, kind: str, **changes: Any) -> Path:
    s = made[1].s.model_copy(update={"export": (kind, folder), **changes})
    asked = check_export(s, made[1])
    assert asked is not None
    export_bags(s, made[0], asked)
    return folder


def test_torchmils_own_data_set_loads_the_export(made: Any, tmp_path: Path) -> None:
    folder = exported(made, tmp_path / "mil", "torchmil")
    data = ProcessedMILDataset(
        features_path=str(folder / "features"),
        labels_path=str(folder / "labels"),
        inst_labels_path=str(folder / "inst_labels"),
        coords_path=str(folder / "coords"),
    )
    assert data.bag_names == [f"P{i}_mix-{mix}" for i in range(3) for mix in ("0", "0.67")]
    for i, (positives, label) in enumerate([(0, 0), (4, 1)] * 3):
        item = data[i]
        assert item["X"].shape[0] == 6 and item["X"].dtype == torch.float32
        assert item["coords"].shape == (6, 2) and item["coords"].dtype == torch.int32
        assert int(item["y_inst"].sum()) == positives and int(item["Y"]) == label
        assert item["adj"].shape == (6, 6)


def test_the_clam_layout_has_features_and_coords_at_the_root_and_a_table(made: Any, tmp_path: Path) -> None:
    folder = exported(made, tmp_path / "clam", "clam")
    with h5py.File(folder / "h5_files" / "P1_mix-0.67.h5") as file:
        assert set(file) == {"features", "coords"}
        assert file["features"].dtype == np.float32 and file["coords"].dtype == np.int32
        assert file["coords"][:].tolist() == [[0, 0], [16, 0], [32, 0], [0, 16], [16, 16], [32, 16]]
        same = torch.load(folder / "pt_files" / "P1_mix-0.67.pt")
        assert torch.equal(same, torch.from_numpy(file["features"][:]))
    with open(folder / "dataset.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[3] == {
        "case_id": "P1",
        "slide_id": "P1_mix-0.67",
        "label": "1",
        "mix_of": "P1",
        "requested": "0.67",
        "positives": "4",
        "instances": "6",
        "edited": "1",
    }


def test_untouched_instances_have_the_same_features_at_every_mix_and_edited_ones_do_not(
    made: Any, tmp_path: Path
) -> None:
    folder = exported(made, tmp_path / "npz", "npz")
    a, b = (np.load(folder / f"P0_mix-{mix}.npz") for mix in ("0", "0.67"))
    with open_bags(made[0]) as bags:
        none, some = bags[0], bags[1]
    alone = ~none.edited & ~some.edited
    assert (a["features"][alone] == b["features"][alone]).all()
    assert (a["features"][some.edited] != b["features"][some.edited]).any(axis=1).all()
    assert (b["edited"] == some.edited).all() and b["labels"].sum() == 4


def test_a_timm_model_that_the_user_names_gives_the_features(made: Any, tmp_path: Path) -> None:
    net = timm.create_model("test_vit", pretrained=False, num_classes=0)
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    folder = exported(made, tmp_path / "vit", "npz", features="test_vit", feature_weights=tmp_path / "w.safetensors")
    assert np.load(folder / "P0_mix-0.npz")["features"].shape == (6, net.num_features)


@pytest.mark.parametrize("kind", ["clam", "torchmil", "npz"])
def test_a_second_export_into_a_folder_leaves_no_bag_of_the_first_and_every_other_file(
    made: Any, tmp_path: Path, kind: str
) -> None:
    folder = exported(made, tmp_path / "fresh", kind)
    fresh = sorted(path.relative_to(folder) for path in folder.rglob("*"))
    for path in [path for path in folder.rglob("*0.67*") if path.is_file()]:
        path.rename(path.with_name(path.name.replace("0.67", "0.99")))  # as an earlier run with other mixes left it
    table = (folder / "dataset.csv").read_text()
    (folder / "dataset.csv").write_text(table.replace("0.67", "0.99"))
    mine = [Path("mine.npz"), fresh[-1].parent / "mine.npy"]
    for path in mine:
        (folder / path).write_text("keep me")
    exported(made, folder, kind, force=True)
    assert sorted(path.relative_to(folder) for path in folder.rglob("*")) == sorted([*fresh, *mine])


def test_what_cannot_be_exported_is_said_in_one_sentence(made: Any, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep me")
    (tmp_path / "bad.safetensors").write_text("no")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    cases: list[tuple[dict[str, Any], str]] = [
        ({"export": ("npz", tmp_path / "full")}, "not empty"),
        ({"export": ("npz", tmp_path / "no" / "such")}, "cannot make"),
        ({"features": "resnet9000"}, "knows no model"),
        ({"features": "test_vit", "feature_weights": tmp_path / "bad.safetensors"}, "no readable"),
        ({"features": "test_vit", "feature_weights": tmp_path / "other.safetensors"}, "does not fit"),
    ]
    for changes, words in cases:
        s = made[1].s.model_copy(update={"export": ("npz", tmp_path / "new"), **changes})
        with pytest.raises(UserError, match=words):
            check_export(s, made[1])


def test_the_export_says_what_made_it_and_which_bags_were_edited(toy: Any, made: Any, tmp_path: Path) -> None:
    net = timm.create_model("test_vit", pretrained=False, num_classes=0)
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    by_judge = read_origin(exported(made, tmp_path / "judge", "npz"))
    by_vit = read_origin(
        exported(made, tmp_path / "vit", "clam", features="test_vit", feature_weights=tmp_path / "w.safetensors")
    )
    with open_bags(made[0]) as bags:
        assert by_judge.models == by_vit.models == bags.attrs["models"] and by_judge.models
        assert by_judge.encoder == f"judge {bags.attrs['models']['judge']}"
        edited = [int(bags[j].edited.sum()) for j in range(len(bags))]
    assert by_vit.encoder == f"test_vit {file_sha256(tmp_path / 'w.safetensors')}"
    assert [int(row["edited"]) for row in table(tmp_path / "judge")] == edited and max(edited) > 0
    s = settings(toy, tmp_path / "sham.h5", mix="0.5", untouched="sham")
    bag(s)
    folder = exported((tmp_path / "sham.h5", set_up(s)), tmp_path / "sham", "npz")
    assert {row["edited"] for row in table(folder)} == {"6"}, "a sham was edited as well"


def table(folder: Path) -> list[dict[str, str]]:
    with open(folder / "dataset.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_a_drawn_bag_is_of_its_patient_where_it_has_one_and_else_of_none(toy: Any, tmp_path: Path) -> None:
    """Its case was the number of the draw, so that a tool that splits by case had one patient on both sides."""
    s = settings(toy, tmp_path / "drawn.h5", mix="0.5", bag_size=2, bags=24)
    bag(s)
    folder = exported((tmp_path / "drawn.h5", set_up(s)), tmp_path / "drawn", "npz")
    with open_bags(tmp_path / "drawn.h5") as bags:
        ids = [bags[j].ids for j in range(len(bags))]
    group = dict(
        zip(*(getattr(open_source(toy.data), key).astype(str).tolist() for key in ("ids", "groups")), strict=True)
    )
    expected = [{group[i] for i in one} for one in ids]
    assert {len(one) for one in expected} == {1, 2}
    for b, (row, of) in enumerate(zip(table(folder), expected, strict=True)):
        assert row["case_id"] == (of.pop() if len(of) == 1 else f"draw-{b:04d}")
        assert row["mix_of"] == f"draw-{b:04d}", "several draws of a patient are no mixes of one bag"


def test_tiles_keep_their_places_in_the_slide(toy: Any, tmp_path: Path) -> None:
    with np.load(toy.data) as file:
        arrays = {key: file[key] for key in file.files}
    n = len(arrays["images"])
    # Bag P0 lies on one slide, P1 on two, so that its places would be of none.
    arrays |= {
        "x": 4096 + 128 * (np.arange(n) % 3),
        "y": 1024 + 128 * (np.arange(n) // 3),
        "side": np.full(n, 128.0),
        "slide": np.array([f"S{i // 9}" for i in range(n)]),
    }
    np.savez(tmp_path / "tiles.npz", **arrays)
    s = settings(toy, tmp_path / "bags.h5", mix="0.5", data=str(tmp_path / "tiles.npz"))
    bag(s)
    made = tmp_path / "bags.h5", set_up(s)
    with open_bags(made[0]) as bags:
        places = bags.places(0)
        assert places is not None and places.slide == "S0"
        where = [int(i.split("/")[1][:3]) for i in bags[0].ids]
        assert places.corners.tolist() == [[4096 + 128 * (i % 3), 1024 + 128 * (i // 3)] for i in where]
        assert places.grid.tolist() == [[i % 3, i // 3] for i in where]
        assert bags.places(1) is None
    folder = exported(made, tmp_path / "clam", "clam")
    with h5py.File(folder / "h5_files" / "P0_mix-0.5.h5") as file:
        assert file["coords"][:].tolist() == places.corners.tolist()
    folder = exported(made, tmp_path / "mil", "torchmil")
    assert np.load(folder / "coords" / "P0_mix-0.5.npy").tolist() == places.grid.tolist()
    assert np.load(folder / "coords" / "P1_mix-0.5.npy").tolist() == [[i % 3, i // 3] for i in range(6)]
