from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cfdiff.data.open import open_source
from cfdiff.data.splitting import TRAIN, VERIFIER
from cfdiff.fit.classifiers import LIGHT
from cfdiff.fit.folder import FitFolder, State
from cfdiff.fit.plan import SECOND
from cfdiff.fit.settings import FitSettings
from cfdiff.fit.stages import LEAST_SHOWN, SHOWN, Fit, show, train
from cfdiff.train.settings import ClassifierSettings
from cfdiff.translate.summary import TranslateSummary


@pytest.mark.parametrize(
    ("known", "seconds", "limit", "probed"),
    [
        ((2.0, 3.0), 103.0, 16, []),
        ((2.0, None), 103.0, 16, ["positive"]),
        ((None, None), 10.0, LEAST_SHOWN, ["negative", "positive"]),
        ((0.001, 0.001), 1000.0, SHOWN, []),
    ],
)
def test_as_many_test_images_are_shown_as_time_allows_by_the_pace_of_the_searches(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: Any, seconds: float, limit: int, probed: list[str]
) -> None:
    asked: list[tuple[str, int, str]] = []

    def translate(s: Any, progress: Any) -> TranslateSummary:
        asked.append((s.from_, s.limit, s.out.name))
        s.out.write_text("")
        summary = object.__new__(TranslateSummary)
        object.__setattr__(summary, "seconds_per_image", 3.0)
        return summary

    monkeypatch.setattr("cfdiff.translate.run.translate", translate)
    source = open_source(toy.data)
    fit = Fit(FitSettings(data=str(toy.data)), FitFolder(tmp_path), source, State({}, 8, "none"))
    monkeypatch.setattr(Fit, "split", lambda self, role: role)
    found: Any = {
        start: SimpleNamespace(seconds_per_image=lambda start, one=one: one)
        for start, one in zip(("negative", "positive"), known, strict=True)
    }
    assert set(show(fit, found, seconds, lambda *a: None)) == {"negative", "positive"}
    assert [(start, n) for start, n, name in asked if name == "probe.h5"] == [(start, LEAST_SHOWN) for start in probed]
    shown = [("negative", limit, "negative-to-positive.h5"), ("positive", limit, "positive-to-negative.h5")]
    assert asked[-2:] == shown and not (tmp_path / "probe.h5").exists()


def test_every_classifier_gets_an_intercept(toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[ClassifierSettings] = []
    monkeypatch.setattr("cfdiff.train.classifier.train_classifier", lambda s, progress: asked.append(s))
    monkeypatch.setattr(Fit, "split", lambda self, role: role)
    fit = Fit(FitSettings(data=str(toy.data)), FitFolder(tmp_path), open_source(toy.data), State({}, 8, "none"))
    for role in ("guide", "checker", "verifier", SECOND, "judge"):
        train(fit, role, 1.0, lambda *a: None)
    assert [(s.intercept, s.noisy) for s in asked] == [(True, True), *[(True, False)] * 4]


def test_classifiers_learn_in_batches_of_what_was_found(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr("cfdiff.train.classifier.train_classifier", lambda s, progress: asked.append(s.batch_size))
    monkeypatch.setattr(Fit, "split", lambda self, role: role)
    state = State({}, 8, "none", batches={"guide": 16, "verifier": 32})
    fit = Fit(FitSettings(data=str(toy.data)), FitFolder(tmp_path), open_source(toy.data), state)
    for role in ("guide", "verifier", "judge"):
        train(fit, role, 1.0, lambda *a: None)
    assert asked == [16, 32, ClassifierSettings.model_fields["batch_size"].default]


@pytest.mark.parametrize("space", ["pixel", "latent"])
def test_classifiers_learn_in_other_light_where_that_does_not_ask_for_new_latents(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, space: str
) -> None:
    lights: dict[str, dict[str, float]] = {}

    def train_classifier(s: Any, progress: Any) -> None:
        lights[s.out.name] = {name: getattr(s, name) for name in LIGHT}

    monkeypatch.setattr("cfdiff.train.classifier.train_classifier", train_classifier)
    monkeypatch.setattr(Fit, "split", lambda self, role: role)
    state = State({}, 8, "none", space=space, light=LIGHT)
    fit = Fit(FitSettings(data=str(toy.data)), FitFolder(tmp_path), open_source(toy.data), state)
    for role in ("guide", "checker", "verifier", "judge"):
        train(fit, role, 1.0, lambda *a: None)
    assert lights["verifier"] == lights["judge"] == LIGHT
    assert lights["guide"] == lights["checker"] == (LIGHT if space == "pixel" else dict.fromkeys(LIGHT, 0.0))
    before = Fit(fit.s, fit.folder, fit.source, State({}, 8, "none"))  # of a fit that had begun without
    train(before, "judge", 1.0, lambda *a: None)
    assert lights["judge"] == {"gain": 0.1, "gamma": 0.0, "cast": 0.0}


@pytest.mark.parametrize("begun", [[], [SECOND]])
def test_the_second_verifier_begins_from_the_diffusion_model_and_learns_what_that_knows(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: list[str]
) -> None:
    asked: dict[str, ClassifierSettings] = {}
    monkeypatch.setattr("cfdiff.train.classifier.train_classifier", lambda s, progress: asked.setdefault(s.out.name, s))
    monkeypatch.setattr(Fit, "split", lambda self, role: role)
    fit = Fit(
        FitSettings(data=str(toy.data)), FitFolder(tmp_path), open_source(toy.data), State({}, 8, "none", begun=begun)
    )
    for role in ("guide", "checker", "verifier", SECOND, "judge"):
        train(fit, role, 1.0, lambda *a: None)
    own = tmp_path / "diffusion" / "model.safetensors"
    assert [role for role, s in asked.items() if s.init == own] == begun
    assert asked[SECOND].split == (f"{TRAIN}+{VERIFIER}" if begun else TRAIN) and asked["guide"].split == TRAIN
    assert ("arch" in asked[SECOND].model_fields_set) == (not begun)
