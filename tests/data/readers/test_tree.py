"""Folders as they lie: what each level stands for, and what is not read, counted and said."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from cfdiff.data import open_source
from cfdiff.data.open import open_told
from cfdiff.data.readers.tree import counted
from cfdiff.errors import UserError
from cfdiff.evaluate.settings import EvaluateSettings
from cfdiff.fit.folder import FitFolder
from cfdiff.fit.settings import FitSettings
from cfdiff.fit.stages import Fit
from cfdiff.mil.settings import MilEvaluateSettings
from cfdiff.mil.sources import open_real
from cfdiff.train.settings import DiffusionSettings
from cfdiff.translate.settings import TranslateSettings


def lay(root: Path, *places: str) -> Path:
    """An image at each place, all different."""
    for i, place in enumerate(places):
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4), i, np.uint8)).save(path)
    return root


CLASSES = ("normal", "tumor")


@pytest.mark.parametrize(
    ("pattern", "layout", "grouped", "split"),
    [
        ("{c}/{i}.png", None, False, False),
        ("{c}/{p}/{i}.png", "class/group", True, False),
        ("{p}/{c}/{i}.png", "group/class", True, False),
        ("{s}/{c}/{i}.png", "split/class", False, True),
        ("{c}/{s}/{i}.png", "class/split", False, True),
        ("{s}/{c}/{p}/{i}.png", "split/class/group", True, True),
        ("{s}/{p}/{c}/{i}.png", "split/group/class", True, True),
    ],
)
@pytest.mark.parametrize("how", ["by name", "asked"])
def test_every_layout_is_understood_and_said(
    tmp_path: Path, pattern: str, layout: str | None, grouped: bool, split: bool, how: str
) -> None:
    places = [
        pattern.format(c=CLASSES[i % 2], p=f"P{i // 2}", s=("train", "test")[i // 4], i=i) for i in range(8)
    ]  # fmt: skip
    source = open_source(lay(tmp_path / "d", *places), layout=layout if how == "asked" else None)
    assert sorted(source.ids.tolist()) == sorted(places) and source.classes == CLASSES
    number = [int(Path(i).stem) for i in source.ids.tolist()]
    assert source.labels.tolist() == [i % 2 for i in number]
    groups = None if source.groups is None else source.groups.tolist()
    assert groups == ([f"P{i // 2}" for i in number] if grouped else None)
    splits = None if source.splits is None else source.splits.tolist()
    assert splits == ([("train", "test")[i // 4] for i in number] if split else None)
    said = [note for note in source.notes if note.startswith("Read as ")]
    assert said == [] if layout is None else said[0].startswith(f"Read as {layout}/image: ")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("Train_set", "Test_set"), ["test", "train"]),
        (("train (1)", "test"), ["test", "train"]),
        (("Training.2", "train-judge_"), ["train-judge", "training"]),
    ],
)
@pytest.mark.parametrize("pattern", ["{s}/{c}/{i}.png", "{c}/{s}/{i}.png", "{s}/{c}/P{i}/{i}.png"])
def test_folders_that_begin_as_splits_are_splits(
    tmp_path: Path, names: tuple[str, str], words: list[str], pattern: str
) -> None:
    places = [pattern.format(s=s, c=c, i=i) for i, (s, c) in enumerate((s, c) for s in names for c in CLASSES)]
    source = open_source(lay(tmp_path / "d", *places))
    assert source.splits is not None and source.classes == CLASSES
    assert sorted(set(source.splits.tolist())) == words


@pytest.mark.parametrize("names", [("test-01", "test-02"), ("Test 1",), ("train_a", "train_b", "test_c")])
def test_folders_that_could_be_splits_or_patients_are_asked_for(tmp_path: Path, names: tuple[str, ...]) -> None:
    root = lay(tmp_path / "d", *(f"{s}/{c}/1.png" for s in names for c in CLASSES))
    with pytest.raises(UserError, match="say what they stand for with --layout split/class or"):
        open_source(root)
    groups = open_source(root, layout="group/class").groups
    assert groups is not None and set(groups.tolist()) == set(names)
    splits = open_source(root, layout="split/class").splits
    assert splits is not None and set(splits.tolist()) == set(names)


AMBIGUOUS = ("A/x/1.png", "A/y/2.png", "B/x/3.png", "B/y/4.png")


@pytest.mark.parametrize("settings", [TranslateSettings, DiffusionSettings, FitSettings, MilEvaluateSettings])
def test_whoever_opens_what_settings_say_heeds_the_layout(tmp_path: Path, settings: Any) -> None:
    told = {"data": str(lay(tmp_path / "d", *AMBIGUOUS)), "negative": "x", "positive": "y"}
    source = open_told(settings(**told, layout="group/class"))
    assert source.classes == ("x", "y") and source.groups is not None and source.groups.tolist() == ["A", "A", "B", "B"]
    with pytest.raises(UserError, match="--layout"):
        open_told(settings(**told))


def test_bags_of_images_heed_the_layout(tmp_path: Path) -> None:
    told = {"data": str(lay(tmp_path / "d", *AMBIGUOUS)), "negative": "x", "positive": "y"}
    bags = open_real(MilEvaluateSettings(**told, layout="group/class"), None, None)
    assert bags.groups == ["A", "B"]


def test_a_fit_tells_its_commands_the_layout(tmp_path: Path) -> None:
    s = FitSettings(data="d", layout="group/class", negative="x")
    fit = Fit(s, FitFolder(tmp_path), None, None)  # type: ignore[arg-type]
    assert fit.data["layout"] == "group/class" and fit.data["negative"] == "x"
    assert fit.data["splits"] == tmp_path / "splits.csv"


def test_the_layout_of_evaluate_is_that_of_its_data(tmp_path: Path) -> None:
    s = EvaluateSettings(run=Path("run.h5"), data="d", reference="other", layout="group/class")
    assert s.layout_of("d") == "group/class" and s.layout_of("other") is None


def test_levels_that_could_be_either_are_asked_for(tmp_path: Path) -> None:
    root = lay(tmp_path / "d", "A/x/1.png", "A/y/2.png", "B/x/3.png", "B/y/4.png")
    with pytest.raises(UserError, match="2 levels of folders, a, b and in them x, y: say .* --layout split/class or"):
        open_source(root)
    assert open_source(root, layout="group/class", negative="x").labels.tolist() == [0, 1, 0, 1]
    assert open_source(root, layout="class/group", negative="A").labels.tolist() == [0, 0, 1, 1]
    with pytest.raises(UserError, match="no image in 3 levels of folders, which --layout split/class/group says"):
        open_source(root, layout="split/class/group")
    with pytest.raises(UserError, match="no --layout 'klass': choose of class, split/class"):
        open_source(root, layout="klass")
    np.savez(tmp_path / "a.npz", images=np.zeros((2, 4, 4), np.uint8), labels=np.arange(2))
    with pytest.raises(UserError, match="a.npz is none: leave it out"):
        open_source(tmp_path / "a.npz", layout="class")


@pytest.mark.parametrize("stray", ["train/stray.png", "stray.png", "train/normal/deeper/stray.png"])
def test_a_stray_image_does_not_turn_the_layout_and_is_said(tmp_path: Path, stray: str) -> None:
    places = [f"{s}/{c}/{i}.png" for s in ("train", "test") for c in CLASSES for i in range(2)]
    source = open_source(lay(tmp_path / "d", *places, stray))
    assert sorted(source.ids.tolist()) == sorted(places)
    assert "Not read: 1 image in other folders." in source.notes


def test_what_is_not_read_is_counted_and_what_systems_leave_is_not(tmp_path: Path) -> None:
    root = lay(tmp_path / "d", "normal/1.png", "normal/._2.png", "tumor/3.png", "__MACOSX/normal/4.png")
    for name in ("normal/notes.txt", "tumor/a.xml", "tumor/b.xml", "tumor/README", "normal/Thumbs.db", ".DS_Store"):
        (root / name).write_text("")
    (root / "tumor" / "gone.png").symlink_to(root / "nowhere.png")
    (root / "tumor" / "linked.png").symlink_to(root / "normal" / "1.png")
    source = open_source(root)
    assert source.ids.tolist() == ["normal/1.png", "tumor/3.png", "tumor/linked.png"]
    assert "Not read: 2 .xml, 1 .txt, 1 dead link, 1 without a suffix." in source.notes


@pytest.mark.parametrize("n", [1, 2])
def test_one_of_a_kind_is_counted_as_one(n: int) -> None:
    kinds = ("dead links", "pipes or alike", "DICOM files without an image", "without a suffix", ".files")
    expected = {
        1: "1 .files, 1 DICOM file without an image, 1 dead link, 1 pipe or alike, 1 without a suffix",
        2: "2 .files, 2 DICOM files without an image, 2 dead links, 2 pipes or alike, 2 without a suffix",
    }
    assert counted(Counter(dict.fromkeys(kinds, n))) == expected[n]


def test_names_that_are_no_utf8_are_read_and_can_be_shown(tmp_path: Path) -> None:
    root = lay(tmp_path / "d", "normal/1.png", "tumor/2.png")
    try:
        os.rename(root / "tumor" / "2.png", os.fsencode(root / "tumor") + b"/gr\xf6\xdfe.png")
    except OSError:
        pytest.skip("this file system has only names in UTF-8")
    source = open_source(root)
    assert source.ids.tolist() == ["normal/1.png", "tumor/gr\\xf6\\xdfe.png"]
    assert source.read([1]).shape == (1, 4, 4, 1)
    "".join(source.ids).encode("utf-8")


def test_a_circle_of_links_comes_to_an_end(tmp_path: Path) -> None:
    root = lay(tmp_path / "d", "normal/1.png", "tumor/2.png")
    (root / "normal" / "round").symlink_to(root)
    (root / "tumor" / "round").symlink_to(root / "tumor")
    (root / "tumor" / "3.png").symlink_to("3.png")
    source = open_source(root)
    assert source.ids.tolist() == ["normal/1.png", "tumor/2.png"]
    assert "Not read: 2 links in a circle, 1 dead link." in source.notes


def test_folders_of_masks_are_not_taken_for_images(tmp_path: Path) -> None:
    root = lay(tmp_path / "d", *(f"{what}/{c}/1.png" for what in ("images", "masks") for c in CLASSES))
    with pytest.raises(UserError, match=r"folders called 'masks'.*path,label,mask"):
        open_source(root)
    assert len(open_source(root, layout="group/class")) == 4


BUSI = ("benign (1)", "benign (1)_mask", "benign (1)_mask_1", "benign (2)")


@pytest.mark.parametrize("ending", ["_mask", "-mask", "_Seg", "_gt", ".mask", "_segmentation"])
def test_masks_beside_their_images_are_their_masks(tmp_path: Path, ending: str) -> None:
    names = [name.replace("_mask", ending) for name in BUSI]
    root = lay(tmp_path / "d", *(f"{c}/{name}.png" for c in CLASSES for name in names))
    for c in CLASSES:
        for name, columns in ((names[1], slice(0, 1)), (names[2], slice(2, 4))):
            mask = np.zeros((4, 4), np.uint8)
            mask[:, columns] = 255
            Image.fromarray(mask).save(root / c / f"{name}.png")
    source = open_source(root)
    assert source.ids.tolist() == [f"{c}/benign ({i}).png" for c in CLASSES for i in (1, 2)]
    masks = source.read_masks(range(4))
    assert masks[0].all(0).tolist() == [True, False, True, True] and masks.any((1, 2)).tolist() == [True, False] * 2
    note = f"Read as masks: what is called '{names[1]}.png' and alike, beside 2 images, and the masks of 2 others are"
    assert any(said.startswith(note) for said in source.notes)
    before = source.fingerprint
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(root / "tumor" / f"{names[2]}.png")
    assert open_source(root).fingerprint != before


def test_a_mask_without_its_image_is_refused_and_names_alone_make_no_mask(tmp_path: Path) -> None:
    root = lay(tmp_path / "d", "normal/a.png", "normal/a_mask.png", "tumor/b_mask.png")
    with pytest.raises(UserError, match=r"'b_mask\.png', which is called as a mask and has no image: name masks as"):
        open_source(root)
    source = open_source(lay(tmp_path / "e", "normal/a_mask.png", "tumor/b_mask.png"))
    assert len(source) == 2 and source.mask_reader is None


def test_masks_beside_volumes_and_alike_are_to_be_listed(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    for name in ("a.nii.gz", "a_seg.nii.gz"):
        (tmp_path / "d" / "normal").mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)), tmp_path / "d" / "normal" / name)
    with pytest.raises(UserError, match=r"'a\.nii\.gz' and 'a_seg\.nii\.gz', which is called as its mask"):
        open_source(tmp_path / "d")


def test_a_folder_without_images_says_what_it_holds_instead(tmp_path: Path) -> None:
    (tmp_path / "d" / "a").mkdir(parents=True)
    (tmp_path / "d" / "a" / "x.heic").write_text("")
    with pytest.raises(UserError, match=r"it holds no images, but 1 \.heic"):
        open_source(tmp_path / "d")


@pytest.mark.parametrize("key", ["coords", "features"])
def test_a_folder_of_features_is_named_as_one_file_of_them_is(tmp_path: Path, key: str) -> None:
    (tmp_path / "d" / "patches").mkdir(parents=True)
    with h5py.File(tmp_path / "d" / "patches" / "a.h5", "w") as file:
        file[key] = np.zeros((3, 2))
    with pytest.raises(UserError, match=rf"d/patches/a\.h5 has {key} of tiles .* give it to cfdiff mil"):
        open_source(tmp_path / "d")


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000])
def test_a_name_that_can_be_none_is_one_sentence(name: str) -> None:
    with pytest.raises(UserError, match="There is no data at"):
        open_source(name)


@pytest.mark.parametrize(
    ("places", "split"),
    [
        (("images/normal/0.png", "images/tumor/1.png"), False),
        (("normal/Images/0.png", "tumor/images/1.png"), False),
        (("chest_xray/train/normal/0.png", "chest_xray/test/tumor/1.png"), True),
        (("chest_xray/train/normal/png/0.png", "chest_xray/test/tumor/png/1.png"), True),
    ],
)
def test_a_folder_in_which_all_lie_is_no_group(tmp_path: Path, places: tuple[str, ...], split: bool) -> None:
    """All images would be of one patient, and --layout could not say otherwise."""
    source = open_source(lay(tmp_path / "d", *places, "stray.png"))
    assert source.groups is None and (source.splits is not None) == split
    assert source.ids.tolist() == sorted(places) and source.labels[np.argsort(source.ids)].sum() == 1
    assert any("in which all lie" in note for note in source.notes)
    assert any("1 image in other folders" in note for note in source.notes)


def test_one_patient_alone_is_a_group_and_what_else_could_be_meant_is_said(tmp_path: Path) -> None:
    source = open_source(lay(tmp_path / "d", "P1/normal/0.png", "P1/tumor/1.png"))
    assert source.groups is not None and set(source.groups) == {"P1"}
    with pytest.raises(UserError, match="give e/cells itself, or say what they stand for with --layout"):
        open_source(lay(tmp_path / "e", "cells/A/0.png", "cells/B/1.png"))


@pytest.mark.parametrize("inner", ["labels", "seg", "Segmentations"])
def test_folders_of_label_pictures_are_asked_about(tmp_path: Path, inner: str) -> None:
    places = [f"{c}/{kind}/{i}.png" for c in CLASSES for kind in ("img", inner) for i in range(2)]
    with pytest.raises(UserError, match="as those of masks are"):
        open_source(lay(tmp_path / "d", *places))


def test_a_mask_may_be_called_mask_first(tmp_path: Path) -> None:
    lay(tmp_path / "d", "tumor/0.png", "normal/a.png", "normal/mask_a.png")
    source = open_source(tmp_path / "d")
    masks = source.read_masks(np.arange(2))
    assert source.ids.tolist() == ["normal/a.png", "tumor/0.png"] and masks is not None
    assert masks.all(axis=(1, 2)).tolist() == [True, False]
    assert any("the mask of one other is empty" in note for note in source.notes)


def test_what_discs_and_shares_keep_beside_is_no_class(tmp_path: Path) -> None:
    system = ("System Volume Information", "#recycle", "$RECYCLE.BIN", "#snapshot")
    source = open_source(lay(tmp_path / "d", "normal/0.png", "tumor/1.png", *(f"{name}/2.png" for name in system)))
    assert source.classes == CLASSES and len(source) == 2


def test_an_empty_name_is_not_the_folder_that_one_is_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lay(tmp_path / "d", "normal/0.png", "tumor/1.png"))
    assert len(open_source(".")) == 2
    with pytest.raises(UserError, match="empty name"):
        open_source("")
