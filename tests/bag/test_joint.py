from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfdiff.bag.joint import settle
from cfdiff.bag.run import bag
from cfdiff.bag.settings import BagSettings
from cfdiff.edit.editor import Editor
from cfdiff.errors import UserError
from cfdiff.store.bags import open_bags


def joint(toy: Any, out: Path | None = None, **changes: Any) -> BagSettings:
    quick = {"data": str(toy.data), "weights": str(toy.weights), "out": out, "device": "cpu", "batch_size": 8}
    return BagSettings(**{**quick, "steps": 6, "depth": 0.4, "retries": 2, "mode": "joint", "bags": 2, **changes})


@given(st.data())
def test_settling_reaches_the_count_wherever_it_can(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 12))

    def draw(values: Any) -> np.ndarray:
        return np.array(data.draw(st.lists(values, min_size=n, max_size=n)))

    labels, z, p = draw(st.integers(0, 1)), draw(st.integers(0, 1)), draw(st.floats(0, 1))
    stuck, k = draw(st.booleans()), data.draw(st.integers(0, n))
    z = np.where(stuck, labels, z)
    settled = settle(z, labels, p, k, stuck)
    low, high = int(labels[stuck].sum()), int(labels[stuck].sum() + (~stuck).sum())
    assert settled.sum() == min(max(k, low), high)
    assert (settled[stuck] == labels[stuck]).all()
    assert (settled != z).sum() == abs(int(settled.sum()) - int(z.sum()))


def test_settling_takes_the_least_sure_flip_back_before_it_flips_another() -> None:
    labels, z = np.array([0, 0, 1, 1, 0]), np.array([1, 1, 1, 0, 0])
    p, free = np.array([0.9, 0.6, 0.8, 0.4, 0.45]), np.zeros(5, bool)
    assert settle(z, labels, p, 2, free).tolist() == [1, 0, 1, 0, 0]
    assert settle(z, labels, p, 4, free).tolist() == [1, 1, 1, 1, 0]
    assert settle(z, labels, p, 5, free).tolist() == [1, 1, 1, 1, 1]


def test_a_bag_is_led_to_its_count_and_what_keeps_its_class_keeps_its_bytes(toy: Any, tmp_path: Path) -> None:
    figures = bag(joint(toy, tmp_path / "joint.h5", mix="0.17,0.84"))
    with open_bags(tmp_path / "joint.h5") as bags:
        assert bags.read("mix/wanted").tolist() == [1, 5, 1, 5]
        assert bags.read("mix/achieved_by_checker") == pytest.approx(bags.read("mix/planned"))
        for j in range(4):
            view = bags[j]
            assert (view.image[~view.edited] == view.source[~view.edited]).all()
            assert (view.label == 1).sum() == view.wanted
    assert figures.changed_outside_edits == 0


def test_the_plain_ground_of_its_images_never_changes(toy: Any, tmp_path: Path) -> None:
    arrays = dict(np.load(toy.data))
    arrays["images"][:, :2] = 0
    np.savez(tmp_path / "framed.npz", **arrays)
    bag(joint(toy, tmp_path / "joint.h5", data=str(tmp_path / "framed.npz"), mix="0.84", mask="object"))
    with open_bags(tmp_path / "joint.h5") as bags:
        for view in (bags[0], bags[1]):
            changed = view.image != view.source
            assert changed.any() and not changed[:, :2].any()
    with pytest.raises(UserError, match="--mode joint takes neither --mask auto or data nor --exact"):
        bag(joint(toy, tmp_path / "not.h5", mask="auto"))


def test_without_guidance_and_correction_a_bag_stays_as_it_is(toy: Any, tmp_path: Path) -> None:
    figures = bag(joint(toy, tmp_path / "control.h5", mix="0.84", scale=0.0, on_fail="keep"))
    assert figures.translated == 0
    assert figures.achieved_by_checker.exact == 0


def test_an_instance_that_was_put_back_is_no_sham(toy: Any, tmp_path: Path) -> None:
    data = dict(np.load(toy.data))
    wrong = [0, 9, 14, 21]  # to the checker these are of the other class, so it will not vouch for them as they are
    data["labels"][wrong] = np.where(data["labels"][wrong] == "sick", "healthy", "sick")
    np.savez(tmp_path / "wrong.npz", **data)
    bag(joint(toy, tmp_path / "run.h5", data=str(tmp_path / "wrong.npz"), mix="0.5", bags=4, untouched="sham"))
    with open_bags(tmp_path / "run.h5") as bags:
        views = [bags[j] for j in range(4)]
    same = np.concatenate([(view.image == view.source).all(axis=(1, 2, 3)) for view in views])
    sham = np.concatenate([view.sham for view in views])
    assert sham.any() and not (sham & same).any()


def test_frozen_instances_stay_and_the_others_reach_the_count(toy: Any, tmp_path: Path) -> None:
    ids = np.load(toy.data)["id"][:4]
    (tmp_path / "frozen.txt").write_text("\n".join(ids))
    bag(joint(toy, tmp_path / "frozen.h5", mix="0.67", bags=1, freeze=tmp_path / "frozen.txt", untouched="sham"))
    with open_bags(tmp_path / "frozen.h5") as bags:
        view = bags[0]
        frozen = np.isin(view.ids, ids)
        assert frozen.sum() == 4 and not (view.edited | view.sham)[frozen].any()
        assert (view.image[frozen] == view.source[frozen]).all()
        assert (view.label == 1).sum() == 4


def test_a_guide_that_knows_no_bags_is_refused_before_anything_is_computed(
    toy_told: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Editor, "encode", lambda *_: pytest.fail("it began"))
    with pytest.raises(UserError, match="The guide cfg cannot steer a whole bag: .* --mode instance"):
        bag(joint(toy_told, tmp_path / "joint.h5", guides="noisy+cfg"))


def test_each_instance_of_a_bag_is_told_its_own_class(toy_told: Any, tmp_path: Path) -> None:
    """Without guidance that leaves the bag as it is; with it the count is reached as ever."""
    told = {"base": "source", "mix": "0.84"}
    still = bag(joint(toy_told, tmp_path / "still.h5", scale=0.0, on_fail="keep", untouched="sham", **told))
    with open_bags(tmp_path / "still.h5") as bags:
        assert (bags[0].image[:] == bags[0].source[:]).all() and still.changed_outside_edits == 0
    bag(joint(toy_told, tmp_path / "joint.h5", **told))
    with open_bags(tmp_path / "joint.h5") as bags:
        assert bags.read("mix/achieved_by_checker") == pytest.approx(bags.read("mix/planned"))
