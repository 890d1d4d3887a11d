"""Runs that are stopped, changed and shared by shards: nothing of another bag, and the file of one process."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cfdiff.bag import joint
from cfdiff.bag.instance import InstanceWriter, edit_items, instance_writer
from cfdiff.bag.run import bag
from cfdiff.bag.settings import BagSettings
from cfdiff.bag.setup import Plan, set_up
from cfdiff.data import raw
from cfdiff.edit import batch
from cfdiff.edit.tiling import TiledEditor
from cfdiff.errors import UserError
from cfdiff.join.run import join
from cfdiff.join.settings import JoinSettings
from cfdiff.shard import ShardSummary
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


@pytest.mark.parametrize("mode", ["instance", "joint"])
def test_shards_and_their_join_make_the_file_of_one_process(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setattr("cfdiff.data.seen._SETTLED", -1.0)
    alone, shared = tmp_path / "alone.h5", tmp_path / "shared.h5"
    bag(settings(toy, alone, mode=mode, bags=3, batch_size=4))
    for shard in ("2/3", "3/3"):
        found = bag(settings(toy, shared, mode=mode, bags=3, batch_size=4, shard=shard))
        assert isinstance(found, ShardSummary) and found.pieces > 0
    with pytest.raises(UserError, match=r"1 of 3 shards have not finished.*--shard K/3 for K = 1"):
        join(JoinSettings(run=shared, device="cpu"))
    with monkeypatch.context() as patch:  # a later shard need not read the data to know it
        patch.delattr(raw, "file_sha256")
        bag(settings(toy, shared, mode=mode, bags=3, batch_size=4, shard="1/3"))
    assert not shared.exists()
    assert join(JoinSettings(run=shared, device="cpu")).rows()[0] == ("result", "shared.h5")
    assert shared.read_bytes() == alone.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone.h5", "shared.h5"]


def test_a_worker_edits_bags_by_tiles_as_the_owner_does(toy: Any, toys: Any, tmp_path: Path) -> None:
    big = toys.write_npz(tmp_path / "big.npz", 12, size=28)
    setup = set_up(settings(toy, tmp_path / "run.h5", data=str(big), tile=16, mix="0.5", steps=2, ratio=1.0))
    plan: Plan = pickle.loads(pickle.dumps(Plan.of(setup)))
    here, there = InstanceWriter(setup), instance_writer(plan)
    assert isinstance(there.flip, TiledEditor) and isinstance(there.sham, TiledEditor)
    item = (0, 1 - int(setup.instances.labels[0]))
    one, other = (edit_items(setup, [item], w.flip, w.sham) for w in (here, there))
    assert one["counterfactual"].shape == (1, 28, 28, 1)
    assert one.keys() == other.keys() and all((one[name] == other[name]).all() for name in one)


def test_a_shard_of_bags_makes_no_pictures_and_no_export(toy: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no --preview and no --export"):
        bag(settings(toy, tmp_path / "run.h5", shard="1/2", preview=tmp_path / "pictures"))


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


def test_shards_that_start_at_once_on_other_cards_agree_on_a_batch_size(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, out = tmp_path / "asked.h5", tmp_path / "run.h5"
    bag(settings(toy, asked, bags=2, batch_size=4))
    stated_batch = batch.stated_batch
    monkeypatch.setattr(batch, "stated_batch", lambda *given: None)  # each looked before any had stated one
    for number, here in ((1, 4), (2, 1)):
        monkeypatch.setattr(
            batch, "found", lambda *given, here=here: batch.BatchSize(here, True, "a GPU holds no more")
        )
        done = bag(settings(toy, out, bags=2, batch_size="auto", shard=f"{number}/2"))
        assert isinstance(done, ShardSummary) and done.batch_size == 4
    monkeypatch.setattr(batch, "stated_batch", stated_batch)
    joined = join(JoinSettings(run=out))
    assert out.read_bytes() == asked.read_bytes() and joined.as_json()["batch_size"] == 4
