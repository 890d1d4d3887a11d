from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cfdiff.errors import UserError
from cfdiff.store.owner import Lock, held

HOLD = """
import sys
from pathlib import Path
from cfdiff.store.owner import Lock
assert Lock(Path(sys.argv[1])).take(shared=len(sys.argv) > 2)
print("held", flush=True)
sys.stdin.read()
"""


def hold(folder: Path, *shared: str) -> subprocess.Popen[str]:
    """Another process that holds the lock until it is killed."""
    pipe = subprocess.PIPE
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(folder), *shared], stdin=pipe, stdout=pipe, text=True)
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    return other


def test_one_has_it_alone_and_whoever_is_killed_loses_it_at_once(tmp_path: Path) -> None:
    other, mine = hold(tmp_path), Lock(tmp_path)
    assert not mine.take() and not mine.take(shared=True)
    assert mine.owner().startswith(f"process {other.pid} on ")
    other.kill()
    other.communicate()
    assert mine.take() and mine.holds()


def test_several_share_it_and_none_has_it_alone_meanwhile(tmp_path: Path) -> None:
    other, mine, third = hold(tmp_path, "shared"), Lock(tmp_path), Lock(tmp_path)
    assert mine.take(shared=True) and not third.take()
    mine.release()
    assert not third.take()
    other.kill()
    other.communicate()
    assert third.take()


def test_what_is_given_back_leaves_no_file_and_is_free(tmp_path: Path) -> None:
    mine, other = Lock(tmp_path), Lock(tmp_path)
    assert mine.take() and not other.take()
    mine.release()
    assert not mine.holds() and os.listdir(tmp_path) == []
    assert other.take()


def test_one_that_goes_with_its_folder_is_not_held_any_more(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    mine, other = Lock(folder), Lock(folder)
    assert mine.take()
    shutil.rmtree(folder)
    assert not mine.holds() and not other.take()
    folder.mkdir()
    assert not mine.holds() and other.take()  # a folder of the same name is another one
    mine.release()
    assert other.holds()


def test_on_a_file_system_without_locks_it_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(handle: int, what: int) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    mine = Lock(tmp_path)
    assert mine.take() and mine.holds()
    mine.release()


def test_a_piece_of_work_that_only_one_may_do_says_who_does_it(tmp_path: Path) -> None:
    refused = pytest.raises(UserError, match=rf"Another training is at work in .*process {os.getpid()} on .*--out")
    with held(tmp_path, "training", "training"), refused, held(tmp_path, "training", "training"):
        pass
    with held(tmp_path, "training", "training"):
        pass
