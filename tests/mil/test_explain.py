from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mil_toy import export, toy_bags
from PIL import Image

from cfdiff.errors import UserError
from cfdiff.mil.answers import Said, embeddings
from cfdiff.mil.attribution import gradient, removal
from cfdiff.mil.dose import attention_of_edits, mean_curve
from cfdiff.mil.evaluate import mil_evaluate
from cfdiff.mil.explain import mil_explain
from cfdiff.mil.series import Series
from cfdiff.mil.settings import MilEvaluateSettings, MilExplainSettings
from cfdiff.models.bag_network import BagConfig, BagNetwork
from cfdiff.models.checkpoint import load_model


def told(mil_toy: Any, **changes: Any) -> dict[str, Any]:
    return {"model": mil_toy.model, "data": str(mil_toy.test), "device": "cpu", "threads": 1, **changes}


def test_the_figures_are_of_real_bags_of_strange_patients_and_go_to_a_file(mil_toy: Any, tmp_path: Path) -> None:
    found = mil_evaluate(MilEvaluateSettings(**told(mil_toy, out=tmp_path / "f.json")))
    assert (found.bags, found.positive, found.groups) == (16, 8, 16)
    auroc = found.figures["auroc"]
    assert auroc.value is not None and auroc.interval is not None and auroc.interval[0] <= auroc.value
    assert json.loads((tmp_path / "f.json").read_text())["figures"]["auroc"]["value"] == auroc.value
    with pytest.raises(UserError, match="learned from every patient"):
        known = export(toy_bags(20, 0).only(lambda one: one.name in set(_groups(mil_toy))), tmp_path / "known")
        mil_evaluate(MilEvaluateSettings(**told(mil_toy, data=str(known))))


def _groups(mil_toy: Any) -> list[str]:
    return list(load_model(mil_toy.model).card.data["groups"])


def test_bags_may_be_thinned_to_few_positives(mil_toy: Any) -> None:
    from cfdiff.mil.opened import thinned

    bags = toy_bags(8, 0, positives=8)
    few = thinned(bags, 0.1, 0)
    for before, after in zip(bags.series, few.series, strict=True):
        negatives = before.size - int(before.positives[0])
        assert after.size - int(after.positives[0]) == negatives, "no negative leaves"
        assert after.positives[0] == (0 if before.positives[0] == 0 else 1)


def test_explain_measures_draws_and_writes_and_exchanges_real_instances_beside_the_edits(
    mil_toy: Any, tmp_path: Path
) -> None:
    s = MilExplainSettings(**told(mil_toy, sweep=(mil_toy.sweep,), out=tmp_path / "x"))
    found = mil_explain(s)
    assert set(found.where) == {"attention", "gradient", "removal", "chance"} and found.edited == 16
    assert {"edited_tau", "swapped_tau", "agreement", "gap", "attention_before"} <= set(found.dose)
    assert found.curve.keys() == {"edited", "swapped"} and "1.0" in found.curve["edited"]
    for path in found.pictures:
        with Image.open(path) as image:
            assert image.size[0] > 500
    assert json.loads((tmp_path / "x" / "explain.json").read_text())["edited"] == 16
    with pytest.raises(UserError, match="holds something already"):
        mil_explain(s)
    real = mil_explain(MilExplainSettings(**told(mil_toy, out=tmp_path / "y", attribution="attention")))
    assert real.sweep is None and set(real.curve) == {"swapped"} and set(real.where) == {"attention", "chance"}


def test_what_does_not_fit_the_model_is_refused(mil_toy: Any, toy: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="takes features of 24 numbers an instance, but toy.npz has 16x16x1"):
        mil_evaluate(MilEvaluateSettings(**told(mil_toy, data=str(toy.data))))
    with pytest.raises(UserError, match="is a clean-classifier model, but a bag-classifier model is needed"):
        mil_evaluate(MilEvaluateSettings(**told(mil_toy, model=toy.weights / "judge.safetensors")))
    with pytest.raises(UserError, match="make one with cfdiff mil train"):
        mil_evaluate(MilEvaluateSettings(**told(mil_toy, model=tmp_path / "none.safetensors")))
    with pytest.raises(UserError, match="holds no bag of the patients"):
        mil_explain(MilExplainSettings(**told(mil_toy, sweep=(mil_toy.mixes,), out=tmp_path / "x")))


def test_attributions_of_a_mean_of_instances_are_known() -> None:
    """score = w . mean(h) + b: the gradient times the input is w . h_i / n, and so is the removal, up to the rest."""
    torch.manual_seed(0)
    net = BagNetwork(BagConfig(model="mean", features=4, width=6)).eval()
    h = embeddings(
        net, np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32), np.arange(5), torch.device("cpu")
    )
    linear: Any = net.pooling.net
    each = h @ linear.weight[0]
    assert torch.allclose(gradient(net, h), each / 5, atol=1e-6)
    assert torch.allclose(removal(net, h), each.mean() - (each.sum() - each) / 4, atol=1e-5)
    assert removal(net, h[:1]).tolist() == [0.0]


def test_curves_and_shares_of_attention_are_means() -> None:
    labels = np.array([[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0]], np.int8)
    bag = Series("a", "a", np.zeros((3, 4), np.int64), labels, np.array([0, 1, 1], np.int8))
    attention = np.array([[0.1, 0.3, 0.3, 0.3], [0.7, 0.1, 0.1, 0.1], [0.4, 0.4, 0.1, 0.1]])
    said = Said(bag, np.array([0.0, np.log(3), 50.0]), attention)
    assert mean_curve([said]) == pytest.approx({"0.0": 0.5, "0.2": 0.75, "0.5": 1.0})
    before, after = attention_of_edits(said)
    assert before == pytest.approx(4 * (0.1 + 0.1 + 0.3) / 3) and after == pytest.approx(4 * (0.7 + 0.4 + 0.4) / 3)
