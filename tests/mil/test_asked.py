from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mil_toy import export, quick, toy_bags, translated

from cfdiff.errors import UserError
from cfdiff.mil.asked import has_shams, silences, weights_of
from cfdiff.mil.data import open_bag_data
from cfdiff.mil.losses import label, rank
from cfdiff.mil.settings import MilTrainSettings
from cfdiff.mil.targets import ORDER, Labelled
from cfdiff.mil.train import mil_train
from cfdiff.models.bag_network import BagAnswer, BagConfig, BagNetwork
from cfdiff.progress import silent

pytest.importorskip("torchmil")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(toy_bags(20, 0), tmp_path_factory.mktemp("asked") / "bags")


@pytest.mark.parametrize(
    "changes",
    [{"losses": "rank"}, {"weights": {"rank": 3.0}}, {"versions": 2}, {"low": 9.0}, {"permute": True}],
)
def test_what_is_asked_of_mixtures_is_refused_where_there_are_none(
    folder: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """A training with --permute --losses rank without mixtures was a plain one, without a word."""
    with pytest.raises(UserError, match=f"--{next(iter(changes))} is of mixtures, and this training has none"):
        open_bag_data(quick(folder, tmp_path / "m", mixtures=("none",), **changes))
    assert open_bag_data(quick(folder, tmp_path / "m", **changes)).mixes.series
    same = {name: MilTrainSettings.model_fields[name].get_default(call_default_factory=True) for name in changes}
    assert not open_bag_data(quick(folder, tmp_path / "m", mixtures=("none",), **same)).mixes.series


@pytest.mark.parametrize("changes", [{"frozen": True}, {"arch": "resnet18"}, {"augment": "flip"}, {"arch_kwargs": {}}])
def test_what_is_asked_of_an_encoder_is_refused_for_features(
    folder: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    with pytest.raises(UserError, match="is of an encoder of images, but bags holds features"):
        open_bag_data(quick(folder, tmp_path / "m", **changes))
    assert open_bag_data(quick(folder, tmp_path / "m", augment="none")).real.series


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"frozen": True, "encoder": None}, "without --encoder its weights are random"),
        ({"frozen": True, "augment": "flip"}, "each is encoded once"),
        ({"arch": "resnet18"}, "--arch shapes a new encoder"),
    ],
)
def test_what_does_nothing_for_an_encoder_is_refused(
    toy: Any, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    told = {"encoder": toy.weights / "judge.safetensors", **changes}
    with pytest.raises(UserError, match=words):
        open_bag_data(quick(toy.data, tmp_path / "m", target="fraction", **told))


def test_a_weight_of_no_loss_that_is_asked_for_is_refused() -> None:
    with pytest.raises(UserError, match="the loss 'distance', which is not asked for"):
        weights_of(MilTrainSettings(weights={"distance": 2.0}))
    with pytest.raises(UserError, match="the loss 'rnk': the known ones"):
        weights_of(MilTrainSettings(weights={"rnk": 2.0}))
    assert weights_of(MilTrainSettings(losses="label+rank", weights={"label": 0.0, "rank": 2.0})) == {"rank": 2.0}


def test_the_order_of_mixes_counts_once() -> None:
    """Of --target order, label is the rank loss: it counted 1.5 times by default."""
    answers = [BagAnswer(torch.randn(3), torch.rand(3, 4), torch.randn(3, 4, 2))]
    told = [Labelled(torch.tensor([[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0]]), torch.tensor([0, 1, 1]))]
    assert torch.equal(label(answers, told, ORDER), rank(answers, told, ORDER))
    assert "rank" not in weights_of(MilTrainSettings(target="order"))
    assert {"label", "rank"} <= set(weights_of(MilTrainSettings(target="fraction")))
    assert set(weights_of(MilTrainSettings(target="order", losses="rank"))) == {"rank"}
    with pytest.raises(UserError, match="the losses label and rank are the same"):
        weights_of(MilTrainSettings(target="order", losses="label+rank"))


@pytest.mark.parametrize(("name", "asked", "twin"), [("rank", "label+direction", "label"), ("label", "rank", "rank")])
def test_a_weight_of_the_order_names_the_loss_that_counts_it(name: str, asked: str, twin: str) -> None:
    """It said to add rank to --losses, and there that label and rank are the same."""
    told: dict[str, Any] = {"target": "order", "weights": {name: 2.0}}
    with pytest.raises(UserError, match=f"{name!r}.* the same as {twin}.*: give the weight to {twin}"):
        weights_of(MilTrainSettings(**told, losses=asked))
    assert weights_of(MilTrainSettings(target="order", losses=asked, weights={twin: 2.0}))[twin] == 2.0
    with pytest.raises(UserError, match="give the weight to label"):
        weights_of(MilTrainSettings(target="order", weights={"rank": 2.0}))


@pytest.mark.parametrize("given", ["", " ", "x.h5,", "x.h5,,y.h5", ("x.h5", ""), Path("")])
def test_an_empty_name_of_mixtures_is_refused(given: Any) -> None:
    """It became the folder that one is in."""
    with pytest.raises(ValueError, match="holds an empty name"):
        MilTrainSettings(mixtures=given)


def said(model: str, mixes: Any, **changes: Any) -> str:
    net = BagNetwork(BagConfig(model=model, features=24, width=8))
    return " ".join(silences(MilTrainSettings(**changes), mixes, net))


def test_losses_that_are_0_whatever_is_learned_are_said() -> None:
    exact, shammed = translated(toy_bags(4, 0), 0), translated(toy_bags(4, 0), 0, sham=0.3)
    assert not has_shams(exact) and has_shams(shammed)
    assert "losses attention and embedding are always 0" in said("abmil", exact)
    assert "loss embedding is always 0" in said("transmil", exact)
    assert said("abmil", shammed) == said("abmil", exact, losses="label+rank") == ""
    assert said("abmil", replace(exact, series=())) == ""


def test_low_mixes_that_are_not_there_are_said() -> None:
    mixes = translated(toy_bags(4, 0), 0, sham=0.3)
    many = replace(mixes, series=tuple(o.version(np.flatnonzero(~np.isin(o.positives, (1, 2)))) for o in mixes.series))
    assert "No mix has one or two positives" in said("abmil", many) and "--counts 1,2" in said("abmil", many)


def test_the_training_says_so(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mil_train(quick(folder, tmp_path / "m", steps=1, eval_every=1))
    assert "losses attention and embedding are always 0" in capsys.readouterr().err
    mil_train(quick(folder, tmp_path / "n", steps=1, eval_every=1), silent)
    assert capsys.readouterr().err == ""
