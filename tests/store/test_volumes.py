"""Results whose images lie in several files: one file opens them all, and none of another run's."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from store.toy import ATTRS, PART, N, batch

from cfdiff.errors import UserError
from cfdiff.store import RunParts, open_result

VOLUME = PART + 1
"""Images of a volume, so that parts lie on both sides of a cut."""


def written(out: Path, volume: int | None = VOLUME, *, seed: int = 0, **more: Any) -> Path:
    with RunParts(out, {"command": "translate", "seed": seed}, N, PART, **more) as run:
        for start, stop in run.todo():
            run.write(start, batch(start, stop))
        return run.join(ATTRS, volume)


def volumes(folder: Path) -> list[Path]:
    return sorted(folder.glob("run.*-*.h5"))


def test_one_file_opens_the_images_of_all_and_any_tool_of_hdf5_does(tmp_path: Path) -> None:
    whole, cut = written(tmp_path / "whole.h5", None), written(tmp_path / "run.h5")
    there = volumes(tmp_path)
    assert len(there) == -(-N // VOLUME) and not list(tmp_path.glob("*.parts"))
    with open_result(whole) as one, open_result(cut) as many:
        assert one.names == many.names
        for name in one.names:
            assert np.array_equal(one[name][:], many[name][:]) and many[name].dtype == one[name].dtype
        images = one.source[:]
    with h5py.File(cut) as plain:
        assert plain["source"].is_virtual and np.array_equal(plain["source"][:], images)
        assert not plain["label"].is_virtual
    assert sum(path.stat().st_size for path in there) > cut.stat().st_size / 4
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for path in [cut, *there]:
        shutil.move(path, moved)
    with open_result(moved / "run.h5") as many:
        assert np.array_equal(many.source[:], images)
    assert written(tmp_path / "few.h5", N) and not list(tmp_path.glob("few.*-*.h5"))


def test_a_volume_that_is_gone_or_another_runs_is_one_sentence_and_no_zeros(tmp_path: Path) -> None:
    cut = written(tmp_path / "run.h5")
    second = volumes(tmp_path)[1]
    away = second.rename(tmp_path / "away")
    with pytest.raises(UserError, match=f"{second.name}, which is not beside it"):
        open_result(cut)
    (tmp_path / "other").mkdir()
    written(tmp_path / "other" / "run.h5", seed=1)
    shutil.copy(volumes(tmp_path / "other")[1], second)
    with pytest.raises(UserError, match=f"{second.name} is no volume of run.h5"):
        open_result(cut)
    second.write_bytes(away.read_bytes()[:500])
    with pytest.raises(UserError, match="damaged"):
        open_result(cut)
    away.replace(second)
    open_result(cut).close()


@pytest.mark.parametrize(
    "named",
    ["[]", "3", '[["../run.abcdefabcdef-0000.h5", 3]]', '[["secret.h5", 3]]', '[["run.abcdefabcdef-0000.h5", -1]]'],
)
def test_names_of_volumes_that_cannot_be_are_not_followed(tmp_path: Path, named: str) -> None:
    cut = written(tmp_path / "run.h5")
    with h5py.File(cut, "a") as file:
        file.attrs["volumes"] = named
    with pytest.raises(UserError, match="names volumes that cannot be"):
        open_result(cut)


def test_virtual_data_sets_of_other_files_are_not_followed(tmp_path: Path) -> None:
    cut = written(tmp_path / "run.h5")
    with h5py.File(tmp_path / "secret.h5", "w") as file, h5py.File(cut, "a") as mine:
        file["source"] = mine["source"][:]
        whole = h5py.VirtualLayout(mine["source"].shape, mine["source"].dtype)
        whole[:] = h5py.VirtualSource(file["source"])
        del mine["source"]
        mine.create_virtual_dataset("source", whole)
    with pytest.raises(UserError, match="not put together from the volumes"):
        open_result(cut)
    with h5py.File(cut, "a") as mine:
        del mine.attrs["volumes"]
    with pytest.raises(UserError, match="virtual"):
        open_result(cut)


def test_what_is_replaced_leaves_no_volume_and_a_join_that_is_stopped_loses_nothing(tmp_path: Path) -> None:
    out = written(tmp_path / "run.h5")
    old = volumes(tmp_path)
    like = tmp_path / "run.abcdefabcdef-0000.h5"
    like.write_bytes(b"somebody's own")

    class Stopped(Exception):
        pass

    def killed() -> None:
        raise Stopped

    with RunParts(out, {"command": "translate", "seed": 1}, N, PART, force=True) as run:
        for start, stop in run.todo():
            run.write(start, batch(start, stop))
        run._require_ours = killed  # type: ignore[method-assign]
        with pytest.raises(Stopped):
            run.join(ATTRS, VOLUME)
    open_result(out).close()  # the old one is whole, with its volumes beside it
    written(out, seed=1, force=True)
    new = volumes(tmp_path)
    assert not set(old) & set(new) and len(new) == len(old) + 1 and like in new
    with open_result(out) as result:
        assert result.settings["seed"] == 1 and result.attrs["volumes"][0][1] == VOLUME
    written(out, None, seed=2, force=True)
    assert volumes(tmp_path) == [like]
