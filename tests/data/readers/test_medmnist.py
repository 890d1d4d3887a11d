from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cfdiff.data import open_source
from cfdiff.errors import UserError


def write(path: Path, labels: int, size: int = 28) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    arrays = {}
    for split, n in (("train", 2 * labels), ("val", labels), ("test", labels)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (n, size, size), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(n) % labels).reshape(n, 1).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return arrays


def test_a_set_is_opened_by_its_name_and_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    arrays = write(tmp_path / ".medmnist" / "pneumoniamnist_64.npz", 2, 64)
    source = open_source("pneumoniamnist_64", split="val")
    assert source.shape == (64, 64, 1) and source.classes == ("normal", "pneumonia")
    np.testing.assert_array_equal(source.read([0, 1])[..., 0], arrays["val_images"])
    same = open_source(tmp_path / ".medmnist" / "pneumoniamnist_64.npz", split="val")
    assert same.fingerprint == source.fingerprint
    with pytest.raises(UserError, match=r"medmnist\.OrganCMNIST\(split='train', size=128, download=True\)"):
        open_source("organcmnist_128")
    with pytest.raises(UserError, match="There is no data at 'pneumoniamnist_65'"):
        open_source("pneumoniamnist_65")


def test_classes_have_their_names_and_the_malignant_one_is_not_taken_for_negative(tmp_path: Path) -> None:
    write(tmp_path / "breastmnist.npz", 2)
    with pytest.raises(UserError, match="malignant"):
        open_source(tmp_path / "breastmnist.npz")
    source = open_source(tmp_path / "breastmnist.npz", positive="malignant")
    assert source.classes == ("normal, benign", "malignant")
    assert source.labels.tolist() == [1, 0] * 4
    write(tmp_path / "pathmnist_224.npz", 9, 16)
    names = {"negative": "normal colon mucosa", "positive": "colorectal adenocarcinoma epithelium"}
    source = open_source(tmp_path / "pathmnist_224.npz", **names)
    assert len(source) == 8 and source.labels.tolist() == [0, 1] * 4


def test_a_file_of_another_name_keeps_its_numbers(tmp_path: Path) -> None:
    write(tmp_path / "mine.npz", 2)
    assert open_source(tmp_path / "mine.npz").classes == ("0", "1")
