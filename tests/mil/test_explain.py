from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mil_toy import export, quick, toy_bags, translated
from PIL import Image

from cfdiff.errors import UserError
from cfdiff.mil.answers import Said, embeddings
from cfdiff.mil.attribution import gradient, removal
from cfdiff.mil.dose import attention_of_edits, mean_curve
from cfdiff.mil.evaluate import mil_evaluate
from cfdiff.mil.explain import mil_explain
from cfdiff.mil.series import Series
from cfdiff.mil.settings import MilEvaluateSettings, MilExplainSettings
from cfdiff.mil.sources import read_sweep
from cfdiff.mil.train import mil_train
from cfdiff.models.bag_network import BagConfig, BagNetwork
from cfdiff.models.checkpoint import load_model
from cfdiff.progress import silent
from cfdiff.store.bag_layouts import Origin, write_origin


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
    assert found.curve.keys() == {"edited", "swapped"}
    assert [(point.positives, point.mix) for point in found.curve["edited"][:2]] == [(0, 0.0), (1, 1 / 16)]
    assert found.curve["edited"][-1].mix == 1
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


def test_a_sweep_of_features_that_other_models_made_is_refused(mil_toy: Any, tmp_path: Path) -> None:
    for name, made_by in (("mixes", "a"), ("sweep", "b")):
        shutil.copytree(getattr(mil_toy, name), tmp_path / name)
        write_origin(tmp_path / name, Origin({"diffusion": made_by}, "judge 1"))
    model = mil_train(
        quick(mil_toy.train, tmp_path / "m", mixtures=(tmp_path / "mixes",), steps=1, eval_every=1), silent
    ).model
    s = told(mil_toy, model=model, sweep=(tmp_path / "sweep",), out=tmp_path / "x", attribution="attention")
    with pytest.raises(UserError, match="sweep was edited by other models than the mixtures"):
        mil_explain(MilExplainSettings(**s))
    assert mil_explain(MilExplainSettings(**s, other_models=True)).edited == 16
    s["out"] = tmp_path / "y"
    write_origin(tmp_path / "sweep", Origin({"diffusion": "a"}, "judge 2"))
    with pytest.raises(
        UserError,
        match="features of sweep are of another encoder than those of the model model .other weights of judge",
    ):
        mil_explain(MilExplainSettings(**s))


def test_what_is_left_out_is_counted(mil_toy: Any, tmp_path: Path) -> None:
    both = toy_bags(20, 0).joined(toy_bags(16, 7, name="test"))
    data, sweep = export(both, tmp_path / "both"), export(translated(both, 1), tmp_path / "swept")
    learned = len(_groups(mil_toy))
    s = told(mil_toy, data=str(data))
    found = mil_evaluate(MilEvaluateSettings(**s))
    assert found.bags == 36 - learned and found.notes == found.as_json()["notes"]
    assert found.notes[0].startswith(f"{learned} of 36 bags are of patients that the model learned from")
    assert mil_evaluate(MilEvaluateSettings(**s, known_groups=True)).notes == ()
    more = {"attribution": "attention", "out": tmp_path / "x", "limit": 6}
    notes = mil_explain(MilExplainSettings(**s, **more, sweep=(sweep,))).notes
    assert [note.split(" of ")[0] for note in notes] == [str(learned), "30"]
    assert "30 of 36 bags of swept are of patients that are not asked about" in notes[1]


def test_bags_whose_instances_nobody_labelled_are_refused_unless_there_is_a_sweep(mil_toy: Any, tmp_path: Path) -> None:
    shutil.copytree(mil_toy.test, tmp_path / "bare")
    for path in (tmp_path / "bare").glob("*.npz"):
        with np.load(path) as file:
            arrays = {key: file[key] for key in file.files if key != "labels"}
        np.savez(path, **arrays)
    s = told(mil_toy, data=str(tmp_path / "bare"), out=tmp_path / "x", attribution="attention")
    with pytest.raises(UserError, match="does not say which instances are positive"):
        mil_explain(MilExplainSettings(**s))
    assert not (tmp_path / "x").exists()
    found = mil_explain(MilExplainSettings(**s, sweep=(mil_toy.sweep,)))
    assert found.edited == 16 and set(found.curve) == {"edited"}
    assert any("held against nothing" in note for note in found.notes)
    assert any("none was exchanged" in note for note in found.notes)


def test_a_sweep_of_bags_that_hold_several_patients_is_refused(make_bags: Any, tmp_path: Path) -> None:
    """The first instance's patient stood for all: bags that held instances of training patients were asked about."""
    path = make_bags(bags=12)
    source = read_sweep(path)
    ids = np.concatenate([one.ids for one in source.series if one.ids is not None])
    images, labels = source.contents[: len(ids)], np.arange(len(ids)) % 2

    def data(name: str, groups: np.ndarray) -> str:
        np.savez(tmp_path / name, images=images, labels=labels, id=ids, group=groups, classes=np.array(["a", "b"]))
        return str(tmp_path / name)

    whole = np.repeat([one.name for one in source.series], 8)
    mixed = whole.copy()
    mixed[7] = "P1"
    tiny: dict[str, Any] = {"arch_kwargs": {"channels": [8, 16, 16, 16], "stem_width": 8}, "target": "fraction"}
    few: dict[str, Any] = {"steps": 1, "eval_every": 1, "batch_size": 2, "mixtures": ("none",)}
    model = mil_train(quick(Path(data("whole.npz", whole)), tmp_path / "m", **tiny, **few), silent).model
    s = {"model": model, "device": "cpu", "threads": 1, "attribution": "attention", "sweep": (path,)}
    s |= {"known_groups": True, "out": tmp_path / "x"}
    with pytest.raises(UserError, match=r"The bag P0 of .* holds instances of 2 patients"):
        mil_explain(MilExplainSettings(**s, data=data("mixed.npz", mixed)))
    assert mil_explain(MilExplainSettings(**s, data=data("whole.npz", whole))).edited == 12


def test_none_one_and_two_positives_of_a_large_bag_are_points_of_their_own() -> None:
    """74 of 161 versions at "0.0" held one positive, and the point said neither what none nor what one gives."""
    counts, n = [0, 1, 2, 3, 5, 40], 40
    labels = np.stack([(np.arange(n) < k).astype(np.int8) for k in counts])
    bag = Series("a", "a", np.zeros((6, n), np.int64), labels, np.array([0, 1, 1, 1, 1, 1], np.int8))
    score = np.array([-4.0, -3.0, -2.0, 0.0, 0.0, 9.0])
    curve = mean_curve([Said(bag, score, np.full((6, n), 1 / n))] * 2)
    assert [point.positives for point in curve] == [0, 1, 2, None, None]
    assert [point.mix for point in curve] == pytest.approx([0, 0.025, 0.05, 0.1, 1])
    assert [point.versions for point in curve] == [2, 2, 2, 4, 2]
    assert [point.answer for point in curve[:4]] == pytest.approx([1 / (1 + np.exp(-x)) for x in (-4, -3, -2, 0)])


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
    curve = mean_curve([said])
    assert [(point.positives, point.mix, point.versions) for point in curve] == [
        (0, 0, 1),
        (None, 0.25, 1),
        (None, 0.5, 1),
    ]
    assert [point.answer for point in curve] == pytest.approx([0.5, 0.75, 1.0])
    before, after = attention_of_edits(said)
    assert before == pytest.approx(4 * (0.1 + 0.1 + 0.3) / 3) and after == pytest.approx(4 * (0.7 + 0.4 + 0.4) / 3)
