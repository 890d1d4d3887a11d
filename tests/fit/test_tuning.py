from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cfdiff.data.open import open_source
from cfdiff.edit.acceptance import Acceptance
from cfdiff.fit.folder import FitFolder, State
from cfdiff.fit.settings import FitSettings
from cfdiff.fit.stages import Fit
from cfdiff.fit.tuning import ASKED, as_begun, beginning, goes_on, lowered, tune, whom_real_images_convince
from cfdiff.train.result import TrainResult
from cfdiff.tune.settings import TuneSettings


@pytest.mark.parametrize(
    ("plain", "turned", "expected"),
    [
        (0.97, 0.96, ("dihedral", 0.9)),
        (0.97, 0.809, ("dihedral", 0.8)),
        (0.97, 0.7, ("none", 0.9)),
        (0.666, 0.6, ("none", 0.66)),
        (0.3, 0.1, ("none", 0.51)),
    ],
)
def test_no_more_is_asked_of_an_edit_than_half_of_the_real_images_of_its_class_fulfil(
    toy: Any, monkeypatch: pytest.MonkeyPatch, plain: float, turned: float, expected: tuple[str, float]
) -> None:
    seen: list[str] = []

    def asked(self: Acceptance, saved: np.ndarray, ids: Any, target: int) -> tuple[np.ndarray, np.ndarray]:
        assert target == 1 and len(saved) == len(ids)
        seen.extend(ids)
        sure = np.full(len(saved), turned if self.s.views == "dihedral" else plain)
        sure[0], sure[-1] = 0.01, 1.0
        return np.zeros((len(saved), 2)), sure

    monkeypatch.setattr(Acceptance, "asked", asked)
    s = TuneSettings(data=str(toy.data), weights=str(toy.weights), split="all", device="cpu")
    assert whom_real_images_convince(s, "dihedral", 1) == expected
    assert 0 < len(set(seen)) <= ASKED


def test_a_card_says_where_less_than_usual_is_asked_of_edits() -> None:
    found: Any = {
        name: SimpleNamespace(goal=SimpleNamespace(margin=margin))
        for name, margin in (("negative", 0.75), ("positive", 0.6))
    }
    (said,) = lowered(found)
    assert said.startswith("From positive: the verifier gives the target 0.60 or less")


def test_each_search_has_the_images_of_the_class_that_it_starts_from(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, int] = {}

    def search(s: TuneSettings, progress: Any) -> Any:
        asked[s.from_] = s.images

    monkeypatch.setattr("cfdiff.tune.run.tune", search)
    monkeypatch.setattr("cfdiff.fit.tuning.whom_real_images_convince", lambda *a: ("none", 0.9))
    source = open_source(toy.data)
    splits = np.where((source.labels == 1) & (np.arange(len(source)) >= 8), "train", "val")
    s = FitSettings(data=str(toy.data), out=tmp_path)
    fit = Fit(s, FitFolder(tmp_path), replace(source, splits=splits), State({}, 8, "none"))
    tune(fit, TrainResult(Path("m"), 1, 1.0), 1.0, lambda *a: None)
    assert asked == {"negative": 12, "positive": 2}


@pytest.mark.parametrize(
    ("space", "edit", "find"), [("pixel", "anchored+regenerate", "guides+denoiser"), ("latent", "auto", None)]
)
def test_searches_in_latents_begin_with_the_smaller_change_of_both_ways(space: str, edit: str, find: Any) -> None:
    guide = TrainResult(Path("m"), 1, 1.0, val_accuracy_by_level={"0": 0.9, "500": 0.9, "700": 0.5})
    fit: Any = SimpleNamespace(state=SimpleNamespace(space=space))
    start = beginning(fit, guide)
    assert (start["edit"], start["guides"], start["depth"]) == (edit, "both", 0.6)
    assert start.get("redraw_find") == find, "in latents it was not measured"


def test_a_search_goes_on_where_it_would_begin_alike(tmp_path: Path) -> None:
    guide = TrainResult(Path("m"), 1, 1.0, val_accuracy_by_level={"0": 0.9, "500": 0.9, "700": 0.5})
    fit: Any = SimpleNamespace(state=SimpleNamespace(space="pixel"), folder=FitFolder(tmp_path))
    assert not goes_on(fit, guide), "none was made"
    fit.folder.recipe.write_text(as_begun(beginning(fit, guide)))
    assert goes_on(fit, guide)
    assert not goes_on(fit, replace(guide, val_accuracy_by_level={"0": 0.9, "500": 0.6})), "from another depth"
    fit.folder.recipe.write_text(as_begun({**beginning(fit, guide), "redraw_find": "guides"}))
    assert not goes_on(fit, guide), "as one of before began"
