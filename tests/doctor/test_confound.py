"""The line that finds a confound, both ways: it speaks where an edit changes a mark and is silent where it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cfdiff.data.values import to_model
from cfdiff.doctor.confound import BRIGHTNESS, confound, suspects
from cfdiff.doctor.context import open_context
from cfdiff.doctor.settings import DoctorSettings

N, SIZE, EDITS = 48, 24, 16
CORNER = "the place at rows 0-3, columns 0-3"


def images(rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    """Noise of a brightness of each image's own, and a spot in the middle of positives."""
    light = rng.normal(0.5, 0.05, (len(labels), 1, 1))
    found = light + rng.normal(0, 0.03, (len(labels), SIZE, SIZE))
    found[:, 10:14, 10:14] += 0.3 * labels[:, None, None]
    return found[..., None].clip(0, 1)


def guilty(x: np.ndarray, labels: np.ndarray, before: np.ndarray, after: np.ndarray, sources: np.ndarray) -> list[str]:
    """The names of what the check would speak of."""
    found = suspects(x, labels, before, after, sources)
    return [one.name for one in found if one.goes_with_the_class(len(found)) and one.changed]


@pytest.fixture
def world() -> tuple[np.random.Generator, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A generator, images (48), labels, and the first 16 of them, half of each class, with the spot moved over."""
    rng = np.random.default_rng(0)
    labels = np.arange(N) % 2
    x = images(rng, labels)
    after = x[:EDITS].copy()
    after[:, 10:14, 10:14] += 0.3 * np.where(labels[:EDITS] == 0, 1, -1)[:, None, None, None]
    return rng, x, labels, after, labels[:EDITS]


def with_mark(x: np.ndarray, there: np.ndarray) -> np.ndarray:
    x = x.copy()
    x[there, :3, :3] = 1
    return x


def test_an_edit_of_the_cause_alone_is_no_confound(world: Any) -> None:
    _, x, labels, after, sources = world
    assert guilty(x, labels, x[:EDITS], after, sources) == []


def test_a_mark_that_goes_with_the_class_and_that_edits_change_is_found(world: Any) -> None:
    rng, x, labels, after, sources = world
    there = (labels == 1) == (rng.uniform(size=N) < 0.9)
    marked = with_mark(x, there)
    toggled = after.copy()
    toggled[:, :3, :3] = np.where(sources[:, None, None, None] == 0, 1, x[:EDITS, :3, :3])
    assert guilty(marked, labels, marked[:EDITS], toggled, sources) == [CORNER]
    left = after.copy()
    left[:, :3, :3] = marked[:EDITS, :3, :3]
    assert guilty(marked, labels, marked[:EDITS], left, sources) == [], "edits that leave it alone do not use it"


def test_a_border_that_edits_change_and_that_says_nothing_of_the_class_is_an_artefact(world: Any) -> None:
    _, x, labels, after, sources = world
    after[:, :3, :3] += 0.4 * np.where(sources == 0, 1, -1)[:, None, None, None]
    assert guilty(x, labels, x[:EDITS], after, sources) == []


def test_brightness_is_found_where_it_goes_with_the_class_and_edits_shift_all_of_it(world: Any) -> None:
    _, x, labels, after, sources = world
    sign = np.where(labels == 0, -1, 1)[:, None, None, None]
    lit = x + 0.1 * sign
    shifted = lit[:EDITS] - 0.2 * sign[:EDITS]
    assert BRIGHTNESS in guilty(lit, labels, lit[:EDITS], shifted, sources)
    assert guilty(lit, labels, lit[:EDITS], after + 0.1 * sign[:EDITS], sources) == []


def test_a_black_border_is_no_figure(world: Any) -> None:
    _, x, labels, after, sources = world
    for part in (x, after):
        part[:, :4], part[:, -4:], part[:, :, :4], part[:, :, -4:] = 0, 0, 0, 0
    assert [one.name for one in suspects(x, labels, x[:EDITS], after, sources)] == [BRIGHTNESS]


def test_edits_that_flip_everything_about_give_few_false_alarms(world: Any) -> None:
    """The worst of edits: each becomes a random image of the other class. Nothing at the border goes with the class."""
    alarms = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        labels = np.arange(N) % 2
        x = images(rng, labels)
        alarms += bool(guilty(x, labels, x[:EDITS], images(rng, 1 - labels[:EDITS]), labels[:EDITS]))
    assert alarms <= 4


@pytest.fixture(scope="module")
def marked(toys: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Data of which nothing but a bright corner makes the class, and the models that have learned it."""
    folder = tmp_path_factory.mktemp("marked")
    rng = np.random.default_rng(0)
    labels = np.arange(128) % 2
    x = rng.normal(0.4, 0.02, (128, toys.SIZE, toys.SIZE, 1))
    x[labels == 1, :3, :3] += 0.45
    x = toys.stored(x.clip(0, 1), "uint8")
    np.savez(folder / "marked.npz", images=x, labels=np.array(toys.CLASSES)[labels])
    (folder / "weights").mkdir()
    x0, y = to_model(x), torch.from_numpy(labels)
    nets: dict[str, Any] = {"diffusion": toys.toy_unet(), "checker": toys.toy_classifier(2)}
    g = torch.Generator().manual_seed(0)
    for name, net in nets.items():
        optimizer = torch.optim.AdamW(net.train().parameters(), 4e-3)
        for _ in range(200 if name == "diffusion" else 60):
            rows = torch.randint(len(x0), (16,), generator=g)
            levels = torch.randint(1, toys.T + 1, (16,), generator=g)
            signal, noise = toys.SCHEDULE.signal_noise(levels, x0)
            eps = torch.randn(x0[rows].shape, generator=g)
            if name == "diffusion":
                loss = F.mse_loss(net(signal * x0[rows] + noise * eps, levels - 1), eps)
            else:
                loss = F.cross_entropy(net(x0[rows] + 0.2 * eps), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        net.eval()
    toys.save_unet(folder / "weights" / "diffusion.safetensors", nets["diffusion"])
    toys.save_classifier(folder / "weights" / "checker.safetensors", nets["checker"])
    return folder / "marked.npz", folder / "weights"


def settings(data: Path, weights: Path, **changes: Any) -> DoctorSettings:
    quick = {"data": str(data), "weights": str(weights), "device": "cpu", "guides": "clean", "scale": 20, "ratio": 0.5,
             "target": 0.99, "depth": 0.5, "steps": 6, "retries": 0, "batch_size": 16}  # fmt: skip
    return DoctorSettings(**{**quick, **changes})


def test_models_that_have_learned_a_mark_get_a_warning(marked: Any) -> None:
    (line,) = confound(open_context(settings(*marked))[0])
    assert line.status == "warn" and "the place at rows 0-2, columns 0-2" in line.figure
    assert line.values["moved"] > 0.25 and "cfdiff supervise" in line.advice


def test_models_that_have_learned_the_cause_get_none_and_few_images_no_verdict(toy: Any) -> None:
    (line,) = confound(open_context(settings(toy.data, toy.weights, limit=48))[0])
    assert line.status == "ok" and line.name == "confound"
    (line,) = confound(open_context(settings(toy.data, toy.weights, limit=8))[0])
    assert line.status == "ok" and "give a larger --limit" in line.figure
    assert confound(open_context(settings(toy.data, toy.weights, scale=0))[0]) == []
