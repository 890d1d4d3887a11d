"""Runs that are stopped, changed and shared: nothing of another bag, and nobody idle."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cfdiff.bag import instance, joint
from cfdiff.bag.run import bag
from cfdiff.bag.settings import BagSettings
from cfdiff.store.bags import open_bags


def settings(toy: Any, out: Path, **changes: Any) -> BagSettings:
    quick = {"data": str(toy.data), "weights": str(toy.weights), "out": out, "device": "cpu", "batch_size": 6}
    return BagSettings(**{**quick, "steps": 4, "depth": 0.4, "retries": 0, "threads": 1, "mix": "0,1", **changes})


class Stop(Exception):
    """Stands for whatever ends a process."""


@pytest.mark.parametrize("mode", ["instance", "joint"])
def test_groups_that_change_between_stop_and_continuation_mix_no_bags(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    # Were the data's fingerprint blind for the groups, the names of the rounds alone must tell them apart.
    from cfdiff.bag import setup

    monkeypatch.setattr(setup.Source, "fingerprint", property(lambda self: "same"), raising=False)
    data = dict(np.load(toy.data))
    path = tmp_path / "toy.npz"
    np.savez(path, **data)
    changes = {"mode": mode, "group_key": "patient", "data": str(path), "bags": None}

    def stop(what: str, done: int, n: int) -> None:
        raise Stop

    with pytest.raises(Stop):
        bag(settings(toy, tmp_path / "run.h5", **changes), stop)
    data["patient"] = np.array([f"P{i % 8}" for i in range(48)])
    np.savez(path, **data)
    bag(settings(toy, tmp_path / "run.h5", **changes))
    bag(settings(toy, tmp_path / "anew.h5", **changes))
    assert (tmp_path / "run.h5").read_bytes() == (tmp_path / "anew.h5").read_bytes()
    row_of = {str(i): row for row, i in enumerate(data["id"])}
    with open_bags(tmp_path / "run.h5") as bags:
        for j in range(len(bags)):
            view = bags[j]
            assert (view.source[..., 0] == data["images"][[row_of[i] for i in view.ids], :, :, 0]).all()


def _work(s: BagSettings, mode: str, me: Path, other: Path) -> None:
    """A process that counts what it computes, and holds its first piece until the other process has one too."""
    module, name = (joint, "joint_arrays") if mode == "joint" else (instance, "edit_items")
    compute = getattr(module, name)

    def counted(*args: Any) -> Any:
        with me.open("a") as file:
            file.write("one\n")
        for _ in range(1200):  # an end for the case that the other one does nothing, which then fails the test
            if other.exists():
                break
            time.sleep(0.05)
        return compute(*args)

    setattr(module, name, counted)
    me.with_suffix(".ready").touch()
    while not other.with_suffix(".ready").exists():
        time.sleep(0.01)
    bag(s)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["instance", "joint"])
def test_two_processes_share_one_run_and_each_does_some(toy: Any, tmp_path: Path, mode: str) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    s = settings(toy, folder / "shared.h5", mode=mode, bags=4, batch_size=4)
    one, other = tmp_path / "one", tmp_path / "other"
    processes = multiprocessing.get_context("spawn")
    both = [processes.Process(target=_work, args=(s, mode, *names)) for names in ((one, other), (other, one))]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    done = [len(path.read_text().split()) if path.exists() else 0 for path in (one, other)]
    assert min(done) >= 1
    assert sum(done) == (8 if mode == "joint" else 6)  # bags and mixes, or parts: each of them once
    bag(settings(toy, folder / "alone.h5", mode=mode, bags=4, batch_size=4))
    assert (folder / "shared.h5").read_bytes() == (folder / "alone.h5").read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == ["alone.h5", "shared.h5"]


def test_equal_bags_at_equal_counts_are_edited_once(toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edited, real = [], joint.joint_arrays

    def counted(setup: Any, editor: Any, goal: Any) -> Any:
        edited.append(goal)
        return real(setup, editor, goal)

    monkeypatch.setattr(joint, "joint_arrays", counted)
    bag(settings(toy, tmp_path / "run.h5", mode="joint", bags=1, mix="0.66,0.67"))  # both 4 of 6
    assert len(edited) == 1
    with open_bags(tmp_path / "run.h5") as bags:
        assert len(bags) == 2 and (bags[0].image == bags[1].image).all()
