"""A run whose parts lie at an URL too: machines that share nothing but that make the bytes of one process."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from stores import Odd, failing, memory, odd

from cfdiff.errors import UserError
from cfdiff.progress import silent
from cfdiff.remote import TRIES
from cfdiff.shard import Shard
from cfdiff.store import RunParts
from cfdiff.store.join import fetch_shards, join_shards
from cfdiff.store.remote import RemoteParts
from cfdiff.store.shards import write_attributes_file

__all__ = ["memory", "odd"]
URL = "odd://bucket/run"


def _toy() -> ModuleType:
    spec = importlib.util.spec_from_file_location("toy", Path(__file__).with_name("toy.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


toy = _toy()
STARTS = list(range(0, toy.N, toy.PART))
PARTS = [f"part-{start:08d}.h5" for start in STARTS]


class Killed(Exception):
    """Stands for whatever ends a process."""


def do(
    out: Path,
    shard: str | None = None,
    *,
    stop_at: int = toy.N,
    force: bool = False,
    url: str = URL,
    settings: dict[str, Any] = toy.SETTINGS,
) -> list[int]:
    """Do a run or a shard of it, as `translate` does; the starts of the parts that were computed."""
    done, which = [], None if shard is None else Shard.parse(shard)
    out.parent.mkdir(exist_ok=True)
    with RunParts(out, settings, toy.N, toy.PART, shard=which, force=force, remote=RemoteParts.at(url)) as run:
        pieces = run.missing()
        run.push()
        for start, stop in pieces:
            if start >= stop_at:
                raise Killed
            run.files.write(start, toy.batch(start, stop))  # as a worker does
            run.wrote(start)
            done.append(start)
        if which is None:
            run.join(toy.ATTRS)
            return done
        if which.number == 1:
            write_attributes_file(run.folder, toy.ATTRS)
        run.finish_shard()
    return done


def join(out: Path, *, force: bool = False, url: str = URL) -> None:
    out.parent.mkdir(exist_ok=True)
    fetch_shards(out, url, force)
    join_shards(out, force, silent, url=url)


@pytest.fixture
def alone(tmp_path: Path) -> bytes:
    toy.run(tmp_path / "alone.h5")
    return (tmp_path / "alone.h5").read_bytes()


def there(fs: type[Odd]) -> list[str]:
    return sorted(path.removeprefix("/bucket/run/") for path in fs.store)


@pytest.mark.parametrize("of", [1, 2, 6, 9])
def test_shards_in_folders_of_their_own_are_joined_to_the_file_of_one_process(
    tmp_path: Path, alone: bytes, odd: type[Odd], of: int
) -> None:
    done = [start for number in range(of, 0, -1) for start in do(tmp_path / f"{number}" / "run.h5", f"{number}/{of}")]
    assert sorted(done) == STARTS and set(PARTS) < set(there(odd))
    out = tmp_path / "joined" / "run.h5"
    join(out)
    assert out.read_bytes() == alone
    assert there(odd) == [] and [path.name for path in out.parent.iterdir()] == ["run.h5"]
    join(out)  # once more, as after one that was killed before it said so
    assert out.read_bytes() == alone
    with pytest.raises(UserError, match=r"There is nothing to join at odd://bucket/run: give the --remote"):
        join(tmp_path / "other.h5")


def test_the_same_through_a_folder(tmp_path: Path, alone: bytes) -> None:
    url = f"file://{tmp_path}/remote"
    for number in (1, 2):
        do(tmp_path / f"{number}" / "run.h5", f"{number}/2", url=url)
    (tmp_path / "remote" / "theirs.txt").touch()
    join(tmp_path / "run.h5", url=url)
    assert (tmp_path / "run.h5").read_bytes() == alone
    assert [path.name for path in (tmp_path / "remote").iterdir()] == ["theirs.txt"]


def test_a_join_names_the_shards_that_are_missing_before_it_fetches_a_part(
    tmp_path: Path, alone: bytes, odd: type[Odd]
) -> None:
    do(tmp_path / "1" / "run.h5", "1/3")
    with pytest.raises(Killed):
        do(tmp_path / "2" / "run.h5", "2/3", stop_at=12)
    out = tmp_path / "joined" / "run.h5"
    with pytest.raises(UserError, match=r"3 of 6 parts are missing, of 2 of 3 shards; .*--shard K/3 for K = 2-3\."):
        join(out)
    assert not list(out.parent.rglob("part-*"))
    assert do(tmp_path / "4" / "run.h5", "2/3") == [12]  # another machine goes on where that one stopped
    do(tmp_path / "3" / "run.h5", "3/3")
    join(out)
    assert out.read_bytes() == alone


def test_a_whole_run_goes_on_elsewhere(tmp_path: Path, alone: bytes, odd: type[Odd]) -> None:
    with pytest.raises(Killed):
        do(tmp_path / "1" / "run.h5", stop_at=12)
    shutil.rmtree(tmp_path / "1")
    out = tmp_path / "2" / "run.h5"
    assert do(out) == STARTS[3:] and out.read_bytes() == alone and there(odd) == []


@pytest.mark.parametrize("how", ["cut", "flipped", "empty", "foreign"])
def test_a_damaged_part_at_the_remote_counts_as_missing(tmp_path: Path, alone: bytes, odd: type[Odd], how: str) -> None:
    first, other = tmp_path / "1" / "run.h5", tmp_path / "2" / "run.h5"
    do(first, "1/2")
    do(other, "2/2")
    whole = odd().cat_file(f"/bucket/run/{PARTS[4]}")
    bad = {"cut": whole[:-9], "empty": b"", "flipped": whole[:100] + bytes([whole[100] ^ 1]) + whole[101:]}
    with RunParts(tmp_path / "x.h5", {"steps": 1}, toy.N, toy.PART) as run:
        run.write(STARTS[4], toy.batch(STARTS[4], STARTS[5]))
        bad["foreign"] = run.files.path(STARTS[4]).read_bytes()
    odd().pipe_file(f"/bucket/run/{PARTS[4]}", bad[how])
    out = tmp_path / "joined" / "run.h5"
    with pytest.raises(UserError, match=r"1 of 6 parts are missing, of 1 of 2 shards \(1 of them had.*for K = 2\."):
        join(out)
    if how in ("cut", "flipped"):
        assert do(other, "2/2") == []  # who has it puts it there again
    else:
        assert do(tmp_path / "3" / "run.h5", "2/2") == [STARTS[4]]
    assert odd().cat_file(f"/bucket/run/{PARTS[4]}") == whole
    join(out)
    assert out.read_bytes() == alone


def test_a_part_that_a_store_lists_and_has_not_counts_as_missing(tmp_path: Path, alone: bytes, odd: type[Odd]) -> None:
    with pytest.raises(Killed):
        do(tmp_path / "1" / "run.h5", stop_at=12)

    def lie(path: str) -> None:
        if path.endswith(PARTS[1]):
            raise FileNotFoundError(path)

    odd.on["cat"] = lie
    out = tmp_path / "2" / "run.h5"
    assert do(out) == [STARTS[1], *STARTS[3:]] and out.read_bytes() == alone


def test_a_shard_is_not_finished_before_the_store_lists_its_parts(
    tmp_path: Path, odd: type[Odd], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = RemoteParts.sizes
    monkeypatch.setattr(RemoteParts, "sizes", lambda self: {k: v for k, v in real(self).items() if k != PARTS[2]})
    with pytest.raises(UserError, match=rf"{URL} does not list {PARTS[2]}, which was written there"):
        do(tmp_path / "1" / "run.h5", "1/2")
    assert not any(name.startswith("shard") for name in there(odd))
    monkeypatch.undo()
    assert do(tmp_path / "1" / "run.h5", "1/2") == []
    assert "shard-00001-of-00002.json" in there(odd)


def test_a_push_that_fails_is_tried_again_then_ends_the_run_and_the_same_command_puts_what_is_here(
    tmp_path: Path, alone: bytes, odd: type[Odd]
) -> None:
    out = tmp_path / "1" / "run.h5"
    puts: list[str] = []

    def third(path: str) -> None:
        puts.append(path)
        if len(puts) >= 3:  # the settings, the first part, and then the net is gone
            raise OSError("the net is gone")

    odd.on["put"] = third
    with pytest.raises(UserError, match=rf"{URL} cannot be written \(the net is gone\).*{PARTS[1]} stays in .*again"):
        do(out)
    assert len(puts) == 2 + TRIES and (tmp_path / "1" / "run.h5.parts" / PARTS[1]).exists()
    odd.on["put"] = failing(TRIES - 1, lambda: OSError("the net is gone"))
    with pytest.raises(Killed):
        do(out, stop_at=STARTS[2])
    assert there(odd) == [*PARTS[:2], "settings.json"]
    assert do(out) == STARTS[2:] and out.read_bytes() == alone


def test_a_remote_of_another_run_is_refused_unless_forced(tmp_path: Path, alone: bytes, odd: type[Odd]) -> None:
    odd().pipe_file("/bucket/run/theirs.txt", b"1")
    others = {**toy.SETTINGS, "steps": 31}
    with pytest.raises(Killed):
        do(tmp_path / "1" / "run.h5", stop_at=12, settings=others)
    before = dict(odd.store)
    with pytest.raises(UserError) as caught:
        do(tmp_path / "2" / "run.h5")
    assert str(caught.value) == (
        f"{URL} holds another run (steps was 31, now 30): give another --remote, or start anew there with --force."
    )
    assert odd.store == before
    out = tmp_path / "3" / "run.h5"
    with pytest.raises(Killed):
        do(out, force=True, stop_at=4)
    assert there(odd) == [PARTS[0], "settings.json", "theirs.txt"]
    assert do(out) == STARTS[1:] and out.read_bytes() == alone and there(odd) == ["theirs.txt"]


def test_a_join_takes_no_run_for_another(tmp_path: Path, odd: type[Odd]) -> None:
    for number in (1, 2):
        do(tmp_path / "1" / "run.h5", f"{number}/2")
    out = tmp_path / "run.h5"
    with RunParts(out, {"steps": 1}, toy.N, toy.PART):
        pass
    with pytest.raises(UserError, match=r"run\.h5\.parts is of another run than odd://bucket/run \(.*steps was 1"):
        join(out)
    shutil.rmtree(tmp_path / "run.h5.parts")
    with RunParts(out, {"steps": 1}, toy.N, toy.PART) as run:
        for start, stop in run.todo():
            run.write(start, toy.batch(start, stop))
        run.join(toy.ATTRS)
    with pytest.raises(UserError, match="exists already, and is of another run"):
        join(out)
    join(out, force=True)
    assert out.read_bytes() != b"" and there(odd) == []


@pytest.mark.parametrize("shards", [True, False])
def test_killed_before_the_remote_was_cleared_the_same_command_clears_it(
    tmp_path: Path, alone: bytes, odd: type[Odd], shards: bool
) -> None:
    out = tmp_path / "joined" / "run.h5"

    def again() -> None:
        if shards:
            join(out)
        else:
            assert do(out) in ([], STARTS)

    if shards:
        do(tmp_path / "1" / "run.h5", "1/1")
    odd.on["rm"] = lambda path: (_ for _ in ()).throw(PermissionError(path))
    with pytest.raises(UserError, match=r"run\.h5 is made, but its parts at the remote are still there, as .*removed"):
        again()
    assert out.read_bytes() == alone and len(there(odd)) > len(PARTS)
    odd.on.clear()
    again()
    assert out.read_bytes() == alone and there(odd) == []


def test_settings_that_were_cut_short_on_their_way_are_stated_again(tmp_path: Path, odd: type[Odd]) -> None:
    with pytest.raises(Killed):
        do(tmp_path / "1" / "run.h5", stop_at=12)
    whole = odd().cat_file("/bucket/run/settings.json")
    odd().pipe_file("/bucket/run/settings.json", whole[:50])
    with pytest.raises(Killed):
        do(tmp_path / "1" / "run.h5", stop_at=16)
    assert odd().cat_file("/bucket/run/settings.json") == whole and json.loads(whole)["images"] == toy.N


def test_a_folder_that_no_one_can_reach_ends_it_before_the_work(tmp_path: Path, odd: type[Odd]) -> None:
    def gone(path: str) -> None:
        raise ConnectionError("no such host")

    odd.on["cat"] = gone
    with pytest.raises(UserError, match=r"odd://bucket/run cannot be read \(no such host\)"):
        do(tmp_path / "1" / "run.h5")
    assert not list(tmp_path.rglob("part-*"))


def test_a_finished_file_is_copied_with_a_digest(tmp_path: Path, odd: type[Odd]) -> None:
    remote = RemoteParts.at(URL)
    assert remote is not None
    path = tmp_path / f"joint-{'a' * 32}.h5"
    path.write_bytes(b"whole")
    remote.put_all([path])
    path.unlink()
    taken: Callable[[Path], bool] = lambda scratch: scratch.read_bytes() == b"whole"  # noqa: E731
    assert not remote.fetch_file(path, lambda scratch: False) and there(odd) == []  # of another run
    path.write_bytes(b"whole")
    remote.put(path)
    path.unlink()
    assert remote.fetch_file(path, taken) and path.read_bytes() == b"whole"
    odd().pipe_file(f"/bucket/run/{path.name}", b"Whole" + odd().cat_file(f"/bucket/run/{path.name}")[5:])
    assert not remote.fetch_file(path, lambda scratch: True)
    remote.clear()
    assert there(odd) == [] and [one.name for one in tmp_path.iterdir()] == [path.name]


def test_machines_that_find_different_batch_sizes_take_the_one_that_was_stated_first(
    tmp_path: Path, odd: type[Odd]
) -> None:
    def begun(folder: str, number: int, shard: str, adopts: bool = True) -> RunParts:
        (tmp_path / folder).mkdir(exist_ok=True)
        settings, which = {**toy.SETTINGS, "batch_size": number}, Shard.parse(shard)
        out = tmp_path / folder / "run.h5"
        return RunParts(out, settings, toy.N, number, shard=which, adopts=adopts, remote=RemoteParts.at(URL))

    with begun("a", 4, "1/2") as first, begun("b", 2, "2/2") as second:
        assert (first.part_size, second.part_size, second.settings["batch_size"]) == (4, 4, 4)
        assert first.files.run == second.files.run
    with pytest.raises(UserError, match="holds another run .*batch_size was 4, now 2"):
        begun("c", 2, "2/2", adopts=False)


def test_a_run_that_another_machine_begins_at_the_same_moment_is_given_up(
    tmp_path: Path, odd: type[Odd], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = RemoteParts.state

    def late(self: RemoteParts, record: dict[str, Any]) -> None:
        state(self, record)
        state(self, {**record, "part size": 1})  # the other one's

    monkeypatch.setattr(RemoteParts, "state", late)
    with pytest.raises(UserError, match="began this run at odd://bucket/run at the same moment: remove .*parts"):
        RunParts(tmp_path / "run.h5", toy.SETTINGS, toy.N, toy.PART, remote=RemoteParts.at(URL))


def _begin(folder: Path, number: int, shard: str, **how: Any) -> RunParts:
    """A shard of one image a part that has found `number` images at once."""
    folder.mkdir(exist_ok=True)
    settings, which = {**toy.SETTINGS, "batch_size": number}, Shard.parse(shard)
    return RunParts(
        folder / "run.h5", settings, toy.N, number, shard=which, remote=RemoteParts.at(URL), **{"adopts": True, **how}
    )


@pytest.mark.parametrize("numbers", [(4, 2), (2, 4)])
@pytest.mark.parametrize("when", ["first part", "a later part", "manifest"])
def test_a_run_that_is_stated_over_after_its_own_was_read_is_given_up(
    tmp_path: Path, odd: type[Odd], numbers: tuple[int, int], when: str
) -> None:
    mine, others = numbers
    with _begin(tmp_path / "a", mine, "1/1") as first:
        pieces = first.missing()
        puts = {"first part": 0, "a later part": 1, "manifest": len(pieces)}[when]
        for start, stop in pieces[:puts]:
            first.write(start, toy.batch(start, stop))
        held = odd().cat_file("/bucket/run/settings.json")
        odd.on["cat"] = failing(2, FileNotFoundError)  # as it was when the other one looked
        with _begin(tmp_path / "b", others, "1/1") as second:
            assert second.part_size == others and odd().cat_file("/bucket/run/settings.json") != held
            with pytest.raises(
                UserError, match=r"began this run at .* at the same moment: remove .*a/run\.h5\.parts, "
            ):
                if when == "manifest":
                    first.finish_shard()
                for start, stop in pieces[puts:]:
                    first.write(start, toy.batch(start, stop))
            assert not any(name.startswith("shard") for name in there(odd))
            second.write(0, toy.batch(0, others))  # that one has its way
    with pytest.raises(UserError, match=rf"remove .*a/run\.h5\.parts, .*with --batch-size {others} or none") as caught:
        _begin(tmp_path / "a", mine, "1/1")
    assert "--force" not in str(caught.value)
    shutil.rmtree(tmp_path / "a")
    with _begin(tmp_path / "a", mine, "1/1") as again:
        assert again.part_size == others


def test_a_record_that_went_away_is_stated_again(tmp_path: Path, odd: type[Odd]) -> None:
    with pytest.raises(Killed):
        do(tmp_path / "1" / "run.h5", stop_at=12)
    with RunParts(tmp_path / "1" / "run.h5", toy.SETTINGS, toy.N, toy.PART, remote=RemoteParts.at(URL)) as run:
        remote = RemoteParts.at(URL)
        assert remote is not None
        remote.clear()  # as who joins shards that are done twice
        run.write(12, toy.batch(12, 16))
    assert there(odd) == [PARTS[3], "settings.json"]


@pytest.mark.parametrize(
    "foreign", [b"// mine", b'{"editor.fontSize": 12}', b"[1]", b'{\n "cfdiff version": "9', b"\xff"]
)
@pytest.mark.parametrize("force", [False, True])
def test_a_file_of_that_name_that_is_none_of_cfdiffs_is_never_touched(
    tmp_path: Path, odd: type[Odd], foreign: bytes, force: bool
) -> None:
    odd().pipe_file("/bucket/run/settings.json", foreign)
    said = rf"^{URL} has a settings\.json that states no run of cfdiff, .*: give another --remote, or move"
    with pytest.raises(UserError, match=said):
        do(tmp_path / "1" / "run.h5", force=force)
    with pytest.raises(UserError, match=said):
        join(tmp_path / "2" / "run.h5", force=force)
    assert odd().cat_file("/bucket/run/settings.json") == foreign


def test_settings_of_which_nothing_came_through_are_stated_again(tmp_path: Path, odd: type[Odd]) -> None:
    odd().pipe_file("/bucket/run/settings.json", b"")
    with pytest.raises(Killed):
        do(tmp_path / "1" / "run.h5", stop_at=4)
    assert json.loads(odd().cat_file("/bucket/run/settings.json"))["images"] == toy.N


def _made(out: Path, batch: int | None = None) -> dict[str, Any]:
    """A finished result of the toy run; its settings."""
    settings = toy.SETTINGS if batch is None else {**toy.SETTINGS, "batch_size": batch}
    out.parent.mkdir(exist_ok=True)
    with RunParts(out, settings, toy.N, toy.PART) as run:
        for start, stop in run.todo():
            run.write(start, toy.batch(start, stop))
        run.join(toy.ATTRS)
    return dict(settings)


def test_a_join_removes_nothing_of_shards_that_are_at_work(tmp_path: Path, alone: bytes, odd: type[Odd]) -> None:
    out = tmp_path / "joined" / "run.h5"
    _made(out)
    do(tmp_path / "1" / "run.h5", "1/2")
    before = dict(odd.store)
    for folder in (False, True):
        if folder:  # whoever joined was killed before the folder was removed, or a shard is at work in it
            (out.parent / "run.h5.parts").mkdir()
        with pytest.raises(UserError, match=rf"run\.h5 is made already, and {URL} has parts of shards .* not finished"):
            join(out)
        assert odd.store == before
    (out.parent / "run.h5.parts").rmdir()
    do(tmp_path / "2" / "run.h5", "2/2")
    join(out)
    assert out.read_bytes() == alone and there(odd) == []


@pytest.mark.parametrize("other", ["cfdiff version", "format version", "images", "part size"])
def test_a_join_removes_nothing_of_a_run_that_is_another_in_anything(
    tmp_path: Path, odd: type[Odd], other: str
) -> None:
    out = tmp_path / "joined" / "run.h5"
    settings = _made(out, batch=toy.PART)
    do(tmp_path / "1" / "run.h5", "1/1", settings=settings)
    record = json.loads(odd().cat_file("/bucket/run/settings.json"))
    changed = {"cfdiff version": "0.0.1", "format version": 99, "images": toy.N + 1, "part size": 2}
    odd().pipe_file("/bucket/run/settings.json", json.dumps({**record, other: changed[other]}).encode())
    before = dict(odd.store)
    with pytest.raises(UserError, match="exists already, and is of another run"):
        join(out)
    assert odd.store == before


@pytest.mark.parametrize("removed", [1, 6, 7, 8, 9])
def test_a_join_that_was_killed_while_it_cleared_the_remote_is_ended_by_the_next(
    tmp_path: Path, alone: bytes, odd: type[Odd], removed: int
) -> None:
    out = tmp_path / "joined" / "run.h5"
    for number in (1, 2):
        do(tmp_path / f"{number}" / "run.h5", f"{number}/2")
    count = [0]

    def gone(path: str) -> None:
        count[0] += 1
        if count[0] > removed:
            raise PermissionError(path)

    odd.on["rm"] = gone
    with pytest.raises(UserError, match="still there"):
        join(out)
    assert "settings.json" in there(odd) and len(there(odd)) == len(PARTS) + 4 - removed
    odd.on.clear()
    join(out)
    assert out.read_bytes() == alone and there(odd) == []
