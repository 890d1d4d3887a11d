from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from cfdiff.data import open_source
from cfdiff.errors import UserError

nibabel = pytest.importorskip("nibabel")
SHIPPED = Path(nibabel.__file__).parent / "tests" / "data"


def save(values: np.ndarray, path: Path, affine: np.ndarray | None = None, **header: float) -> Path:
    """A volume (X, Y, Z[, N]) as NIfTI; without an affine its axes run to the right, front and head."""
    image = nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine)
    for key, value in header.items():
        image.header[key] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)
    return path


def body(path: Path) -> np.ndarray:
    """What nibabel itself makes of a file: values (X, Y, Z) to the right, front and head."""
    return np.asarray(nibabel.as_closest_canonical(nibabel.load(path)).get_fdata())


@pytest.fixture
def volume() -> np.ndarray:
    """(4, 5, 6) uint8, all different."""
    return np.random.default_rng(0).permutation(120).reshape(4, 5, 6).astype(np.uint8)


def link(path: Path, tmp_path: Path) -> Path:
    """A folder with a class that holds the file."""
    (tmp_path / "d" / "normal").mkdir(parents=True, exist_ok=True)
    (tmp_path / "d" / "normal" / path.name).write_bytes(path.read_bytes())
    return tmp_path / "d"


def test_slices_lie_as_on_a_radiologists_screen(tmp_path: Path, volume: np.ndarray) -> None:
    save(volume, tmp_path / "d" / "normal" / "a.nii")
    axial = open_source(tmp_path / "d")
    assert axial.ids.tolist() == [f"normal/a.nii#000{i}" for i in range(6)]
    assert (axial.shape, axial.dtype) == ((5, 4, 1), np.uint8)
    # The front is above and the right on the left.
    np.testing.assert_array_equal(axial.read([2])[0, ..., 0], volume[::-1, ::-1, 2].T)
    coronal = open_source(tmp_path / "d", reading="axis=coronal")
    np.testing.assert_array_equal(coronal.read([1])[0, ..., 0], volume[::-1, 1, ::-1].T)
    sagittal = open_source(tmp_path / "d", reading="axis=sagittal")
    np.testing.assert_array_equal(sagittal.read([3])[0, ..., 0], volume[3, ::-1, ::-1].T)


@pytest.mark.parametrize("codes", ["LPS", "PIR", "SAL", "ARI"])
def test_however_a_file_lies_its_slices_are_the_same(tmp_path: Path, volume: np.ndarray, codes: str) -> None:
    original = nibabel.Nifti1Image(volume, np.diag([1.0, 1, 1, 1]))
    turned = original.as_reoriented(
        nibabel.orientations.ornt_transform(
            nibabel.orientations.io_orientation(original.affine), nibabel.orientations.axcodes2ornt(codes)
        )
    )
    (tmp_path / "d" / "normal").mkdir(parents=True)
    nibabel.save(turned, tmp_path / "d" / "normal" / "a.nii.gz")
    for axis, expected in (("axial", volume[::-1, ::-1, 2].T), ("sagittal", volume[2, ::-1, ::-1].T)):
        source = open_source(tmp_path / "d", reading=f"axis={axis}")
        np.testing.assert_array_equal(source.read([2])[0, ..., 0], expected)


def test_shipped_volumes_are_read_as_nibabel_reads_them(tmp_path: Path) -> None:
    expected = body(SHIPPED / "anatomical.nii")
    source = open_source(link(SHIPPED / "anatomical.nii", tmp_path))
    assert source.dtype == np.uint16 and len(source) == expected.shape[2]
    share = (expected - expected.min()) / (expected.max() - expected.min())
    images = source.read(range(len(source)))[..., 0] / 65535
    np.testing.assert_allclose(images, np.transpose(share, (2, 1, 0))[:, ::-1, ::-1], atol=1e-4)


def test_one_of_several_volumes_is_chosen(tmp_path: Path) -> None:
    folder = link(SHIPPED / "example4d.nii.gz", tmp_path)
    with pytest.raises(UserError, match="holds 2 volumes: choose one with --reading volume=0"):
        open_source(folder)
    with pytest.raises(UserError, match="has no volume 2: it has 2"):
        open_source(folder, reading="volume=2")
    expected, most = body(SHIPPED / "example4d.nii.gz")[..., 1], 1162  # the file's own cal_max
    assert nibabel.load(SHIPPED / "example4d.nii.gz").header["cal_max"] == most
    source = open_source(folder, reading="volume=1,slices=10:12")
    share = np.clip(expected / most, 0, 1)
    assert source.column("slice").tolist() == ["10", "11"]
    np.testing.assert_allclose(source.read([1])[0, ..., 0] / 65535, share[::-1, ::-1, 11].T, atol=1e-4)


def test_windows_count_in_the_values_of_the_volume(tmp_path: Path) -> None:
    values = np.linspace(-1000, 1000, 60).reshape(3, 4, 5).astype(np.float32)
    save(values, tmp_path / "d" / "normal" / "a.nii")
    seen = np.transpose(values, (2, 1, 0))[:, ::-1, ::-1]
    for reading, low, high in (
        ("window=-160:240", -160, 240),
        ("window=40/400", -160, 240),
        ("window=5%:95%", *np.percentile(values, [5, 95])),
        (None, -1000, 1000),
    ):
        images = open_source(tmp_path / "d", reading=reading).read(range(5))[..., 0] / 65535
        np.testing.assert_allclose(images, np.clip((seen - low) / (high - low), 0, 1), atol=1e-4)
    save(values, tmp_path / "e" / "normal" / "a.nii", cal_min=-500, cal_max=500)
    images = open_source(tmp_path / "e").read(range(5))[..., 0] / 65535
    np.testing.assert_allclose(images, np.clip((seen + 500) / 1000, 0, 1), atol=1e-4)


@pytest.mark.parametrize(("slope", "intercept"), [(10, -5), (0.01, 0), (1, -30)])
def test_bytes_with_a_scale_are_the_values_that_it_makes_of_them(
    tmp_path: Path, volume: np.ndarray, slope: float, intercept: float
) -> None:
    path = save(volume, tmp_path / "d" / "normal" / "a.nii")
    stored = bytearray(path.read_bytes())
    stored[112:120] = struct.pack("<ff", slope, intercept)  # nibabel itself would scale the values
    path.write_bytes(stored)
    source = open_source(tmp_path / "d", reading=f"window={intercept}:{intercept + 100 * slope:g}")
    share = np.clip(np.transpose(volume, (2, 1, 0))[:, ::-1, ::-1] / 100, 0, 1)
    np.testing.assert_allclose(source.read(range(6))[..., 0] / 65535, share, atol=1e-4)
    for reading in (None, "window=full"):
        source = open_source(tmp_path / "d", reading=reading)
        assert source.dtype == np.uint16
        share = np.transpose(volume, (2, 1, 0))[:, ::-1, ::-1] / 119
        np.testing.assert_allclose(source.read(range(6))[..., 0] / 65535, share, atol=1e-4)


def test_slices_can_be_chosen_and_subjects_are_groups(tmp_path: Path, volume: np.ndarray) -> None:
    save(volume, tmp_path / "d" / "normal" / "sub-07_T1w.nii.gz")
    save(volume, tmp_path / "d" / "abnormal" / "case3.nii.gz")
    source = open_source(tmp_path / "d", reading="slices=50%:100%:2")
    assert source.groups is not None
    assert source.groups.tolist() == ["case3", "case3", "sub-07", "sub-07"]
    assert source.column("slice").tolist() == ["3", "5"] * 2
    assert source.ids.tolist()[0] == "abnormal/case3.nii.gz#0003"


def test_the_subject_is_told_by_the_name_and_the_folders_of_the_source_alone(
    tmp_path: Path, volume: np.ndarray
) -> None:
    root = tmp_path / "sub-project" / "d"
    for name in ("normal/P0.nii", "normal/P1.nii", "tumor/sub-07/T1.nii", "tumor/sub-08/T1.nii"):
        save(volume, root / name)
    assert set(open_source(root, layout="class").column("subject").tolist()) == {"P0", "P1"}
    (root / "t.csv").write_text("id,path,label\n1,normal/P0.nii,normal\n2,tumor/sub-07/T1.nii,tumor\n")
    assert list(dict.fromkeys(open_source(root / "t.csv").column("subject").tolist())) == ["P0", "sub-07"]


def test_what_is_no_number_is_black_and_what_is_infinite_refused(tmp_path: Path) -> None:
    values = np.linspace(-1000, -900, 60).reshape(3, 4, 5).astype(np.float32)
    values[0] = np.nan
    save(values, tmp_path / "d" / "normal" / "a.nii")
    seen = np.transpose(values, (2, 1, 0))[:, ::-1, ::-1]
    least = np.nanmin(values)
    for reading, low in ((None, least), ("window=0%:100%", least), ("window=-950:-900", -950)):
        source = open_source(tmp_path / "d", reading=reading)
        share = np.nan_to_num(np.clip((seen - low) / (-900 - low), 0, 1))
        np.testing.assert_allclose(source.read(range(5))[..., 0] / 65535, share, atol=1e-4)
    assert any("1 file of floats: what is no number (NaN)" in note for note in source.notes)
    (tmp_path / "t.csv").write_text("path,label,mask\nd/normal/a.nii,normal,d/normal/a.nii\n")
    masks = open_source(tmp_path / "t.csv").read_masks(range(5))
    np.testing.assert_array_equal(masks, np.isfinite(seen))
    for wrong, words in ((np.inf, "infinite or beyond float32"), (1e39, "beyond float32"), (np.nan, "no number in it")):
        save(
            np.where(np.isnan(values) | np.isnan(wrong), wrong, values.astype(np.float64)),
            tmp_path / "d" / "normal" / "a.nii",
        )
        with pytest.raises(UserError, match=words):
            open_source(tmp_path / "d").read([0])


def test_a_csv_names_a_label_for_each_slice_and_a_volume_of_masks(tmp_path: Path, volume: np.ndarray) -> None:
    save(volume, tmp_path / "a.nii.gz")
    save((volume > 60).astype(np.int16) * 3, tmp_path / "m.nii.gz")
    rows = "".join(f"a.nii.gz,m.nii.gz,{label},{i}\n" for i, label in ((4, "sick"), (1, "healthy")))
    (tmp_path / "t.csv").write_text("path,mask,label,slice\n" + rows)
    source = open_source(tmp_path / "t.csv", positive="sick", negative="healthy")
    assert source.labels.tolist() == [1, 0] and source.column("slice").tolist() == ["4", "1"]
    images, masks = source.read([0, 1])[..., 0], source.read_masks([0, 1])
    np.testing.assert_array_equal(images, np.stack([volume[::-1, ::-1, i].T for i in (4, 1)]))
    np.testing.assert_array_equal(masks, images > 60)
    save(np.ones((4, 5, 7), np.uint8), tmp_path / "m.nii.gz")
    with pytest.raises(UserError, match="has 7 slices but its image 6"):
        open_source(tmp_path / "t.csv", positive="sick", negative="healthy").read_masks([0])


def test_a_column_that_does_not_choose_of_what_a_file_has_is_refused(tmp_path: Path, volume: np.ndarray) -> None:
    save(volume, tmp_path / "a.nii")
    table = tmp_path / "t.csv"
    table.write_text("path,label,frame\na.nii,normal,0\na.nii,tumor,3\n")
    with pytest.raises(UserError, match="a.nii has slices and no frames: name the column 'slice'"):
        open_source(table)
    table.write_text("path,label,Slice,frame\na.nii,normal,0,\na.nii,tumor,3,9\n")
    source = open_source(table)
    assert source.ids.tolist() == ["a.nii#0000", "a.nii#0003"]
    assert any("1 file read in axial slices" in note for note in source.notes)


def test_a_mask_that_lies_elsewhere_is_refused(tmp_path: Path, volume: np.ndarray) -> None:
    affine = np.array([[0, 2.0, 0, -9], [-3.0, 0, 0, 4], [0, 0, 1.5, 7], [0, 0, 0, 1]])
    image = nibabel.Nifti1Image(volume, affine)
    nibabel.save(image, tmp_path / "a.nii")
    mask = nibabel.Nifti1Image((volume > 60).astype(np.uint8), affine)
    nibabel.save(nibabel.as_closest_canonical(mask), tmp_path / "m.nii")
    (tmp_path / "t.csv").write_text("path,label,mask,slice\na.nii,normal,m.nii,0\na.nii,tumor,m.nii,1\n")
    source = open_source(tmp_path / "t.csv")
    np.testing.assert_array_equal(source.read_masks([0, 1]), source.read([0, 1])[..., 0] > 60)
    shift = np.zeros((4, 4))
    shift[:3, 3] = 500, 0, 1
    for wrong in (affine + shift, affine @ np.diag([1.5, 1, 1, 1]), affine @ np.diag([1, 1, -1, 1])):
        nibabel.save(nibabel.as_closest_canonical(nibabel.Nifti1Image(mask.get_fdata(), wrong)), tmp_path / "m.nii")
        with pytest.raises(UserError, match="m.nii lies elsewhere in the body than its image a.nii"):
            source.read_masks([0])
    nibabel.save(nibabel.Nifti1Image(mask.get_fdata(), affine + 1e-3), tmp_path / "m.nii")
    assert source.read_masks([0]) is not None


def test_one_volume_by_itself_serves_where_classes_need_not_be_said(tmp_path: Path, volume: np.ndarray) -> None:
    path = save(volume, tmp_path / "a.nii.gz")
    with pytest.raises(UserError, match="does not say the class of its images"):
        open_source(path)
    source = open_source(path, unlabelled=("no", "yes"), reading="axis=coronal", keep_other=True)
    assert len(source) == 5 and set(source.labels.tolist()) == {-1}


def test_what_is_no_volume_is_refused_in_a_sentence(tmp_path: Path) -> None:
    save(np.zeros((2, 2, 2), np.complex64), tmp_path / "d" / "normal" / "a.nii")
    with pytest.raises(UserError, match="holds complex64 and no gray"):
        open_source(tmp_path / "d")
    (tmp_path / "e" / "normal").mkdir(parents=True)
    (tmp_path / "e" / "normal" / "a.nii.gz").write_bytes(b"no volume")
    with pytest.raises(UserError, match="cannot be read as NIfTI"):
        open_source(tmp_path / "e")
    whole = save(np.random.default_rng(0).random((9, 9, 9)), tmp_path / "f" / "normal" / "a.nii")
    whole.write_bytes(whole.read_bytes()[:-900])
    with pytest.raises(UserError, match="cannot be read as NIfTI"):
        open_source(tmp_path / "f").read([0])
    flat = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4))
    flat.header.set_sform(np.diag([1.0, 0, 1, 1]), code=2)
    (tmp_path / "g" / "normal").mkdir(parents=True)
    nibabel.save(
        nibabel.Nifti1Image(np.zeros((2, 2, 2), np.uint8), None, flat.header), tmp_path / "g" / "normal" / "a.nii"
    )
    with pytest.raises(UserError, match="does not say how it lies in the body"):
        open_source(tmp_path / "g")


def test_pixels_out_of_proportion_are_said(tmp_path: Path, volume: np.ndarray) -> None:
    save(volume, tmp_path / "d" / "normal" / "a.nii", affine=np.diag([1.0, 1, 5, 1]))
    assert not any("not square" in note for note in open_source(tmp_path / "d").notes)
    assert any("not square" in note for note in open_source(tmp_path / "d", reading="axis=coronal").notes)


def test_without_nibabel_the_sentence_says_what_to_install(
    tmp_path: Path, volume: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(volume, tmp_path / "d" / "normal" / "a.nii")
    monkeypatch.setitem(__import__("sys").modules, "nibabel", None)
    with pytest.raises(UserError, match=r"pip install 'cfdiff\[nifti\]'"):
        open_source(tmp_path / "d")


def test_a_volume_of_probabilities_is_no_mask(tmp_path: Path) -> None:
    """As SPM and FSL write them for each tissue: every value but 0 would count."""
    save(np.zeros((8, 9, 10), np.uint8), tmp_path / "a.nii")
    save(np.random.default_rng(0).random((8, 9, 10)).astype(np.float32).clip(0.3) - 0.3, tmp_path / "m.nii")
    (tmp_path / "t.csv").write_text("path,label,mask\na.nii,normal,m.nii\n")
    with pytest.raises(UserError, match=r"The mask m\.nii is one in which most neighbours differ"):
        open_source(tmp_path / "t.csv").read_masks([0])


def test_what_a_file_does_not_say_of_left_and_right_and_of_black_and_white_is_said(
    tmp_path: Path, volume: np.ndarray
) -> None:
    save(volume.astype(np.int16), tmp_path / "d" / "normal" / "a.nii", sform_code=1)
    notes = " ".join(open_source(tmp_path / "d").notes)
    assert "left and right" not in notes and "the least and the greatest value of each" in notes
    silent = nibabel.Nifti1Image(volume.astype(np.int16), None)
    silent.header["cal_max"] = 9
    nibabel.save(silent, tmp_path / "d" / "normal" / "a.nii")
    source = open_source(tmp_path / "d")
    notes = " ".join(source.notes)
    assert "neither qform nor sform" in notes and "cal_min, cal_max" in notes
    np.testing.assert_array_equal(source.read([2])[0, ..., 0] > 0, volume[:, ::-1, 2].T > 0)  # the right on the left
    assert "--reading window" not in " ".join(open_source(tmp_path / "d", reading="window=0:9").notes)
