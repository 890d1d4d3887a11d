from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from mil_toy import export, toy_bags, translated

from cfdiff.errors import UserError
from cfdiff.mil.folders import as_mixes, is_bag_folder, read_folder
from cfdiff.mil.series import BagSet, named_models
from cfdiff.mil.settings import MilTrainSettings
from cfdiff.mil.sources import of_source, open_mixes, open_real, read_sweep
from cfdiff.store.bag_layouts import (
    FeatureBag,
    Origin,
    square,
    write_clam,
    write_npz,
    write_origin,
    write_table,
    write_torchmil,
)
from cfdiff.store.bags import open_bags


def read(folder: Path, **named: Any) -> BagSet:
    return read_folder(folder, named.get("table"), None, None)


def feature_bags(n: int = 4) -> list[FeatureBag]:
    bags = toy_bags(n, 0)
    return [
        FeatureBag(
            one.name, f"P{i // 2}", bags.contents[one.rows[0]], square(one.size), one.labels[0], one.labels[0] == 9, 0
        )
        for i, one in enumerate(bags.series)
    ]


def trident(folder: Path, bags: list[FeatureBag]) -> None:
    inside = folder / "features_uni"
    inside.mkdir()
    for bag in bags:
        with h5py.File(inside / f"{bag.name}.h5", "w") as file:
            file["features"] = bag.features[None]
    write_table(folder, bags)


def clam(folder: Path, bags: list[FeatureBag]) -> None:
    for bag in bags:
        write_clam(folder, bag, (16, 16))
    write_table(folder, bags)


def clam_pt(folder: Path, bags: list[FeatureBag]) -> None:
    (folder / "pt_files").mkdir()
    for bag in bags:
        torch.save(torch.from_numpy(bag.features), folder / "pt_files" / f"{bag.name}.pt")
    write_table(folder, bags)


def torchmil(folder: Path, bags: list[FeatureBag]) -> None:
    for bag in bags:
        write_torchmil(folder, bag)
    write_table(folder, bags)


@pytest.mark.parametrize("write", [trident, clam, clam_pt, torchmil])
def test_every_layout_is_read_to_the_same_bags(write: Callable[[Path, list[FeatureBag]], None], tmp_path: Path) -> None:
    bags = feature_bags()
    write(tmp_path, bags)
    assert is_bag_folder(tmp_path)
    found = read(tmp_path)
    by_name = {one.name: one for one in found.series}
    for bag in bags:
        one = by_name[bag.name]
        assert np.array_equal(found.contents[one.rows[0]], bag.features)
        assert one.classes[0] == bag.label and one.group == bag.case
        assert one.known == (write is torchmil)


def test_a_table_of_slides_and_classes_may_lie_elsewhere_and_chooses_bags(tmp_path: Path) -> None:
    bags = feature_bags()
    (tmp_path / "slides").mkdir()
    clam(tmp_path / "slides", bags)
    (tmp_path / "slides" / "dataset.csv").unlink()
    with pytest.raises(UserError, match="has no class"):
        read(tmp_path / "slides")
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["slide_id", "label"], [f"{bags[0].name}.svs", "normal"], [bags[1].name, "tumor"]])
    found = read(tmp_path / "slides", table=tmp_path / "t.csv")
    assert [int(one.classes[0]) for one in found.series] == [0, 1] and found.names == ("normal", "tumor")


TABLE = "case_id,slide_id,label\np1,a,normal\np2,b,tumor\n"


def bare(folder: Path, *names: str) -> Path:
    """Bags without a class in CLAM's layout."""
    (folder / "h5_files").mkdir(parents=True)
    for name in names:
        with h5py.File(folder / "h5_files" / f"{name}.h5", "w") as file:
            file["features"] = np.ones((5, 4), np.float32)
    return folder


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (TABLE + "p2,a,tumor\n", "names the bag 'a' twice, and not alike"),
        ("slide_id,label,label\na,normal,tumor\nb,tumor,normal\n", "has the column 'label' more than once"),
        (TABLE.replace(",", ";"), "parted by semicolons"),
        (TABLE.replace(",a", ',"a'), "cannot be read as a CSV"),
        (TABLE.replace("p1,a,normal", "p1,a"), "2 fields in row 2"),
    ],
)
def test_a_table_that_says_two_things_of_a_bag_is_refused(tmp_path: Path, table: str, words: str) -> None:
    """The last of two rows, or of two columns, counted without a word."""
    (bare(tmp_path / "d", "a", "b") / "dataset.csv").write_text(table)
    with pytest.raises(UserError, match=words):
        read(tmp_path / "d")


def test_bags_of_a_third_class_are_left_out_and_a_missing_case_is_none(tmp_path: Path) -> None:
    table = TABLE.replace("p1", "NA").replace("p2", "NA") + "p3,c,stroma\np1,a,normal\n".replace("p1", "NA")
    (bare(tmp_path / "d", "a", "b", "c") / "dataset.csv").write_text(table)
    found = read_folder(tmp_path / "d", None, "normal", "tumor")
    assert [(one.name, one.group, int(one.classes[0])) for one in found.series] == [("a", "a", 0), ("b", "b", 1)]


@pytest.mark.parametrize("label", [[1, 0], 0.7, 257, np.nan, "tumor", []])
def test_a_class_of_a_bag_that_is_not_one_of_two_numbers_is_refused(tmp_path: Path, label: Any) -> None:
    """One-hot [1, 0] was read as 1, 0.7 as 0, and the others ended in a traceback."""
    for part, values in (("features", np.ones((5, 4))), ("labels", np.array(label))):
        (tmp_path / part).mkdir()
        np.save(tmp_path / part / "a.npy", values)
    with pytest.raises(UserError, match=r"a\.npy holds .*(as the class of a bag|not 0 or 1)"):
        read(tmp_path)


@pytest.mark.parametrize("label", [256, 0.7, np.nan, 2])
def test_labels_of_instances_that_a_cast_would_hide_are_refused(tmp_path: Path, label: float) -> None:
    for part, values in (("features", np.ones((5, 4))), ("inst_labels", np.array([0, label, 0, 0, 0]))):
        (tmp_path / part).mkdir()
        np.save(tmp_path / part / "a.npy", values)
    with pytest.raises(UserError, match=r"a\.npy holds labels of instances that are not 0 or 1"):
        read(tmp_path)


def test_tensors_of_every_layout_are_read_or_named(tmp_path: Path) -> None:
    (tmp_path / "pt_files").mkdir()
    (tmp_path / "dataset.csv").write_text("slide_id,label\na,tumor\n")
    tensor = torch.rand(5, 4)
    for stored in (tensor.clone().requires_grad_(), tensor.to_sparse(), torch.nn.Parameter(tensor)):
        torch.save(stored, tmp_path / "pt_files" / "a.pt")
        np.testing.assert_array_equal(read(tmp_path).contents, tensor)
    torch.save(tensor.to(torch.complex64), tmp_path / "pt_files" / "a.pt")
    with pytest.raises(UserError, match="of type complex64: save them as real numbers"):
        read(tmp_path)
    (tmp_path / "pt_files" / "a.pt").write_bytes(b"junk")
    with pytest.raises(UserError, match="no readable tensor"):
        read(tmp_path)


def test_the_folder_that_trident_writes_into_is_one_of_its_layouts(tmp_path: Path) -> None:
    inside = tmp_path / "20x_256px_0px_overlap"
    inside.mkdir()
    trident(inside, feature_bags())
    (inside / "dataset.csv").rename(tmp_path / "dataset.csv")
    assert is_bag_folder(tmp_path) and len(read(tmp_path).series) == 4


def test_features_of_other_widths_are_refused(tmp_path: Path) -> None:
    bags = feature_bags(2)
    for bag in (bags[0], replace(bags[1], features=bags[1].features[:, :5])):
        write_npz(tmp_path, bag)
    with pytest.raises(UserError, match="features of other widths"):
        read(tmp_path)


def test_an_export_of_a_sweep_is_one_bag_at_several_mixes_lowest_first(tmp_path: Path) -> None:
    made = translated(toy_bags(3, 0), 0)
    found = as_mixes(read(export(made, tmp_path / "mixes")))
    assert [one.name for one in found.series] == sorted(one.name for one in made.series)
    for one in found.series:
        assert len(one) == 7 and (np.diff(one.positives) >= 0).all() and not one.real
    with pytest.raises(UserError, match="one mix only"):
        as_mixes(read(export(toy_bags(3, 0), tmp_path / "single")))


def two_bags_of_one_patient(folder: Path, told: bool) -> tuple[list[np.ndarray], Path]:
    """The features of two drawn bags, and the folder of both at three mixes."""
    features, written = [np.full((4, 3), d, np.float32) for d in range(2)], []
    folder.mkdir()
    for d, base in enumerate(features):
        for k in (4, 0, 2):
            labels = (np.arange(4) < k).astype(np.int8)
            bag = FeatureBag(f"d{d}_mix-{k / 4}", "P1", base, square(4), labels, labels == 1, k / 4)
            written.append(replace(bag, mix_of=f"d{d}" if told else ""))
            write_npz(folder, written[-1])
    write_table(folder, written)
    return features, folder


def test_the_mixes_of_one_bag_are_told_from_those_of_another_of_its_patient(tmp_path: Path) -> None:
    """Two drawn bags of one patient became one bag at six mixes, and losses compared other cells."""
    features, folder = two_bags_of_one_patient(tmp_path / "told", True)
    found = open_mixes([folder], BagSet("real", np.ones((1, 3), np.float32), ()))
    assert [(one.name, one.group, one.positives.tolist()) for one in found.series] == [
        ("d0", "P1", [0, 2, 4]),
        ("d1", "P1", [0, 2, 4]),
    ]
    for one, expected in zip(found.series, features, strict=True):
        assert all(np.array_equal(found.contents[rows], expected) for rows in one.rows)
    with (folder / "dataset.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    retold(folder, [*rows[:-1], {**rows[-1], "case_id": "P2"}])
    with pytest.raises(UserError, match=r"mixes of the bag d1 are of several cases \(P1, P2\)"):
        as_mixes(read(folder))


def test_a_folder_that_does_not_tell_two_bags_of_one_patient_apart_is_refused(tmp_path: Path) -> None:
    folder = two_bags_of_one_patient(tmp_path / "untold", False)[1]
    with pytest.raises(UserError, match=r"several bags of the case P1 at the mix 0, .* column mix_of of its dataset"):
        as_mixes(read(folder))
    with (folder / "dataset.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    retold(folder, [{**row, "mix_of": row["slide_id"].split("_")[0]} for row in rows])
    assert len(as_mixes(read(folder)).series) == 2
    retold(folder, [{key: row[key] for key in row if key != "mix_of"} for row in rows[:3]])
    assert [len(one) for one in as_mixes(read(folder)).series] == [3]


def test_a_folder_whose_name_cannot_be_looked_at_is_refused_in_a_sentence(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 300)
    with pytest.raises(UserError, match="There is no data at"):
        asked(long)
    with pytest.raises(UserError, match="holds no bags at several mixes"):
        open_mixes([long.with_suffix(".h5")], toy_bags(2, 0))


def test_a_bag_file_gives_each_bag_as_found_and_at_its_mixes(make_bags: Any) -> None:
    path = make_bags()
    found = read_sweep(path)
    with open_bags(path) as bags:
        views = [bags[j] for j in range(len(bags))]
    for one in found.series:
        mine = sorted((v for v in views if v.name == one.name), key=lambda v: v.requested)
        assert np.array_equal(found.contents[one.rows[0]], mine[0].source) and one.real
        assert np.array_equal(one.labels[0], mine[0].label_before)
        for v, view in enumerate(mine, 1):
            assert np.array_equal(found.contents[one.rows[v]], view.image)
            assert np.array_equal(one.labels[v], view.label)


def test_sweeps_of_other_models_or_other_instances_are_refused(make_bags: Any, tmp_path: Path) -> None:
    path = make_bags()
    real = read_sweep(path)
    (tmp_path / "other.h5").write_bytes(path.read_bytes())
    with h5py.File(tmp_path / "other.h5", "r+") as file:
        file.attrs["models"] = '{"diffusion": "another"}'
    with pytest.raises(UserError, match="edited by other models"):
        open_mixes([path, tmp_path / "other.h5"], real)
    with pytest.raises(UserError, match="holds images and .* holds features|holds features and .* holds images"):
        open_mixes([path], toy_bags(2, 0))
    with pytest.raises(UserError, match="holds no bags at several mixes"):
        open_mixes([tmp_path / "nothing.h5"], real)


def retold(folder: Path, rows: list[dict[str, str]]) -> None:
    """The table of a folder, written anew."""
    with (folder / "dataset.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def asked(folder: Path) -> BagSet:
    return open_real(MilTrainSettings(data=str(folder)), None, None)


@pytest.mark.parametrize("layout", ["npz", "torchmil", "old"])
def test_bags_that_were_edited_are_no_real_ones(tmp_path: Path, layout: str) -> None:
    """A sweep's export was taken as 30 real bags, one a mix, learned from and measured on."""
    folder = export(translated(toy_bags(4, 0), 0), tmp_path / "npz")
    if layout != "npz":
        found = read(folder)
        (tmp_path / layout).mkdir()
        for one in found.series:
            write_torchmil(
                tmp_path / layout,
                FeatureBag(one.name, "", found.contents[one.rows[0]], square(16), one.labels[0], one.labels[0] > 9, 0),
            )
        with (folder / "dataset.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        if layout == "old":
            rows = [
                {"case_id": row["case_id"], "slide_id": row["slide_id"], "label": row["label"], "requested": str(i)}
                for i, row in enumerate(rows)
            ]
        retold(tmp_path / layout, rows)
    with pytest.raises(UserError, match=rf"{layout} holds edited bags .*: give it as --mixtures"):
        asked(tmp_path / layout)
    assert len(as_mixes(read(tmp_path / layout)).series) == 4
    assert all(one.real for one in asked(export(toy_bags(4, 0), tmp_path / "real")).series)


def test_drawn_bags_are_refused_for_they_may_share_patients(make_bags: Any, tmp_path: Path) -> None:
    drawn = toy_bags(4, 0)
    drawn = replace(drawn, series=tuple(replace(o, group=f"draw-{i:04d}") for i, o in enumerate(drawn.series)))
    folder, mixes = export(drawn, tmp_path / "drawn"), export(translated(drawn, 0), tmp_path / "mixes")
    for path in (folder, make_bags(name="draw-{:04d}".format)):
        with pytest.raises(UserError, match="holds drawn bags .* without --bag-size"):
            asked(path)
    with pytest.raises(UserError, match="mixes holds drawn bags"):
        open_mixes([mixes], toy_bags(4, 0))


def test_an_export_of_other_models_or_another_encoder_is_refused_and_an_unknown_one_is_not(tmp_path: Path) -> None:
    made, real = translated(toy_bags(4, 0), 0), toy_bags(4, 0)
    one, two, untold = (export(made, tmp_path / name) for name in ("one", "two", "untold"))
    write_origin(one, Origin({"diffusion": "a"}, "judge 1"))
    write_origin(two, Origin({"diffusion": "b"}, "judge 1"))
    with pytest.raises(UserError, match="two and one were edited by other models"):
        open_mixes([one, two], real)
    assert open_mixes([one], real).models == named_models({"diffusion": "a"})
    assert len(open_mixes([one, untold], real).series) == 8
    write_origin(two, Origin({"diffusion": "a"}, "judge 2"))
    with pytest.raises(UserError, match="features of two are of another encoder than those of"):
        open_mixes([one, two], replace(real, encoder="judge 1"))
    write_origin(two, Origin({"diffusion": "a"}, "vit 2"))
    with pytest.raises(UserError, match=r"another encoder than those of toy \(vit and judge"):
        open_mixes([two], replace(real, encoder="judge 1"))
    (two / "export.json").write_text("[]")
    with pytest.raises(UserError, match=r"export\.json in two does not say"):
        open_mixes([two], real)


def test_images_without_groups_are_no_bags(toy: Any) -> None:
    from cfdiff.data.open import open_source

    source = open_source(toy.data)
    found = of_source(source)
    assert found.groups == [f"P{i}" for i in range(8)] and all(one.size == 6 for one in found.series)
    with pytest.raises(UserError, match="--group-key"):
        of_source(replace(source, groups=None))


def test_parts_of_a_bag_are_of_nearly_equal_size_and_have_the_class_of_their_instances() -> None:
    bags = toy_bags(4, 0)
    parts = bags.cut(6, 0)
    assert [one.size for one in parts.series] == [6, 5, 5] * 4
    for one in parts.series:
        assert one.classes[0] == (one.labels[0] == 1).any()
    whole = np.sort(np.concatenate([one.rows[0] for one in parts.series]))
    assert np.array_equal(whole, np.arange(4 * 16))
