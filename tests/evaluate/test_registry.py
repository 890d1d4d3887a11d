"""A metric that is registered from outside the package is measured, reported and saved like those that come along."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from cfdiff.cli import app as program
from cfdiff.evaluate.run import evaluate
from cfdiff.evaluate.settings import EvaluateSettings
from cfdiff.metrics.pair import Metric
from cfdiff.registry import METRICS
from cfdiff.translate.run import translate


@pytest.fixture(scope="module")
def run_file(toy: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("metrics") / "run.h5"
    translate(toy.settings(out, limit=6, steps=3, retries=0))
    return out


@pytest.fixture
def largest() -> Iterator[Metric]:
    metric = Metric(
        "largest change of a pixel, pixels above {eps:g}/255 changed",
        lambda source, cf, s: np.abs(cf - source).max(axis=(1, 2, 3)),
        better="lower",
        within=(0, 1),
    )
    METRICS["largest_change"] = metric
    yield metric
    del METRICS["largest_change"]


def json_of(run_file: Path, toy: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any, *more: Any) -> dict[str, Any]:
    places = ["--data", toy.data, "--weights", toy.weights, "--device", "cpu", "--no-realism", "--no-faithfulness"]
    monkeypatch.setattr(sys, "argv", ["cfdiff", "evaluate", *map(str, [run_file, *places, "--json", *more])])
    with pytest.raises(SystemExit) as ended:
        program.main()
    printed = capsys.readouterr()
    assert not ended.value.code, printed.err
    found: dict[str, Any] = json.loads(printed.out)
    return found


def test_a_metric_from_outside_is_in_the_json_and_its_values_in_the_saved_file(
    largest: Metric, run_file: Path, toy: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path
) -> None:
    found = json_of(run_file, toy, monkeypatch, capsys, "--save", tmp_path / "values.h5")
    figure = found["sections"]["minimal"]["figures"]["largest_change"]
    with h5py.File(run_file) as file:
        change = np.abs(file["counterfactual"][:].astype(float) - file["source"][:]).max(axis=(1, 2, 3)) / 255
    assert figure["label"] == "largest change of a pixel, pixels above 4/255 changed" and figure["better"] == "lower"
    assert figure["all"]["value"] == pytest.approx(change.mean(), rel=1e-5) and "unit" not in figure
    with h5py.File(tmp_path / "values.h5") as file:
        assert file["largest_change"][:] == pytest.approx(change, rel=1e-5)


def test_a_metric_may_open_a_section_of_its_own(run_file: Path, toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = Metric("brightness", lambda source, cf, s: cf.mean(axis=(1, 2, 3)), section="looks", unit="share")
    monkeypatch.setitem(METRICS, "brightness", extra)
    s = EvaluateSettings(run=run_file, weights=str(toy.weights), device="cpu", realism=False, faithfulness=False)
    found = evaluate(s)
    assert found["brightness"].unit == "share" and found.sections["looks"].question == "looks"
    assert "brightness" in str(found) and "brightness" not in found.sections["minimal"].figures


def test_the_metrics_that_come_along_have_their_names_and_labels_as_ever(
    run_file: Path, toy: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    figures = json_of(run_file, toy, monkeypatch, capsys, "--eps", 2)["sections"]["minimal"]["figures"]
    labels = {name: (f["label"], f["better"], f.get("unit")) for name, f in figures.items()}
    assert labels == {
        "mean_abs_difference": ("mean |difference|, 1 is the full range", "lower", None),
        "l2": ("L2: root of the sum of squares", "lower", None),
        "ssim": ("SSIM with the source", "higher", None),
        "changed_share": ("pixels that changed by more than 2/255", "lower", "share"),
        "changed_regions": ("regions of such pixels", "lower", None),
    }
