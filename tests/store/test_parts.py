from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfdiff.errors import UserError
from cfdiff.store import RunParts, check_output, open_result
from cfdiff.store.chunks import append

TOY = Path(__file__).with_name("toy.py")


def _toy() -> ModuleType:
    spec = importlib.util.spec_from_file_location("toy", TOY)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


toy = _toy()
STARTS = list(range(0, toy.N, toy.PART))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    out = tmp_path_factory.mktemp("undisturbed") / "run.h5"
    assert toy.run(out) == STARTS
    return out.read_bytes()


def _start(out: Path, pause: float = 0.0, hang_at: int = toy.N) -> subprocess.Popen[str]:
    command = [sys.executable, str(TOY), str(out), str(pause), str(hang_at)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _wait_for_parts(out: Path, count: int) -> None:
    """Until a worker that does one part after another has its run, and so many parts of it."""
    folder = out.with_name(out.name + ".parts")
    while not (folder / "settings.json").exists() or len(list(folder.glob("part-????????.h5"))) < count:
        time.sleep(0.005)


def test_the_joined_file_holds_what_was_written_and_the_parts_are_gone(tmp_path: Path) -> None:
    out = tmp_path / "run.h5"
    toy.run(out)
    expected = toy.batch(0, toy.N)
    with h5py.File(out) as file:
        for name, values in expected.items():
            stored = file[name].asstr()[:] if values.dtype.kind == "U" else file[name][:]
            np.testing.assert_array_equal(stored, values.astype(stored.dtype))
        assert file["source"].chunks == (1, toy.SIZE, toy.SIZE, 1)
        assert file["source"].compression == "gzip" and file["source"].shuffle
        assert file["difference"].dtype == np.float16
        assert file["prob/judge"].attrs["units"] == "probability"
        assert file.attrs["complete"] and file.attrs["format"] == "cfdiff"
        assert json.loads(file.attrs["command"]) == toy.SETTINGS
    assert os.listdir(tmp_path) == ["run.h5"]


@settings(max_examples=15)
@given(order=st.permutations(STARTS), stops=st.lists(st.integers(1, 5), max_size=4))
def test_order_and_interruptions_do_not_change_a_byte(
    tmp_path_factory: pytest.TempPathFactory, undisturbed: bytes, order: list[int], stops: list[int]
) -> None:
    out = tmp_path_factory.mktemp("disturbed") / "run.h5"
    with RunParts(out, toy.SETTINGS, toy.N, toy.PART) as parts:
        for start in order[:2]:
            parts.write(start, toy.batch(start, min(start + toy.PART, toy.N)))
    for stop in stops:
        with pytest.raises(ZeroDivisionError), RunParts(out, toy.SETTINGS, toy.N, toy.PART) as parts:
            for count, (start, end) in enumerate(parts.todo()):
                if count == stop:
                    break
                parts.write(start, toy.batch(start, end))
            raise ZeroDivisionError
    toy.run(out)
    assert out.read_bytes() == undisturbed


def test_a_resumed_run_computes_only_what_is_missing(tmp_path: Path) -> None:
    out = tmp_path / "run.h5"
    with RunParts(out, toy.SETTINGS, toy.N, toy.PART) as parts:
        parts.write(8, toy.batch(8, 12))
        assert (8, 12) not in parts.missing() and parts.missing()[-1] == (20, 23)
    assert toy.run(out) == [start for start in STARTS if start != 8]


@pytest.mark.parametrize("part", [0, 2, 5])
def test_kill_9_while_computing_and_the_same_command_again_give_the_same_file(
    tmp_path: Path, undisturbed: bytes, part: int
) -> None:
    out = tmp_path / "run.h5"
    worker = _start(out, hang_at=part * toy.PART)
    _wait_for_parts(out, part)
    worker.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)  # not reaped yet: a zombie must count as dead
    assert not out.exists()
    assert sorted(toy.run(out)) == STARTS[part:]
    worker.communicate()
    assert out.read_bytes() == undisturbed


def test_kill_9_again_and_again_at_any_moment_ends_in_the_same_file(tmp_path: Path, undisturbed: bytes) -> None:
    out, moment = tmp_path / "run.h5", np.random.default_rng(0)
    for _ in range(6):
        worker = _start(out, pause=0.01)
        while worker.poll() is None and not out.exists() and not (tmp_path / "run.h5.parts").exists():
            time.sleep(0.001)
        time.sleep(moment.uniform(0, 0.1))
        worker.kill()
        worker.communicate()
        if out.exists():
            break
    if not out.exists() or (tmp_path / "run.h5.parts").exists():
        toy.run(out)
    assert out.read_bytes() == undisturbed
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".parts")]


def test_killed_between_the_join_and_the_clearing_up_the_same_command_only_clears_up(
    tmp_path: Path, undisturbed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run.h5"
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(RunParts, "_clear", _interrupt)
        toy.run(out)
    assert out.exists() and (tmp_path / "run.h5.parts").is_dir()
    assert toy.run(out) == []
    assert out.read_bytes() == undisturbed and os.listdir(tmp_path) == ["run.h5"]


def _interrupt(self: RunParts) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped bit", "text"])
def test_a_damaged_part_is_computed_again(tmp_path: Path, undisturbed: bytes, damage: str) -> None:
    out = tmp_path / "run.h5"
    with RunParts(out, toy.SETTINGS, toy.N, toy.PART) as parts:
        for start in STARTS:
            parts.write(start, toy.batch(start, min(start + toy.PART, toy.N)))
    part = tmp_path / "run.h5.parts" / "part-00000004.h5"
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes({"truncated": data[: len(data) // 2], "empty": b"", "text": b"?"}.get(damage, bytes(data)))
    assert toy.run(out) == [4]
    assert out.read_bytes() == undisturbed


def test_a_part_is_an_hdf5_file_of_its_own(tmp_path: Path) -> None:
    with RunParts(tmp_path / "run.h5", toy.SETTINGS, toy.N, toy.PART) as parts:
        parts.write(4, toy.batch(4, 8))
        with h5py.File(parts.folder / "part-00000004.h5") as part:
            np.testing.assert_array_equal(part["source"][:], toy.batch(4, 8)["source"])


def test_other_settings_are_refused_and_the_differing_ones_named(tmp_path: Path) -> None:
    out = tmp_path / "run.h5"
    with RunParts(out, toy.SETTINGS, toy.N, toy.PART) as parts:
        parts.write(0, toy.batch(0, 4))
    other = {**toy.SETTINGS, "guides": {"scale": 5.0}}
    with pytest.raises(UserError, match=r"\(guides.scale was 20.0, now 5.0\).*--force") as caught:
        RunParts(out, other, toy.N, toy.PART)
    assert "steps" not in str(caught.value)
    with pytest.raises(UserError, match="images was 23, now 24; part size was 4, now 8"):
        RunParts(out, toy.SETTINGS, 24, 8)
    with RunParts(out, other, toy.N, toy.PART, force=True) as parts:
        assert len(parts.missing()) == len(STARTS)


@pytest.mark.parametrize("settings", [toy.SETTINGS, {"steps": 1}])
@pytest.mark.parametrize("force", [False, True])
def test_a_run_has_one_owner(tmp_path: Path, settings: dict[str, object], force: bool) -> None:
    out = tmp_path / "run.h5"
    worker = _start(out, hang_at=4)
    _wait_for_parts(out, 1)
    with pytest.raises(UserError, match=rf"Another process \(process {worker.pid} on .*at work on .*run.h5.*--shard"):
        RunParts(out, settings, toy.N, toy.PART, force=force)
    assert len(list((tmp_path / "run.h5.parts").glob("part-*.h5"))) == 1
    worker.kill()
    worker.communicate()


def test_two_objects_of_one_process_do_not_own_one_run_either(tmp_path: Path) -> None:
    refused = pytest.raises(UserError, match="at work")
    with RunParts(tmp_path / "run.h5", toy.SETTINGS, toy.N, toy.PART), refused:
        RunParts(tmp_path / "run.h5", toy.SETTINGS, toy.N, toy.PART)
    with RunParts(tmp_path / "run.h5", toy.SETTINGS, toy.N, toy.PART) as run:
        assert len(run.missing()) == len(STARTS)


def test_what_another_process_wrote_is_taken_note_of_once_it_is_there(tmp_path: Path) -> None:
    with RunParts(tmp_path / "run.h5", toy.SETTINGS, toy.N, toy.PART) as run:
        with pytest.raises(UserError, match="part-00000004.h5 and it is not here.*all machines share"):
            run.wrote(4, patience=0)
        pickle.loads(pickle.dumps(run.files)).write(4, toy.batch(4, 8))
        run.wrote(4)
        assert [start for start, _ in run.missing()] == [0, *STARTS[2:]]


def test_a_finished_file_is_replaced_only_with_force_and_only_at_the_end(tmp_path: Path) -> None:
    out = tmp_path / "run.h5"
    out.write_bytes(b"old")
    with pytest.raises(UserError, match="exists already.*--force"):
        RunParts(out, toy.SETTINGS, toy.N, toy.PART)
    assert os.listdir(tmp_path) == ["run.h5"]
    with RunParts(out, toy.SETTINGS, toy.N, toy.PART, force=True) as parts:
        parts.write(0, toy.batch(0, 4))
        assert out.read_bytes() == b"old"
    assert toy.run(out, force=True) == STARTS[1:]  # the same command again goes on where it stopped
    with open_result(out) as result:
        assert len(result) == toy.N


def test_a_part_may_not_be_written_with_arrays_that_the_schema_does_not_know(tmp_path: Path) -> None:
    arrays = toy.batch(0, 4)
    with RunParts(tmp_path / "run.h5", toy.SETTINGS, toy.N, toy.PART) as parts:
        with pytest.raises(ValueError, match="not in the schema: extra"):
            parts.write(0, {**arrays, "extra": arrays["label"]})
        with pytest.raises(ValueError, match="missing: target"):
            parts.write(0, {name: array for name, array in arrays.items() if name != "target"})
        with pytest.raises(ValueError, match="axis N should be 4"):
            parts.write(0, {**arrays, "flipped": arrays["flipped"][:3]})
        with pytest.raises(TypeError, match="int64"):
            parts.write(0, {**arrays, "source": arrays["source"].astype(np.int64)})
        with pytest.raises(ValueError, match="no part starts at 3"):
            parts.write(3, arrays)
        assert len(parts.missing()) == len(STARTS)


def test_a_run_that_was_killed_while_it_cleared_up_ends_when_it_is_given_again(tmp_path: Path) -> None:
    """After the result was in its place: the parts lie under the name by which they are thrown away, or not at all."""
    out = tmp_path / "run.h5"
    toy.run(out)
    before = out.read_bytes()
    for left in ([], ["run.h5.parts.4711-abcdef01.tmp"], ["run.h5.parts.4711-abcdef01.tmp", "run.h5.parts"]):
        for name in left:
            (tmp_path / name).mkdir()
            (tmp_path / name / "part-00000000.h5").write_bytes(b"of this run")
        with RunParts(out, toy.SETTINGS, toy.N, toy.PART) as parts:
            assert parts.finished and list(parts.todo()) == []
            assert parts.join(toy.ATTRS) == out
        assert os.listdir(tmp_path) == ["run.h5"] and out.read_bytes() == before
    with pytest.raises(UserError, match="exists already"):
        RunParts(out, {**toy.SETTINGS, "steps": 31}, toy.N, toy.PART)


def test_join_refuses_while_parts_are_missing(tmp_path: Path) -> None:
    refused = pytest.raises(ValueError, match="6 parts are missing")
    with RunParts(tmp_path / "run.h5", toy.SETTINGS, toy.N, toy.PART) as parts, refused:
        parts.join(toy.ATTRS)


def test_an_output_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no existing folder"):
        check_output(tmp_path / "missing" / "run.h5")
    with pytest.raises(UserError, match="is a folder"):
        check_output(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="no existing folder"):
        check_output(tmp_path / "file" / "run.h5")
    with pytest.raises(UserError, match="exists already"):
        check_output(tmp_path / "file")
    check_output(tmp_path / "file", force=True)
    with pytest.raises(UserError, match="Cannot write in /proc"):
        check_output(Path("/proc/run.h5"))
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_images_keep_the_type_they_came_in(tmp_path: Path, dtype: str) -> None:
    out = tmp_path / "run.h5"
    with RunParts(out, toy.SETTINGS, 5, 5) as parts:
        parts.write(0, toy.batch(0, 5, dtype))
        parts.join(toy.ATTRS)
    with open_result(out) as result:
        assert result.source.dtype == dtype and result.counterfactual.dtype == dtype


def test_a_run_of_one_image_keeps_its_strings(tmp_path: Path) -> None:
    """One row a chunk: yet strings lie outside the chunk, which must not be copied as it is."""
    out = tmp_path / "run.h5"
    with RunParts(out, toy.SETTINGS, 1, 1) as parts:
        parts.write(0, toy.batch(0, 1))
        parts.join(toy.ATTRS)
    with open_result(out) as result:
        assert result["id"][:].tolist() == ["Größe/0.png"] and result["status"][:].tolist() == ["ok"]


def test_joining_copies_the_packed_images_as_they_are(tmp_path: Path) -> None:
    out = tmp_path / "run.h5"
    packed = {}
    with RunParts(out, toy.SETTINGS, 8, 4) as parts:
        for start in (4, 0):
            parts.write(start, toy.batch(start, start + 4))
            with h5py.File(parts.folder / f"part-{start:08d}.h5") as file:
                for row in range(4):
                    packed[start + row] = file["source"].id.read_direct_chunk((row, 0, 0, 0))
        parts.join(toy.ATTRS)
    with h5py.File(out) as file:
        assert [file["source"].id.read_direct_chunk((row, 0, 0, 0)) for row in range(8)] == [
            packed[row] for row in range(8)
        ]
        np.testing.assert_array_equal(file["source"][:], toy.batch(0, 8)["source"])


@pytest.mark.parametrize("how", [{}, {"chunks": (2, 6, 6, 1), "compression": "lzf"}, {"compression": "gzip"}])
def test_rows_that_are_packed_in_another_way_are_copied_by_value(tmp_path: Path, how: dict[str, object]) -> None:
    images = toy.batch(0, 4)["source"]
    with h5py.File(tmp_path / "part.h5", "w") as part, h5py.File(tmp_path / "whole.h5", "w") as whole:
        part.create_dataset("source", data=images, **how)
        append(whole, part, 2, 6)
        np.testing.assert_array_equal(whole["source"][2:], images)
        assert whole["source"].chunks == (1, 6, 6, 1) and whole["source"].shuffle


def test_a_part_of_another_run_is_computed_anew_and_never_joined(tmp_path: Path, undisturbed: bytes) -> None:
    out, other = tmp_path / "run.h5", tmp_path / "other.h5"
    strange = {**toy.SETTINGS, "guides": {"scale": 0.3}}
    arrays = toy.batch(4, 8)
    with RunParts(other, strange, toy.N, toy.PART) as parts:
        parts.write(4, {**arrays, "counterfactual": arrays["counterfactual"] + 1})
        part = (parts.folder / "part-00000004.h5").read_bytes()
    with RunParts(out, toy.SETTINGS, toy.N, toy.PART) as parts:
        (parts.folder / "part-00000004.h5").write_bytes(part)
    assert toy.run(out) == STARTS
    assert out.read_bytes() == undisturbed


def test_a_part_that_turns_into_another_runs_while_it_waits_is_not_joined(tmp_path: Path) -> None:
    out, other = tmp_path / "run.h5", tmp_path / "other.h5"
    with RunParts(other, {"steps": 1}, toy.N, toy.PART) as parts:
        parts.write(4, toy.batch(4, 8))
        part = (parts.folder / "part-00000004.h5").read_bytes()
    with RunParts(out, toy.SETTINGS, toy.N, toy.PART) as parts:
        for start in STARTS:
            parts.write(start, toy.batch(start, min(start + toy.PART, toy.N)))
        (parts.folder / "part-00000004.h5").write_bytes(part)
        with pytest.raises(UserError, match=r"part-00000004.h5 is damaged, of another run or gone.*again"):
            parts.join(toy.ATTRS)
    assert not out.exists()
    assert toy.run(out) == [4]


def test_a_part_that_does_not_say_of_which_run_it_is_counts_as_missing(tmp_path: Path) -> None:
    out = tmp_path / "run.h5"
    with RunParts(out, toy.SETTINGS, toy.N, toy.PART) as parts:
        parts.write(0, toy.batch(0, 4))
        path = parts.folder / "part-00000000.h5"
        content = path.read_bytes()[:-64]
        path.write_bytes(content + hashlib.sha256(content).digest())
    assert toy.run(out) == STARTS


def test_one_whose_folder_was_removed_writes_nothing_into_the_run_that_came_after(tmp_path: Path) -> None:
    out = tmp_path / "run.h5"
    strange = {**toy.SETTINGS, "guides": {"scale": 0.3}}
    with RunParts(out, strange, toy.N, toy.PART) as late:
        late.write(0, toy.batch(0, 4))
        shutil.rmtree(late.folder)
        with RunParts(out, toy.SETTINGS, toy.N, toy.PART) as run:
            with pytest.raises(UserError, match="was removed"):
                late.write(4, toy.batch(4, 8))
            with pytest.raises(UserError, match="was removed"):
                late.join(toy.ATTRS)
            late._clear()
            assert len(run.missing()) == len(STARTS) and run.folder.is_dir()
        toy.run(out)
    with open_result(out) as result:
        assert result.settings == toy.SETTINGS


def test_stopped_while_it_joins_the_same_command_again_joins(
    tmp_path: Path, undisturbed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run.h5"

    def stop(file: h5py.File, part: h5py.File, start: int, *more: Any) -> None:
        if start == 8:
            raise KeyboardInterrupt
        append(file, part, start, *more)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("cfdiff.store.parts.append", stop)
        toy.run(out)
    left = os.listdir(tmp_path / "run.h5.parts")
    assert not out.exists() and not [name for name in left if name.endswith((".lock", ".tmp"))]
    assert toy.run(out) == []
    assert out.read_bytes() == undisturbed


def test_one_that_is_turned_away_leaves_no_claim(tmp_path: Path) -> None:
    out = tmp_path / "run.h5"
    with RunParts(out, toy.SETTINGS, toy.N, toy.PART):
        pass
    with pytest.raises(UserError, match="other settings"):
        RunParts(out, {"steps": 1}, toy.N, toy.PART)
    assert not list(tmp_path.rglob("*.lock"))


def test_what_a_process_left_that_was_killed_while_it_cleared_up_is_cleared_up(tmp_path: Path) -> None:
    grave = tmp_path / "run.h5.parts.4711-ab.tmp"
    grave.mkdir()
    (grave / "settings.json").touch()
    out = tmp_path / "run.h5"
    with RunParts(out, toy.SETTINGS, toy.N, toy.PART) as run:
        for start, stop in run.todo():
            run.write(start, toy.batch(start, stop))
        run.join(toy.ATTRS)
    assert list(tmp_path.iterdir()) == [out]
