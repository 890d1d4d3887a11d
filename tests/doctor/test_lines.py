"""The checks that need no network: values, saving, groups, machine; and the closed form of the pixelwise predictor."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cfdiff.doctor import data as doctor_data
from cfdiff.doctor import machine as doctor_machine
from cfdiff.doctor.classifiers import falling
from cfdiff.doctor.context import Context, open_context
from cfdiff.doctor.diffusion import linear_loss
from cfdiff.doctor.lines import Line, Report
from cfdiff.doctor.settings import DoctorSettings
from cfdiff.doctor.witnesses import judge, unseen, verifier
from cfdiff.models.checkpoint import Card, Model
from cfdiff.models.ensemble import ensemble


def written(path: Path, n: int, dtype: str = "uint8") -> Path:
    """n random images, every other one sick."""
    images = np.random.default_rng(0).random((n, 8, 8, 1))
    stored = images.astype(dtype) if dtype == "float32" else (images * np.iinfo(dtype).max).astype(dtype)
    np.savez(path, images=stored, labels=np.array(["healthy", "sick"] * (n // 2)))
    return path


def context_of(path: Path, **changes: Any) -> Context:
    """A context of data and no models."""
    s = DoctorSettings(data=str(path), device="cpu", group_key=None)
    return dataclasses.replace(open_context(s)[0], **changes)


def model(part: str, sha: str, **data: Any) -> Model:
    net = nn.Identity()
    net.config = {}  # type: ignore[assignment]
    return Model(net, Card(part, {}, None, data, {}), sha, part)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((6, 4, 4, 1), np.uint8), "Every pixel is 0"),
        (np.concatenate([np.full((1, 4, 4, 1), 9), np.arange(80).reshape(5, 4, 4, 1)]).astype(np.uint8), "one value"),
        (np.arange(96).reshape(6, 4, 4, 1).astype(np.uint16) * 40, "12 bits"),
        ((np.arange(96).reshape(6, 4, 4, 1) / 96 / 255).astype(np.float32), "divided by 255"),
    ],
)
def test_images_that_cannot_be_meant_are_a_warning(tmp_path: Path, images: np.ndarray, words: str) -> None:
    (line,) = doctor_data.values(context_of(written(tmp_path / "x.npz", 6), images=images))
    assert line.status == "warn" and words in line.advice


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_good_images_of_every_type_pass_and_survive_saving(tmp_path: Path, dtype: str) -> None:
    context = context_of(written(tmp_path / "x.npz", 6, dtype=dtype))
    assert doctor_data.values(context)[0].status == "ok"
    saving = doctor_data.round_trip(context)[0]
    assert saving.status == "ok" and saving.values["error"] <= (1e-6 if dtype == "float32" else 0)


def test_a_lossy_save_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = context_of(written(tmp_path / "x.npz", 6))
    monkeypatch.setattr(doctor_data, "to_saved", lambda x, dtype: context.stored // 2 * 2)
    line = doctor_data.round_trip(context)[0]
    assert line.status == "fail" and line.values["error"] == pytest.approx(1 / 255)


def test_the_judge_may_share_no_group_with_those_that_steer(tmp_path: Path) -> None:
    context = context_of(written(tmp_path / "x.npz", 6))

    def lines(own: dict[str, Any], guide: dict[str, Any], sha: str = "2") -> list[Line]:
        models = {"guide": model("guide", "1", **guide), "judge": model("judge", sha, **own)}
        return judge(dataclasses.replace(context, models=models))

    apart, shared = lines({"groups": ["a", "b"]}, {"groups": ["c"]}), lines({"groups": ["a", "b"]}, {"groups": ["b"]})
    assert [(li.name, li.status, li.values) for li in apart] == [("judge and guide", "ok", {"shared": 0.0})]
    assert (
        shared[0].status == "warn" and shared[0].values == {"shared": 1.0} and "1 of the judge's 2" in shared[0].figure
    )
    untold = lines({"groups": ["a"]}, {"groups": []})[0]
    assert untold.status == "warn" and untold.figure.endswith("in the card of the guide")
    assert "very same images" in lines({"fingerprint": "f"}, {"fingerprint": "f"})[0].figure
    adapted = {"fingerprint": "f", "adapted_to": {"fingerprint": "new"}}
    assert "very same images" in lines({"fingerprint": "new"}, adapted)[0].figure, "data without groups, too"
    assert [li.status for li in lines({"groups": ["a"]}, {"groups": ["c"]}, sha="1")] == ["fail"]


def test_every_model_of_a_role_is_compared(tmp_path: Path) -> None:
    context = context_of(written(tmp_path / "x.npz", 6))
    verifiers = ensemble([model("verifier", "2", groups=["a"]), model("verifier", "3", groups=["b"])])
    assert verifiers is not None
    models = {
        "guide": model("guide", "1", groups=["b"]),
        "verifier": verifiers,
        "judge": model("judge", "4", groups="c"),
    }
    context = dataclasses.replace(context, models=models)
    found = {line.name: line.status for line in judge(context)}
    assert found == {f"judge and {name}": "ok" for name in ("guide", "verifier", "verifier-2")}
    assert {line.name: line.status for line in verifier(context)} == {
        "verifier and guide": "ok",
        "verifier-2 and guide": "warn",
    }


def test_groups_that_a_model_was_trained_on_are_counted(tmp_path: Path) -> None:
    source = context_of(written(tmp_path / "x.npz", 18)).data
    context = context_of(
        tmp_path / "x.npz", source=dataclasses.replace(source, groups=np.array(["P0", "P1", "P2"] * 6))
    )

    def line(groups: list[str]) -> Line:
        return unseen(dataclasses.replace(context, models={"judge": model("judge", "1", groups=groups)}))[0]

    assert line(["P1", "P2", "Q"]).values == {"judge": 2.0} and line(["P1"]).status == "warn"
    assert line(["Q"]).status == "ok"
    assert unseen(dataclasses.replace(context, models={"judge": model("judge", "1")})) == []


def test_the_pixelwise_predictor_is_the_best_of_gaussian_pixels() -> None:
    g = torch.Generator().manual_seed(0)
    variance, ab, mean = torch.tensor([0.01, 0.3]), 0.7, 0.2
    x0 = mean + variance.sqrt() * torch.randn(200_000, 2, generator=g)
    eps = torch.randn(200_000, 2, generator=g)
    x = ab**0.5 * x0 + (1 - ab) ** 0.5 * eps

    def loss(gain: float) -> float:
        hat = gain * (1 - ab) ** 0.5 * (x - ab**0.5 * mean) / (ab * variance + 1 - ab)
        return float((eps - hat).square().mean())

    assert linear_loss(variance, ab) == pytest.approx(loss(1.0), rel=0.01)
    assert loss(1.0) < min(loss(0.9), loss(1.1))
    assert linear_loss(torch.zeros(3), ab) == 0 and linear_loss(torch.full((3,), 1e9), ab) == pytest.approx(1)


def test_the_machine_is_told_and_an_idle_gpu_or_too_many_threads_are_warnings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = context_of(written(tmp_path / "x.npz", 6))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert doctor_machine.device(context)[0].status == "ok"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert "--device cuda" in doctor_machine.device(context)[0].advice
    monkeypatch.setattr(doctor_machine, "usable_cpus", lambda: 2)
    for used, status in ((2, "ok"), (3, "warn")):
        monkeypatch.setattr(torch, "get_num_threads", lambda used=used: used)
        line = doctor_machine.threads(context)[0]
        assert line.status == status and line.values == {"threads": used, "processors": 2.0}
    assert "--threads 2" in line.advice


def test_little_free_memory_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = context_of(written(tmp_path / "x.npz", 6))
    for free, statuses in ((0.5, ["warn"]), (2.0, ["ok"]), (None, [])):
        monkeypatch.setattr(doctor_machine, "free_memory", lambda device, free=free: free and int(free * 2**30))
        assert [line.status for line in doctor_machine.memory(context)] == statuses


def test_one_lucky_level_does_not_hide_that_the_guide_fell_to_chance_before() -> None:
    fit = falling({0: 0.79, 50: 0.71, 100: 0.58, 200: 0.60, 300: 0.67, 400: 0.62})
    assert [fit[level] for level in (0, 50)] == pytest.approx([0.79, 0.71])
    assert [fit[level] for level in (100, 200, 300, 400)] == pytest.approx([0.6175] * 4)
    assert falling({0: 0.9, 10: 0.8, 20: 0.5}) == pytest.approx({0: 0.9, 10: 0.8, 20: 0.5})


def test_a_report_reads_as_lines_is_asked_by_name_and_has_the_keys_of_json() -> None:
    report = Report(
        "cells", 8, (Line("device", "ok", "cpu"), Line("eps error", "fail", "5: nan", "Train.", {"5": np.nan}))
    )
    assert repr(report).splitlines() == [
        "Report of cells, 8 images: 1 ok, 0 warn, 1 fail",
        "  ok   device: cpu",
        "  fail eps error: 5: nan -> Train.",
    ]
    assert report["device"].status == "ok" and report.failed == [report["eps error"]]
    assert report.as_json()["lines"][1]["values"] == {"5": None}, "JSON knows no nan"
