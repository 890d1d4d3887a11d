"""Does doctor see that a borrowed classifier is described wrongly? Its accuracy on labelled images says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import cfdiff
from cfdiff.doctor.lines import Line

TOLD = {"classes": "0,1", "output": "logits", "normalisation": "unit", "channels": 1, "size": "images"}


class Brightest(nn.Module):
    """Sick where the brightest pixel is above 0.66 of [0, 1], as `low` and `high` scale it."""

    def __init__(self, low: float = 0.0, high: float = 1.0, outputs: int = 2) -> None:
        super().__init__()
        self.low, self.high, self.outputs = low, high, outputs

    def forward(self, x: Tensor) -> Tensor:
        x = (x - self.low) / (self.high - self.low)
        score = 40 * ((x * 60).flatten(1).logsumexp(1) / 60 - 0.66)
        rest = [torch.full_like(score, 50.0)] * (self.outputs - 2)
        return torch.stack([-score, score, *rest], 1)


def lines(toy: Any, tmp_path: Path, **checkers: Any) -> dict[str, Line]:
    """The lines that are about the checkers."""
    (tmp_path / "diffusion.safetensors").write_bytes((toy.weights / "diffusion.safetensors").read_bytes())
    quick = {"weights": str(tmp_path), "guides": "clean", "steps": 3, "retries": 0, "device": "cpu", "progress": False}
    given = [cfdiff.as_classifier(net, **TOLD | told, name=name) for name, (net, told) in checkers.items()]
    report = cfdiff.doctor(data=str(toy.data), checker=given, **quick)
    return {line.name: line for line in report.lines}


def test_a_true_description_is_well(toy: Any, tmp_path: Path) -> None:
    found = lines(toy, tmp_path, mine=(Brightest(), {}))
    assert found["normalisation (checker)"].status == found["direction (checker)"].status == "ok"
    assert found["direction (checker)"].values["balanced_accuracy"] > 0.9
    assert found["guidance"].status != "fail" and found["trial edit"].status != "fail", "it steers without a guide"


@pytest.mark.parametrize(
    ("net", "told", "name"),
    [
        (Brightest(-1, 1), "unit", "symmetric"),
        (Brightest(0, 255), "symmetric", "bytes"),
        (Brightest(), "bytes", "unit"),
        (Brightest(-0.449 / 0.226, 0.551 / 0.226), "bytes", "0.449/0.226"),
    ],
)
def test_a_wrong_normalisation_fails_with_what_to_write(
    toy: Any, tmp_path: Path, net: nn.Module, told: str, name: str
) -> None:
    line = lines(toy, tmp_path, mine=(net, {"normalisation": told}))["normalisation (checker)"]
    assert line.status == "fail" and line.advice == f'Write normalisation = "{name}" into as_classifier(mine, ...).'
    assert line.values[name] > line.values["described"] + 0.1


def test_classes_the_wrong_way_round_fail_with_what_to_write(toy: Any, tmp_path: Path) -> None:
    found = lines(toy, tmp_path, mine=(Brightest(), {"classes": "1,0"}))
    line = found["direction (checker)"]
    assert line.status == "fail" and 'Write classes = "0,1" into' in line.advice and "inverted" in line.figure
    assert found["normalisation (checker)"].status == "ok"


def test_both_at_once(toy: Any, tmp_path: Path) -> None:
    told = {"classes": "1,0", "normalisation": "unit"}
    line = lines(toy, tmp_path, mine=(Brightest(-1, 1), told))["normalisation (checker)"]
    assert 'normalisation = "symmetric"' in line.advice and 'Write classes = "0,1"' in line.advice


def test_one_that_sees_a_third_class_everywhere_is_not_inverted(toy: Any, tmp_path: Path) -> None:
    line = lines(toy, tmp_path, mine=(Brightest(outputs=3), {}))["direction (checker)"]
    assert line.status == "fail" and "chance" in line.figure and "does not know these images" in line.advice


def test_a_classifier_that_knows_nothing_gets_no_other_normalisation(toy: Any, tmp_path: Path) -> None:
    """Of four others one is better by luck; that is no reason to write another."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
    line = lines(toy, tmp_path, mine=(net, {}))["normalisation (checker)"]
    assert line.status in ("ok", "warn") and "Write normalisation" not in line.advice


def test_one_that_was_trained_on_the_datas_own_mean_and_std(toy: Any, tmp_path: Path) -> None:
    pixels = np.load(toy.data)["images"] / 255
    net = Brightest((0 - pixels.mean()) / pixels.std(), (1 - pixels.mean()) / pixels.std())
    line = lines(toy, tmp_path, mine=(net, {"normalisation": "bytes"}))["normalisation (checker)"]
    assert line.status == "fail" and f'"{pixels.mean():.3f}/{pixels.std():.3f}"' in line.advice


def test_of_several_checkers_each_is_looked_at(toy: Any, tmp_path: Path) -> None:
    found = lines(toy, tmp_path, good=(Brightest(), {}), bad=(Brightest(-1, 1), {}))
    assert found["normalisation (checker good)"].status == "ok"
    assert found["normalisation (checker bad)"].status == "fail"


def test_a_classifier_that_cannot_be_asked_is_a_line_and_hides_no_other(toy: Any, tmp_path: Path) -> None:
    found = lines(toy, tmp_path, mine=(Brightest(outputs=3), {"classes": "0,7"}))
    assert (
        found["model (checker)"].status == "fail"
        and "no 7" in found["model (checker)"].figure + found["model (checker)"].advice
    )
    assert found["identity"].status == "ok"
