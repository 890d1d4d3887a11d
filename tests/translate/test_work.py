"""What a worker on another machine makes of the settings: the parts that the owner of the run would have made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cfdiff.edit.roles import load_cast
from cfdiff.edit.sight import Sight
from cfdiff.edit.tiling import tiles_of
from cfdiff.errors import UserError
from cfdiff.store import RunParts
from cfdiff.store.part_files import PartFiles
from cfdiff.translate import work
from cfdiff.translate.run import translate
from cfdiff.translate.select import select_images


@pytest.fixture(scope="module")
def big(toys: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve toy images of 28 px, four tiles of 16 each."""
    return toys.write_npz(tmp_path_factory.mktemp("big") / "big.npz", 12, size=28)


def test_a_worker_edits_by_tiles_as_the_owner_does(
    toy: Any, big: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = toy.settings(tmp_path / "run.h5", data=str(big), tile=16, limit=2, steps=3, retries=0, ratio=1.0, batch_size=2)
    kept: list[dict[str, np.ndarray]] = []
    real = PartFiles.write

    def note(self: PartFiles, start: int, arrays: dict[str, np.ndarray]) -> None:
        kept.append(arrays)
        real(self, start, arrays)

    monkeypatch.setattr(PartFiles, "write", note)
    translate(s)
    source, _, _ = select_images(s)
    seen = Sight.of(source, load_cast(s, s.data, source, tiles_of(s)))
    with RunParts(tmp_path / "other.h5", {"command": "translate"}, 2, 2) as run:
        work.part_writer(s, run.files, seen)((0, 2))
        run.wrote(0)
        assert run.missing() == []
    here, there = kept
    assert here.keys() == there.keys() and all((here[name] == there[name]).all() for name in here)


def test_a_part_that_does_not_fit_the_memory_of_a_worker_is_made_in_halves(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = toy.settings(tmp_path / "run.h5", limit=4, steps=2, retries=0, batch_size=4)
    source, _, _ = select_images(s)
    seen, real, sizes = Sight.of(source, load_cast(s, s.data, source)), work.translate_batch, list[int]()

    def small(editor: Any, s: Any, source: Any, rows: np.ndarray, target: int) -> dict[str, np.ndarray]:
        sizes.append(len(rows))
        if len(rows) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return real(editor, s, source, rows, target)

    monkeypatch.setattr(work, "translate_batch", small)
    with RunParts(tmp_path / "run.h5", {"command": "translate"}, 4, 4) as run:
        work.part_writer(s, run.files, seen)((0, 4))
        run.wrote(0)
        assert sizes == [4, 2, 2] and run.missing() == []


def test_a_worker_that_sees_other_images_is_refused(toy: Any, tmp_path: Path) -> None:
    s = toy.settings(tmp_path / "run.h5", limit=4)
    source, _, _ = select_images(s)
    seen = Sight.of(source, load_cast(s, s.data, source))
    with RunParts(tmp_path / "run.h5", {"command": "translate"}, 4, 4) as run:
        fewer = s.model_copy(update={"limit": 3})
        with pytest.raises(UserError, match="A worker sees other images than the process that started the run"):
            work.part_writer(fewer, run.files, seen)
