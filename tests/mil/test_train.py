from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mil_toy import export, quick, toy_bags, translated

from cfdiff.errors import UserError
from cfdiff.metrics.bag_scores import bag_auroc
from cfdiff.mil.answers import say
from cfdiff.mil.data import BagData, open_bag_data, permuted
from cfdiff.mil.measure import Scores
from cfdiff.mil.train import build, mil_train, train_on
from cfdiff.models.checkpoint import load_model, read_card
from cfdiff.train.result import TrainResult

pytest.importorskip("torchmil")


def trained(*given: Any, **changes: Any) -> TrainResult:
    return mil_train(quick(*given, **changes), lambda *told: None)


@pytest.mark.slow
def test_exact_translation_teaches_what_labels_of_as_many_bags_do_not_and_permuted_ones_neither(tmp_path: Path) -> None:
    """The toy in which the answer is known: the only thing between negative and positive is the first number."""
    test, found = toy_bags(200, 99, name="test"), {}
    for arm in ("label only", "mixtures", "permuted"):
        scores = []
        for seed in (0, 1):
            real, val = toy_bags(16, seed), toy_bags(10, seed + 50, name="val")
            joined = translated(real, seed, sham=0.3).joined(val)
            mixes = joined.series[: len(real.series)] if arm != "label only" else ()
            if arm == "permuted":
                mixes = tuple(permuted(one, seed) for one in mixes)
            sets = [replace(joined, series=s) for s in (real.series, joined.series[len(real.series) :], mixes)]
            s = quick(Path("toy"), tmp_path / f"{arm}{seed}", steps=100, eval_every=100, seed=seed)
            torch.manual_seed(seed)
            path = train_on(s, BagData(*sets, "all", "held", arm), build(s, real), lambda *told: None).model
            net: Any = load_model(path, "bag-classifier").net
            said = Scores.of(list(say(net, test, test.series, torch.device("cpu"))))
            scores.append(bag_auroc(said.score, said.positive))
        found[arm] = float(np.mean(scores))
    assert found["mixtures"] > found["label only"] + 0.1, found
    assert found["permuted"] < found["mixtures"] - 0.1, found
    assert found["permuted"] < found["label only"] + 0.1, found


def test_a_training_that_was_stopped_ends_as_one_that_was_not(mil_toy: Any, tmp_path: Path) -> None:
    s = {"mixtures": (mil_toy.mixes,), "steps": 8, "eval_every": 4, "half": False}
    whole = trained(mil_toy.train, tmp_path / "whole", **s)

    class Stopped(Exception):
        pass

    def stop(what: str, done: int, n: int) -> None:
        if "step 5/" in what:
            raise Stopped

    with pytest.raises(Stopped):
        mil_train(quick(mil_toy.train, tmp_path / "parts", **s), stop)
    parts = trained(mil_toy.train, tmp_path / "parts", **s)
    assert parts.step == whole.step == 8
    first, second = (load_model(one.model).net.state_dict() for one in (whole, parts))
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_the_card_says_of_what_it_learned(mil_toy: Any) -> None:
    card = read_card(mil_toy.model)
    assert card.kind == "bag-classifier" and card.config["model"] == "abmil" and card.config["features"] == 24
    assert card.training["settings"]["mixtures"] == ["mixes"] and card.data["mixtures"] == "mixes"
    assert card.data["groups"] and all(group.startswith("toy") for group in card.data["groups"])
    assert not set(card.training["validation"]) & {"calibration"}


@pytest.mark.parametrize(
    ("target", "model", "losses", "figure"),
    [
        ("fraction", "mean", "label+distance", "val_mae"),
        ("order", "transmil", "rank+distance+direction", "val_tau"),
        ("label", "dsmil", "label+attention+embedding", "val_accuracy"),
        ("label", "max", "rank", "val_loss"),
    ],
)
def test_every_target_model_and_loss_trains(
    mil_toy: Any, tmp_path: Path, target: str, model: str, losses: str, figure: str
) -> None:
    told = {"target": target, "model": model, "losses": losses, "mixtures": (mil_toy.mixes,), "steps": 4}
    found = trained(mil_toy.train, tmp_path / "m", **told)
    assert np.isfinite(found.figures()[figure]) and np.isfinite(found.loss)


@pytest.mark.parametrize("frozen", [False, True])
def test_images_of_patients_are_bags_whose_encoder_learns_or_not(toy: Any, tmp_path: Path, frozen: bool) -> None:
    tiny = {"channels": [8, 16, 16, 16], "stem_width": 8}
    told: dict[str, Any] = {"target": "fraction", "mixtures": ("swap",), "steps": 3, "batch_size": 2, "frozen": frozen}
    told |= {"encoder": toy.weights / "judge.safetensors"} if frozen else {"arch_kwargs": tiny}
    found = trained(toy.data, tmp_path / "m", **told)
    model = load_model(found.model, "bag-classifier")
    assert model.card.image == [16, 16, 1] and model.shape == (16, 16, 1)
    if frozen:
        judge, net = load_model(toy.weights / "judge.safetensors").net.state_dict(), model.net.state_dict()
        assert all(torch.equal(net[f"encoder.{k}"], v) for k, v in judge.items() if f"encoder.{k}" in net)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mixtures": ("nowhere.h5",)}, "does not exist"),
        ({"mixtures": "x" * 300}, "does not exist, or cannot be looked at"),
        ({"target": "order", "mixtures": ("none",)}, "compares mixes of a bag"),
        ({"losses": "distance"}, "asks the answer to move"),
        ({"weights": {"rnk": 1.0}}, "names the loss 'rnk'"),
        ({"split": "train"}, "no split 'train'"),
        ({"encoder": Path("judge.safetensors")}, "sees images, but"),
    ],
)
def test_a_users_mistake_is_one_sentence(mil_toy: Any, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        trained(mil_toy.train, tmp_path / "m", **changes)
    assert not (tmp_path / "m" / "model.safetensors").exists()


def test_bags_of_one_class_and_mixes_of_other_patients_or_widths_are_refused(mil_toy: Any, tmp_path: Path) -> None:
    one = replace(toy_bags(20, 3), series=toy_bags(20, 3).series[::2])
    with pytest.raises(UserError, match="all of one class"):
        trained(export(one, tmp_path / "one"), tmp_path / "m")
    with pytest.raises(UserError, match="holds no bag of those that are trained on"):
        trained(mil_toy.train, tmp_path / "m", mixtures=(str(mil_toy.sweep),))
    narrow = translated(toy_bags(20, 0), 0)
    narrow = replace(narrow, contents=narrow.contents[:, :5])
    with pytest.raises(UserError, match="has features of 5 numbers, but bags of 24 numbers"):
        trained(mil_toy.train, tmp_path / "m", mixtures=(str(export(narrow, tmp_path / "narrow")),))


def test_mixes_of_validation_patients_are_left_out(mil_toy: Any, tmp_path: Path) -> None:
    data = open_bag_data(quick(mil_toy.train, tmp_path / "m", mixtures=(mil_toy.mixes,)))
    held = set(data.validation.groups)
    assert held and not held & set(data.mixes.groups) and not held & set(data.real.groups)
    assert len(data.mixes.series) == len(data.real.series)
