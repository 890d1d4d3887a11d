"""evaluate on what translate and bag really write."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from cfdiff.bag.run import bag
from cfdiff.bag.settings import BagSettings
from cfdiff.data.values import to_model, unit
from cfdiff.edit.cast import probabilities
from cfdiff.errors import UserError
from cfdiff.evaluate.run import evaluate as measure
from cfdiff.evaluate.settings import EvaluateSettings
from cfdiff.evaluate.trip import the_way_back
from cfdiff.models.checkpoint import load_model, save_model
from cfdiff.models.control import Controlled
from cfdiff.store.bags import open_bags
from cfdiff.store.runs import open_run
from cfdiff.train.control import train_control
from cfdiff.train.settings import ControlSettings
from cfdiff.translate.run import translate


def evaluate(settings: EvaluateSettings, *progress: Any) -> dict[str, Any]:
    """What --json prints."""
    return measure(settings, *progress).as_json()


@pytest.fixture(scope="module")
def translated(toy: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluate") / "run.h5"
    translate(toy.settings(out, **{"from": "positive"}, limit=10, steps=4))
    return out


@pytest.fixture(scope="module")
def bagged(toy: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluate") / "bags.h5"
    places = {"data": str(toy.data), "weights": str(toy.weights), "out": out, "device": "cpu"}
    quick = {"steps": 4, "depth": 0.4, "retries": 0, "on_fail": "keep", "untouched": "sham"}
    bag(BagSettings(**places, **quick, bags=3, mix="0.17,0.5,0.83"))
    return out


def settings(run: Path, toy: Any, **changes: Any) -> EvaluateSettings:
    places = {"run": run, "data": str(toy.data), "weights": str(toy.weights), "device": "cpu"}
    return EvaluateSettings(**{**places, "fractions": 5, "bootstrap": 100, "repeats": 2, **changes})


def values(result: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: f["all"]["value"] for key, f in result["sections"][name]["figures"].items()}


def test_a_run_is_measured_by_every_question_and_the_masks_come_from_its_data(translated: Path, toy: Any) -> None:
    seen: list[tuple[str, int, int]] = []
    result = evaluate(settings(translated, toy, round_trip=True), lambda *step: seen.append(step))
    assert list(result["sections"]) == ["valid", "minimal", "faithful", "realistic", "noise", "returns", "where"]
    assert {("measuring", 10, 10), ("round trip", 10, 10)} <= set(seen)
    with h5py.File(translated) as file:
        flipped = file["flipped"][:]
        change = np.abs(unit(file["counterfactual"][:]) - unit(file["source"][:])).mean()
    assert values(result, "valid")["flip_rate_judge"] == flipped.mean()
    assert values(result, "minimal")["mean_abs_difference"] == pytest.approx(change, rel=1e-5)
    trip = values(result, "returns")
    assert 0 < trip["round_trip"] < 0.2 and 0 <= trip["verdict_returns"] <= 1
    where = values(result, "where")
    assert 0 < where["prevalence"] < 1 and where["dice_oracle"] >= where["dice_otsu"] - 0.2
    assert sum(name.startswith("dice_size") for name in where) <= 3


def test_a_round_trip_without_guidance_comes_back_to_the_source_itself(toy: Any, tmp_path: Path) -> None:
    out = tmp_path / "still.h5"
    translate(toy.settings(out, limit=4, steps=3, scale=0.0, retries=0))
    trip = values(evaluate(settings(out, toy, round_trip=True, realism=False, faithfulness=False)), "returns")
    assert trip["round_trip"] == 0 and trip["verdict_returns"] == 1


def test_a_round_trip_of_a_held_edit_is_held_too(toy: Any, tmp_path: Path) -> None:
    quick: dict[str, Any] = {
        "steps": 2,
        "eval_every": 2,
        "batch_size": 8,
        "val_limit": 8,
        "device": "cpu",
        "threads": 1,
    }
    told = {"data": str(toy.data), "diffusion": toy.weights / "diffusion.safetensors", "out": tmp_path / "control"}
    branch = train_control(ControlSettings(**{**quick, **told, "warmup": 1})).model
    weights, out = tmp_path / "weights", tmp_path / "held.h5"
    shutil.copytree(toy.weights, weights)
    shutil.copy(branch, weights / "control.safetensors")
    translate(toy.settings(out, weights=str(weights), limit=4, steps=3, scale=0.0, retries=0, control="edges"))
    back = settings(out, toy, weights=str(weights), round_trip=True, realism=False, faithfulness=False)
    assert values(evaluate(back), "returns")["round_trip"] == 0
    with open_run(out) as run:
        cast = the_way_back(back, run).cast
        assert isinstance(cast.diffusion.net, Controlled) and cast.hashes["diffusion"] == run.models["diffusion"]
    (weights / "control.safetensors").unlink()
    with pytest.raises(UserError, match=r"needs the control branch of this run as control\.safetensors"):
        evaluate(back)


def test_bags_have_their_ratios_pooled_and_each_and_their_slope(bagged: Path, toy: Any) -> None:
    result = evaluate(settings(bagged, toy, realism=False, faithfulness=False))
    with open_bags(bagged) as bags:
        requested, achieved = bags.read("mix/requested"), bags.read("mix/achieved")
        planned = bags.read("mix/planned")
    pooled = values(result, "bags")
    assert pooled["achieved_off_planned"] == pytest.approx(np.abs(achieved - planned).mean())
    assert pooled["achieved_off_requested"] == pytest.approx(np.abs(achieved - requested).mean())
    assert pooled["achieved_slope"] == pytest.approx(np.polyfit(requested, achieved, 1)[0])
    each = result["sections"]["bags"]["bags"]
    assert [len(one["mixes"]) for one in each] == [3, 3, 3] and each[0]["instances"] == 6
    first = each[0]["mixes"][0]
    assert first["achieved_off_planned"] == pytest.approx(abs(first["achieved"] - first["planned"]))
    slope = np.polyfit([m["requested"] for m in each[1]["mixes"]], [m["achieved"] for m in each[1]["mixes"]], 1)[0]
    assert each[1]["achieved_slope"] == pytest.approx(slope)


def test_of_a_bag_file_each_edited_instance_is_measured_once_and_shams_are_not(bagged: Path) -> None:
    with open_bags(bagged) as bags, open_run(bagged) as run:
        edited = np.unique(bags.read("row/edit")[bags.read("row/edited")])
        assert len(run) == len(edited) < len(bags.read("edit/used"))
        source, after = run.read(np.arange(len(run)))
        assert (after == bags.images("counterfactual", edited)).all() and (source != after).any()
        row = np.flatnonzero(bags.read("row/edit") == edited[3])[0]
        assert run.ids[3] == bags.read("instance/id")[bags.read("row/instance")[row]]
        assert (run.prob["judge"][3] == bags.read("prob/judge")[row]).all()
        assert set(run.groups.astype(str)) == {"P0", "P1", "P2"}
        assert (run.target == 1 - run.label).all() and set(run.target) == {0, 1}


def test_under_another_judge_the_ratios_of_bags_are_its_word_on_every_row(bagged: Path, toy: Any) -> None:
    other = toy.weights / "checker.safetensors"
    with open_bags(bagged) as bags, open_run(bagged) as run:
        # The checker steered, so it is refused: with its head turned over it is a judge that says the opposite.
        renamed = bagged.with_name("other.safetensors")
        model = load_model(other)
        for part in model.net.net.get_classifier().parameters():
            part.data = part.data.flip(0)
        save_model(renamed, model.net, model.card)
        result = evaluate(settings(bagged, toy, judge=renamed, realism=False, faithfulness=False, batch_size=5))
        images, labels = zip(*[(bags[j].image, bags[j].label_before) for j in range(len(bags))], strict=True)
        seen = [probabilities(model, to_model(x)).numpy()[:, 1] > 0.5 for x in images]
        touched = [bags.read("row/edit", bags.rows(j)) >= 0 for j in range(len(bags))]
        own = bags.read("mix/achieved")
        assert len(run) < sum(map(len, images))
    mixes = [mix for one in result["sections"]["bags"]["bags"] for mix in one["mixes"]]
    assert [mix["achieved"] for mix in mixes] == [p.mean() for p in seen] != own.tolist()
    by_labels = [np.where(t, p, before).mean() for t, p, before in zip(touched, seen, labels, strict=True)]
    assert [mix["achieved_by_labels"] for mix in mixes] == by_labels
    assert "other" in result["sections"]["bags"]["judge"]


def test_bags_that_change_instances_both_ways_are_compared_with_real_images_of_both_classes(
    bagged: Path, toy: Any
) -> None:
    result = evaluate(settings(bagged, toy, faithfulness=False))
    realistic = result["sections"]["realistic"]
    assert realistic["figures"]["fid"]["all"]["value"] >= 0 and realistic["real_images"] > result["images"]
    assert realistic["features_sha256"] == hashlib.sha256((toy.weights / "judge.safetensors").read_bytes()).hexdigest()
    assert result["result_sha256"] == hashlib.sha256(bagged.read_bytes()).hexdigest()


def test_masks_and_a_way_back_of_joint_bags_are_refused_in_one_sentence(bagged: Path, toy: Any) -> None:
    for changes, words in (
        ({"masks": str(toy.data)}, "is a bag file, which has no masks"),
        ({"threshold_from": bagged}, "is a bag file, which has no masks"),
    ):
        with pytest.raises(UserError, match=words):
            evaluate(settings(bagged, toy, **changes))
    with open_run(bagged) as run, pytest.raises(UserError, match="these bags were edited jointly"):
        the_way_back(settings(bagged, toy), dataclasses.replace(run, settings={**run.settings, "mode": "joint"}))


def test_a_model_that_did_not_make_the_run_is_refused_for_the_way_back(
    translated: Path, toy: Any, tmp_path: Path
) -> None:
    for part in ("diffusion", "guide", "checker", "judge"):
        (tmp_path / f"{part}.safetensors").write_bytes((toy.weights / f"{part}.safetensors").read_bytes())
    file = tmp_path / "diffusion.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    with pytest.raises(UserError, match="The diffusion at hand is not the one that made run.h5"):
        evaluate(settings(translated, toy, weights=str(tmp_path), round_trip=True))
