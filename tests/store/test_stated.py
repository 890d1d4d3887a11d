from __future__ import annotations

import importlib.util
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from cfdiff.errors import UserError
from cfdiff.files import atomic
from cfdiff.shard import Shard
from cfdiff.store import RunParts
from cfdiff.store.bags import BagParts
from cfdiff.store.output import parts_dir
from cfdiff.store.stated import stated_batch

spec = importlib.util.spec_from_file_location("toy", Path(__file__).with_name("toy.py"))
assert spec is not None and spec.loader is not None
toy = importlib.util.module_from_spec(spec)
spec.loader.exec_module(toy)


def told(number: int, **more: Any) -> dict[str, Any]:
    return {**toy.SETTINGS, "batch_size": number, **more}


def test_a_run_states_its_batch_size_while_it_goes_on_and_when_it_is_finished(tmp_path: Path) -> None:
    out = tmp_path / "run.h5"
    assert stated_batch(out, told(1)) is None
    with RunParts(out, told(4), toy.N, 4) as run:
        assert stated_batch(out, told(1)) == 4
        for start, stop in run.todo():
            run.write(start, toy.batch(start, stop))
        run.join({"seed": 0, "models": {}, "direction": "a"})
    assert not parts_dir(out).exists() and stated_batch(out, told(1)) == 4
    assert stated_batch(out, told(1), force=True) == 4
    assert stated_batch(out, told(1, seed=99), force=True) is None, "another run, which is thrown away"
    assert stated_batch(out, told(1, seed=99)) == 4


@pytest.mark.parametrize("damage", ["", "[1]", '{"settings": 3}', '{"settings": {"batch_size": true}}', "{}"])
def test_what_is_damaged_states_nothing(tmp_path: Path, damage: str) -> None:
    out = tmp_path / "run.h5"
    parts_dir(out).mkdir()
    (parts_dir(out) / "settings.json").write_text(damage)
    assert stated_batch(out, told(1)) is None


def test_who_found_a_number_takes_the_one_that_is_stated(tmp_path: Path) -> None:
    out = tmp_path / "run.h5"
    with (
        RunParts(out, told(4), toy.N, 4, shard=Shard(1, 2), adopts=True) as first,
        RunParts(out, told(2), toy.N, 2, shard=Shard(2, 2), adopts=True) as second,
    ):
        assert (first.part_size, second.part_size, second.settings["batch_size"]) == (4, 4, 4)
        assert first.files == second.files
    with pytest.raises(UserError, match="batch_size was 4, now 2"):
        RunParts(out, told(2), toy.N, 2)
    with pytest.raises(UserError, match=r"part size was 4, now 2; batch_size was 4, now 2; seed was null, now 99"):
        RunParts(out, told(2, seed=99), toy.N, 2, adopts=True)


def test_bags_take_the_number_and_their_pieces_stay(tmp_path: Path) -> None:
    out = tmp_path / "bags.h5"
    with (
        BagParts(out, told(1), shard=Shard(1, 2), adopts=True) as first,
        BagParts(out, told(8), shard=Shard(2, 2), adopts=True) as second,
    ):
        assert first.settings == second.settings == told(1)
        assert first.part_size == second.part_size == 1


def test_of_many_that_state_a_number_at_once_one_has_its_way(tmp_path: Path) -> None:
    path, go = tmp_path / "settings.json", threading.Barrier(8)

    def state(number: int) -> None:
        with atomic(path, first=True) as scratch:
            scratch.write_text(json.dumps(number))
            go.wait()

    threads = [threading.Thread(target=state, args=(number,)) for number in range(8)]
    seen = list[str]()
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if path.exists():
            seen.append(path.read_text())
    assert len({*seen, path.read_text()}) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_where_a_file_has_one_name_only_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*given: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", none)
    for words in ("first", "second"):
        with atomic(tmp_path / "a", first=True) as scratch:
            scratch.write_text(words)
    assert (tmp_path / "a").read_text() == "first" and len(list(tmp_path.iterdir())) == 1
