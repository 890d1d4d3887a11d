from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from cfdiff.data import open_source
from cfdiff.errors import UserError

SPLITS = {"train": 5, "valid": 3, "test": 4}


def write(folder: Path, split: str, n: int, seed: int, masks: bool = True) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    arrays = {
        "x": rng.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8),
        "y": (np.arange(n) % 2).reshape(n, 1, 1, 1).astype(np.uint8),
        "mask": rng.integers(0, 2, (n, 8, 8, 1), dtype=np.uint8) * 255,
    }
    stem = f"camelyonpatch_level_2_split_{split}"
    for key, array in arrays.items():
        if key != "mask" or masks:
            with h5py.File(folder / f"{stem}_{key}.h5", "w") as file:
                file[key] = array
    rows = "".join(f"{i},True,True,slide_{split}_{i // 2},{i},{i}\n" for i in range(n))
    (folder / f"{stem}_meta.csv").write_text(f",tumor_patch,center_tumor_patch,wsi,coord_x,coord_y\n{rows}")
    return arrays


def test_a_folder_of_all_files_is_one_source_with_splits_slides_and_masks(tmp_path: Path) -> None:
    parts = [write(tmp_path, split, n, seed) for seed, (split, n) in enumerate(SPLITS.items())]
    source = open_source(tmp_path)
    assert source.ids[[0, 5, 11]].tolist() == ["train/000000", "val/000000", "test/000003"]
    assert source.splits is not None and source.groups is not None
    assert source.splits.tolist() == ["train"] * 5 + ["val"] * 3 + ["test"] * 4
    assert source.groups[[0, 2, 11]].tolist() == ["slide_train_0", "slide_train_1", "slide_test_1"]
    order = np.array([11, 0, 6, 2])
    for read, key in ((source.read, "x"), (source.read_masks, "mask")):
        everything = np.concatenate([part[key] for part in parts])
        expected = everything if key == "x" else everything[..., 0] > 0
        np.testing.assert_array_equal(read(order), expected[order])
    assert source.labels.tolist() == np.concatenate([part["y"].ravel() for part in parts]).tolist()
    test = open_source(tmp_path, split="test")
    np.testing.assert_array_equal(test.read([1, 0]), parts[2]["x"][[1, 0]])
    before = test.fingerprint
    write(tmp_path, "train", 5, seed=9)
    assert open_source(tmp_path, split="test").fingerprint == before != open_source(tmp_path).fingerprint


def test_a_single_split_has_its_masks_too_and_one_without_them_leaves_all_without(tmp_path: Path) -> None:
    arrays = write(tmp_path, "test", 4, 0)
    write(tmp_path, "valid", 4, 1, masks=False)
    one = open_source(tmp_path / "camelyonpatch_level_2_split_test_x.h5")
    np.testing.assert_array_equal(one.read_masks([2, 1]), arrays["mask"][[2, 1], ..., 0] > 0)
    both = open_source(tmp_path)
    assert both.mask_reader is None and any("split_valid_x.h5 has none" in note for note in both.notes)


def test_masks_of_other_images_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "test", 4, 0)
    with h5py.File(tmp_path / "camelyonpatch_level_2_split_test_mask.h5", "w") as file:
        file["mask"] = np.zeros((3, 8, 8, 1), np.uint8)
    with pytest.raises(UserError, match="masks of shape"):
        open_source(tmp_path)
