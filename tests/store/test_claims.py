from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from cfdiff.store.claims import Claims

ELSEWHERE = json.dumps({"host": "elsewhere", "pid": 1, "started": "1", "token": "a"})


def test_a_claim_is_released_by_its_holder_alone(tmp_path: Path) -> None:
    mine = Claims(tmp_path)
    assert mine.take("a") and mine.holds("a")
    Claims(tmp_path).release("a")
    assert mine.holds("a")
    (tmp_path / "a.lock").write_text(ELSEWHERE)  # taken for dead and taken over
    assert not mine.holds("a")
    mine.release("a")
    mine.close()
    assert (tmp_path / "a.lock").read_text() == ELSEWHERE


def test_one_that_was_taken_for_dead_gives_no_signs_of_life_for_its_successor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Claims, "beat", 0.01)
    claims = Claims(tmp_path)
    assert claims.take("a") and claims.take("b")
    (tmp_path / "a.lock").write_text(ELSEWHERE)
    for name in "ab":
        os.utime(tmp_path / f"{name}.lock", ns=(1, 1))
    for _ in range(2):  # a whole round after the first: it began before or with "a"
        while (tmp_path / "b.lock").stat().st_mtime_ns == 1:
            pass
        os.utime(tmp_path / "b.lock", ns=(1, 1))
    assert (tmp_path / "a.lock").stat().st_mtime_ns == 1
    claims.close()


def test_a_silent_claim_of_another_host_does_not_stand_in_the_way_for_ever(tmp_path: Path) -> None:
    (tmp_path / "worker-1.lock").write_text(ELSEWHERE)
    claims = Claims(tmp_path)
    claims.patience = 0.0
    assert not claims.others()


def test_a_claim_of_another_host_that_shows_life_counts(tmp_path: Path) -> None:
    lock = tmp_path / "worker-1.lock"
    lock.write_text(ELSEWHERE)
    stop, moved = threading.Event(), [1]

    def live() -> None:
        while not stop.wait(0.01):
            moved[0] += 1
            os.utime(lock, ns=(moved[0], moved[0]))

    thread = threading.Thread(target=live)
    thread.start()
    assert Claims(tmp_path).others()
    stop.set()
    thread.join()


def test_a_claim_that_was_never_signed_is_alive_for_a_moment_only(tmp_path: Path) -> None:
    (tmp_path / "worker-1.lock").touch()
    claims = Claims(tmp_path)
    claims.grace = 0.0
    assert not claims.others()
