"""Shards of a run in parts, and their join: the file of one process, and whoever is missing is named."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from cfdiff.errors import UserError
from cfdiff.progress import silent
from cfdiff.shard import Shard
from cfdiff.store import RunParts
from cfdiff.store.join import join_shards, read_record
from cfdiff.store.shards import read_manifests, write_attributes_file


def _toy() -> ModuleType:
    spec = importlib.util.spec_from_file_location("toy", Path(__file__).with_name("toy.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


toy = _toy()


def do(out: Path, number: int, of: int = 3, stop_at: int = toy.N) -> list[int]:
    """Do one shard, or the parts of it before `stop_at`; the starts of those that it computed."""
    done = []
    with RunParts(out, toy.SETTINGS, toy.N, toy.PART, shard=Shard(number, of)) as run:
        for start, stop in run.todo():
            if start >= stop_at:
                return done
            run.write(start, toy.batch(start, stop))
            done.append(start)
        if number == 1:
            write_attributes_file(run.folder, toy.ATTRS)
        run.finish_shard()
    return done


@pytest.fixture
def alone(tmp_path: Path) -> bytes:
    toy.run(tmp_path / "alone.h5")
    return (tmp_path / "alone.h5").read_bytes()


@pytest.mark.parametrize("of", [1, 3, 6, 9])
def test_in_any_order_the_join_is_the_file_of_one_process(tmp_path: Path, alone: bytes, of: int) -> None:
    out = tmp_path / "run.h5"
    done = [start for number in range(of, 0, -1) for start in do(out, number, of)]
    assert sorted(done) == list(range(0, toy.N, toy.PART)) and not out.exists()
    join_shards(out, False, silent)
    assert out.read_bytes() == alone
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone.h5", "run.h5"]


def test_a_join_names_the_shards_that_are_missing_and_those_whose_parts_were_lost(tmp_path: Path, alone: bytes) -> None:
    out = tmp_path / "run.h5"
    with pytest.raises(UserError, match="nothing to join"):
        join_shards(out, False, silent)
    do(out, 2, stop_at=12)
    with pytest.raises(UserError, match="No shard has finished.*5 of 6 parts are missing"):
        join_shards(out, False, silent)
    do(out, 1)
    said = r"3 of 6 parts are missing, of 2 of 3 shards; run the command again with --shard K/3 for K = 2-3"
    with pytest.raises(UserError, match=said):
        join_shards(out, False, silent)
    assert do(out, 2) == [12] and do(out, 3) == [16, 20]
    (tmp_path / "run.h5.parts" / "part-00000004.h5").unlink()
    with pytest.raises(UserError, match=r"1 of them had finished.*for K = 1\."):
        join_shards(out, False, silent)
    assert do(out, 1) == [4]
    part = tmp_path / "run.h5.parts" / "part-00000020.h5"
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"part-00000020.h5 is damaged.*as --shard 3/3"):
        join_shards(out, False, silent)
    assert not out.exists() and do(out, 3) == [20]
    join_shards(out, False, silent)
    assert out.read_bytes() == alone


def test_shards_are_at_work_side_by_side_but_nobody_joins_meanwhile_and_none_twice(tmp_path: Path) -> None:
    out = tmp_path / "run.h5"
    with RunParts(out, toy.SETTINGS, toy.N, toy.PART, shard=Shard(1, 2)):
        with RunParts(out, toy.SETTINGS, toy.N, toy.PART, shard=Shard(2, 2)) as other:
            assert [start for start, _ in other.missing()] == [12, 16, 20]
        with pytest.raises(UserError, match="at work on the same shard of"):
            RunParts(out, toy.SETTINGS, toy.N, toy.PART, shard=Shard(1, 2))
        for force in (False, True):
            with pytest.raises(UserError, match="at work"):
                RunParts(out, toy.SETTINGS, toy.N, toy.PART, force=force)
        with pytest.raises(UserError, match="at work"):
            join_shards(out, False, silent)
        with pytest.raises(UserError, match=r"other settings \(direction was .*stop it"):
            RunParts(out, {"steps": 1}, toy.N, toy.PART, shard=Shard(2, 2), force=True)
        with pytest.raises(UserError, match="unfinished run with other settings"):
            RunParts(out, {"steps": 1}, toy.N, toy.PART, shard=Shard(2, 2))


def test_a_whole_run_goes_on_with_what_shards_have_done(tmp_path: Path, alone: bytes) -> None:
    out = tmp_path / "run.h5"
    do(out, 2)
    assert toy.run(out) == [0, 4, 16, 20]
    assert out.read_bytes() == alone


def test_a_shard_of_a_finished_file_does_nothing_also_where_the_join_was_killed_at_its_end(
    tmp_path: Path, alone: bytes
) -> None:
    out = tmp_path / "alone.h5"
    with RunParts(out, toy.SETTINGS, toy.N, toy.PART, shard=Shard(2, 3)) as run:
        assert run.finished and run.missing() == []
    with pytest.raises(UserError, match="exists already"):
        RunParts(out, {**toy.SETTINGS, "seed": 9}, toy.N, toy.PART, shard=Shard(2, 3))
    (tmp_path / "alone.h5.parts").mkdir()  # what a join leaves that is killed before it clears up
    with RunParts(out, toy.SETTINGS, toy.N, toy.PART, shard=Shard(2, 3)) as run:
        assert run.finished and run.missing() == []
    assert out.read_bytes() == alone and list((tmp_path / "alone.h5.parts").iterdir()) == []


def test_manifests_say_what_was_done_and_a_damaged_one_counts_as_none(tmp_path: Path) -> None:
    out = tmp_path / "run.h5"
    do(out, 3)
    folder = tmp_path / "run.h5.parts"
    assert [(m.shard, m.pieces) for m in read_manifests(folder)] == [
        (Shard(3, 3), ("part-00000016.h5", "part-00000020.h5"))
    ]
    (folder / "shard-00003-of-00003.json").write_text("{")
    assert read_manifests(folder) == []


def test_parts_of_another_version_are_not_joined(tmp_path: Path) -> None:
    out = tmp_path / "run.h5"
    do(out, 1, 1)
    record = tmp_path / "run.h5.parts" / "settings.json"
    record.write_text(record.read_text().replace('"cfdiff version": "', '"cfdiff version": "0.'))
    with pytest.raises(UserError, match=r"written by cfdiff 0\..*run the shards again"):
        read_record(out)
    record.write_text("{")
    with pytest.raises(UserError, match="damaged"):
        join_shards(out, True, silent)
