"""Two judges, recall beside every flip rate, and the figures that noise cannot fake."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cfdiff.data.open import open_source
from cfdiff.data.values import to_model, unit
from cfdiff.edit.cast import probabilities
from cfdiff.errors import UserError
from cfdiff.evaluate.recall import recalls
from cfdiff.evaluate.run import evaluate
from cfdiff.evaluate.settings import EvaluateSettings
from cfdiff.metrics.intervals import share_interval
from cfdiff.metrics.spectrum import high_frequency_share
from cfdiff.models.checkpoint import load_model
from cfdiff.store import open_result
from cfdiff.store.runs import open_run
from cfdiff.translate.run import translate


@pytest.fixture(scope="module")
def run(toy: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty of the toys' healthy images edited to sick."""
    out = tmp_path_factory.mktemp("judges") / "run.h5"
    translate(toy.settings(out, limit=20, steps=4, retries=0))
    return out


@pytest.fixture(scope="module")
def second(toy: Any, toys: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A judge of its own, untrained."""
    return toys.save_classifier(tmp_path_factory.mktemp("second") / "second.safetensors", toys.toy_classifier(17))


def settings(run: Path, toy: Any, **changes: Any) -> EvaluateSettings:
    places = {"run": run, "data": str(toy.data), "weights": str(toy.weights), "device": "cpu"}
    return EvaluateSettings(**{**places, "faithfulness": False, "bootstrap": 50, "repeats": 2, **changes})


def sick(model: Path, images: np.ndarray) -> np.ndarray:
    """(N,) bool: what a model takes for sick."""
    return probabilities(load_model(model), to_model(images)).numpy()[:, 1] > 0.5


def test_each_judge_has_its_figures_and_both_have_theirs(run: Path, toy: Any, second: Path) -> None:
    own = toy.weights / "judge.safetensors"
    found = evaluate(settings(run, toy, judge=(own, second), realism=False))
    with open_result(run) as r:
        source, after = r.source[:], r.counterfactual[:]
    real = open_source(toy.data, from_label=1)
    real_images = real.read(np.arange(24))
    for when, images in (("flip_rate", after), ("before", source), ("recall", real_images)):
        one, other = sick(own, images), sick(second, images)
        for name, seen in (("judge", one), ("judge_2", other), ("both", one & other)):
            assert found[f"{when}_{name}"].all.value == pytest.approx(seen.mean()), (when, name)
    recall = found["recall_both"].all
    known = sick(own, real_images) & sick(second, real_images)
    assert recall.interval == pytest.approx(share_interval(known, real.groups)) and recall.n == 24
    assert recall.by == "Wilson over groups" and found["recall_both"].unit == "share"
    assert "by judge 2, second (resnet10t)" in found["flip_rate_judge_2"].label
    assert "by both judges" in found["flip_rate_both"].label
    names = [judge["name"] for judge in found.as_json()["judges"]]
    assert names == ["judge (resnet10t)", "second (resnet10t)"] and found.judge == found.judges[0]
    assert found.flipped == sick(own, after).sum(), "the first decides"


def test_one_judge_is_named_as_ever(run: Path, toy: Any, second: Path) -> None:
    found = evaluate(settings(run, toy, judge=second, realism=False))
    assert found["flip_rate_judge"].label == "flip rate: seen as the target by the judge"
    assert len(found.judges) == 1 and "flip_rate_both" not in found.sections["valid"].figures


def test_the_recall_of_the_file_is_that_of_its_own_models_and_of_no_other_judge(
    run: Path, toy: Any, second: Path
) -> None:
    with open_result(run) as r:
        stored = r.recall
    found = evaluate(settings(run, toy, realism=False))
    for role in ("judge", "checker"):
        entry = found[f"recall_{role}"].all
        assert (entry.value, entry.n, entry.interval) == (
            *(stored[role].share, stored[role].n),
            (stored[role].low, stored[role].high),
        )
    other = evaluate(settings(run, toy, judge=second, realism=False))
    real = open_source(toy.data, from_label=1).read(np.arange(24))
    assert other["recall_judge"].all.value == sick(second, real).mean()
    assert other["recall_checker"].all.value == stored["checker"].share
    labels = list(found.sections["valid"].figures)
    assert labels.index("recall_judge") == labels.index("flip_rate_judge") + 1, "beside it"


def test_a_file_that_does_not_say_gets_its_recall_from_the_judge_at_hand_or_none(run: Path, toy: Any) -> None:
    with open_run(run) as opened:
        older = dataclasses.replace(opened, recall={})
        assert recalls(settings(run, toy, weights=None, data=None), older, {}) == {}
    found = evaluate(settings(run, toy, weights=None, data=None))
    assert "recall_judge" in found.sections["valid"].figures, "the file says it, without any model"


def test_judges_that_are_one_or_that_steered_are_refused(run: Path, toy: Any, second: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(second.read_bytes())
    for judges, words in (
        ((second, copy), "names the same model twice"),
        ((second, toy.weights / "checker.safetensors"), "steered or accepted"),
        ((second, tmp_path / "none.safetensors"), "no model file"),
        ((second, toy.weights / "guide.safetensors"), "clean-classifier"),
    ):
        with pytest.raises(UserError, match=words):
            evaluate(settings(run, toy, judge=judges))
    with pytest.raises(UserError, match="is the judge"):
        evaluate(settings(run, toy, judge=second, save=tmp_path / "v.h5", out=_link(second, tmp_path / "e.json")))


def _link(path: Path, at: Path) -> Path:
    at.symlink_to(path)
    return at


def test_moved_is_named_after_its_features_and_stands_beside_real_against_real(run: Path, toy: Any) -> None:
    found = evaluate(settings(run, toy))
    one, real = found["moved"], found["moved_real"]
    assert one.label.endswith("(features of judge (resnet10t))") and real.label == f"{one.label}, real against real"
    assert one.all.n == real.all.n == 12 and one.better == "higher"
    assert real.all.value == pytest.approx(1, abs=0.5)
    assert one.all.value is not None and one.all.value < 1.5
    if one.all.interval is not None:
        assert one.all.low < one.all.value < one.all.high and one.all.by == "jackknife over groups"


def test_the_spectrum_of_the_change_stands_beside_that_of_real_pairs(run: Path, toy: Any) -> None:
    found = evaluate(settings(run, toy))
    with open_result(run) as r:
        share = high_frequency_share(unit(r.counterfactual[:]).astype(float) - unit(r.source[:]))
    figure, real, still = (found[name] for name in ("high_frequency", "high_frequency_real", "unchanged"))
    assert figure.all.value == pytest.approx(np.nanmean(share)) and figure.all.n == (~np.isnan(share)).sum()
    assert still.all.value == np.isnan(share).mean() and still.all.n == 20
    assert real.all.value is not None and 0 < real.all.value < 0.2 and real.all.n == 20 and real.flipped is None
    assert list(found.sections["noise"].figures) == ["high_frequency", "high_frequency_real", "unchanged"]


def test_noise_is_seen_as_noise_and_a_bright_spot_is_not(run: Path, toy: Any) -> None:
    with open_run(run) as opened:
        source = opened.read(np.arange(20))[0].astype(float) / 255
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:16, :16]
    spot = 0.4 * np.exp(-((y - 8) ** 2 + (x - 8) ** 2) / 6)[None, :, :, None]
    noisy, real = (high_frequency_share((source + d) - source) for d in (rng.normal(0, 0.03, source.shape), spot))
    assert (noisy > 0.6).all() and (real < 0.15).all()


def test_without_real_images_the_change_is_still_measured(run: Path, toy: Any) -> None:
    found = evaluate(settings(run, toy, weights=None, data=None))
    assert set(found.sections["noise"].figures) == {"high_frequency", "unchanged"}
    assert "moved" not in found.sections["realistic"].figures
