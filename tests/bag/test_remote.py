"""Bags of machines that share no folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from stores import Odd, memory, odd

from cfdiff.bag.run import bag
from cfdiff.bag.settings import BagSettings
from cfdiff.errors import UserError
from cfdiff.join.run import join
from cfdiff.join.settings import JoinSettings

__all__ = ["memory", "odd"]
URL = "odd://b/run"


def settings(toy: Any, out: Path, **changes: Any) -> BagSettings:
    quick = {"data": str(toy.data), "weights": str(toy.weights), "out": out, "device": "cpu", "batch_size": 4}
    quick |= {"steps": 4, "depth": 0.4, "retries": 0, "threads": 1, "mix": "0,1", "bags": 3}
    out.parent.mkdir(exist_ok=True)
    return BagSettings(**{**quick, **changes})


@pytest.mark.parametrize("mode", ["instance", "joint"])
def test_shards_without_a_shared_folder_and_their_join_make_the_file_of_one_process(
    toy: Any, tmp_path: Path, odd: type[Odd], mode: str
) -> None:
    alone, out = tmp_path / "alone.h5", tmp_path / "joined" / "run.h5"
    bag(settings(toy, alone, mode=mode))
    out.parent.mkdir()
    found = bag(settings(toy, tmp_path / "1" / "run.h5", mode=mode, shard="1/2", remote=URL))
    assert found.rows()[-1][1] == f"cfdiff join run.h5 --remote {URL}"
    with pytest.raises(UserError, match=r"1 of 2 shards have not finished.*--shard K/2 for K = 2"):
        join(JoinSettings(run=out, device="cpu", remote=URL))
    bag(settings(toy, tmp_path / "2" / "run.h5", mode=mode, shard="2/2", remote=URL))
    shutil.rmtree(tmp_path / "2")
    # Another machine is told to do the second again, and finds all of it done.
    puts: list[str] = []
    odd.on["put"] = puts.append  # type: ignore[assignment]
    bag(settings(toy, tmp_path / "3" / "run.h5", mode=mode, shard="2/2", remote=URL))
    assert sorted(Path(path).suffix for path in puts) == [".json", ".json"]  # the command and the manifest
    join(JoinSettings(run=out, device="cpu", remote=URL))
    assert out.read_bytes() == alone.read_bytes()
    assert odd.store == {} and [path.name for path in out.parent.iterdir()] == ["run.h5"]


class Stop(Exception):
    """Stands for whatever ends a process."""


@pytest.mark.parametrize("mode", ["instance", "joint"])
def test_a_run_goes_on_elsewhere_and_a_damaged_piece_is_done_again(
    toy: Any, tmp_path: Path, odd: type[Odd], mode: str
) -> None:
    def stop(what: str, done: int, n: int) -> None:
        if done == n:
            raise Stop

    alone, out = tmp_path / "alone.h5", tmp_path / "2" / "run.h5"
    bag(settings(toy, alone, mode=mode))
    with pytest.raises(Stop):
        bag(settings(toy, tmp_path / "1" / "run.h5", mode=mode, remote=URL), stop)
    pieces = sorted(path for path in odd.store if path.endswith(".h5"))
    assert len(pieces) > 2
    content = odd().cat_file(pieces[0])
    odd().pipe_file(pieces[0], content[:200] + bytes([content[200] ^ 1]) + content[201:])
    puts: list[str] = []
    odd.on["put"] = puts.append  # type: ignore[assignment]
    bag(settings(toy, out, mode=mode, remote=URL))
    assert puts == [pieces[0]]
    assert out.read_bytes() == alone.read_bytes() and odd.store == {}


def test_a_shard_notes_down_no_secret_of_its_data(
    toy: Any, tmp_path: Path, memory: Any, odd: type[Odd], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CFDIFF_CACHE", str(tmp_path / "cache"))
    memory.put(str(toy.data), "/key:hidden@b/toy.npz")
    url = "memory://key:hidden@b/toy.npz"
    with pytest.raises(UserError, match="no secret: leave that out of the URL"):
        bag(settings(toy, tmp_path / "1" / "run.h5", data=url, shard="1/2", remote=URL))
    assert not any(b"hidden" in path.read_bytes() for path in (tmp_path / "1").rglob("*") if path.is_file())
    assert not any(b"hidden" in odd().cat_file(path) for path in odd.store)
