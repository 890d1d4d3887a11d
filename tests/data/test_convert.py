from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cfdiff.data import open_source
from cfdiff.data.convert import convert
from cfdiff.data.fit import Fit
from cfdiff.errors import UserError


@pytest.fixture
def full(tmp_path: Path, pixels: np.ndarray) -> Path:
    path = tmp_path / "full.npz"
    np.savez(
        path,
        images=pixels,
        labels=np.array(["cat", "dog"] * 3),
        id=np.array(list("fedcba")),
        patient=np.array(list("xxyyzz")),
        split=np.array(["train"] * 4 + ["test"] * 2),
        masks=pixels > 99,
    )
    return path


def test_a_converted_source_reads_back_as_the_same(tmp_path: Path, full: Path) -> None:
    before = open_source(full, negative="dog", positive="cat")
    after = open_source(convert(before, tmp_path / "out.npz"))
    everything = np.arange(6)
    assert after.classes == ("dog", "cat")
    for field in ("ids", "labels", "groups", "splits"):
        np.testing.assert_array_equal(getattr(after, field), getattr(before, field))
    np.testing.assert_array_equal(after.read(everything), before.read(everything))
    np.testing.assert_array_equal(after.read_masks(everything), before.read_masks(everything))


def test_a_fit_applies_to_images_and_masks(tmp_path: Path, full: Path) -> None:
    source = open_source(full, positive="dog", fit=Fit(3, 3))
    after = open_source(convert(source, tmp_path / "out.npz"))
    assert after.shape == (3, 3, 3)
    assert after.read_masks([0]).shape == (1, 3, 3)


def test_an_existing_file_is_only_overwritten_when_forced(tmp_path: Path, full: Path) -> None:
    source = open_source(full, positive="dog")
    out = tmp_path / "out.npz"
    out.write_text("mine")
    with pytest.raises(UserError, match="out.npz exists already"):
        convert(source, out)
    assert out.read_text() == "mine"
    assert len(open_source(convert(source, out, force=True))) == 6


def test_a_folder_of_that_name_is_one_sentence_and_nothing_is_left(tmp_path: Path, full: Path) -> None:
    (tmp_path / "out.npz").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="Is a directory"):
        convert(open_source(full, negative="cat", positive="dog"), tmp_path / "out.npz", force=True)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_output_that_is_no_npz_or_cannot_be_written_is_an_error(tmp_path: Path, full: Path) -> None:
    source = open_source(full, positive="dog")
    with pytest.raises(UserError, match=r"name it out\.npz"):
        convert(source, tmp_path / "out.h5")
    with pytest.raises(UserError, match="Cannot write"):
        convert(source, full / "below-a-file" / "out.npz")
