"""How much a machine learns in the time, and what is trained with how many images at once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from cfdiff.errors import UserError
from cfdiff.fit.classifiers import ARCHITECTURES
from cfdiff.fit.pace import BATCH, classified_a_second, fitting_batch, fitting_batches, fitting_network
from cfdiff.models.classifier import ClassifierConfig


def test_too_little_time_for_a_first_model_is_said_with_what_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    pace: Callable[..., float] = lambda shape, width, device, precision="no": 10.0 * 64 / width  # noqa: E731
    monkeypatch.setattr("cfdiff.fit.pace.images_a_second", pace)
    cpu = torch.device("cpu")
    with pytest.raises(UserError, match=r"1 minutes for the diffusion model are too short here: .* takes 1.2 at least"):
        fitting_network((16, 16, 1), 1.0, cpu)
    found = [fitting_network((16, 16, 1), minutes, cpu) for minutes in (2, 40, 200)]
    assert found == [(32, "no"), (48, "no"), (64, "no")]


@pytest.mark.parametrize(("gain", "chosen"), [(0.3, "no"), (1.05, "no"), (1.4, "bf16")])
def test_half_precision_is_taken_where_it_is_quicker(monkeypatch: pytest.MonkeyPatch, gain: float, chosen: str) -> None:
    pace: Callable[..., float] = lambda shape, width, device, precision="no": 1e3 * (gain if precision != "no" else 1)  # noqa: E731
    monkeypatch.setattr("cfdiff.fit.pace.images_a_second", pace)
    assert fitting_network((16, 16, 1), 200.0, torch.device("cpu")) == (64, chosen)


def test_a_batch_is_smaller_where_steps_are_few() -> None:
    assert [fitting_batch(images) for images in (10, 40_000, 70_000, 1e6)] == [16, 16, 32, 64]


@pytest.mark.parametrize("noisy", [False, True])
def test_the_pace_of_a_classifier_is_that_of_its_best_step_after_the_first(
    monkeypatch: pytest.MonkeyPatch, noisy: bool
) -> None:
    clock = iter([0.0, 0.001, 10.0, 14.0, 20.0, 22.0])  # the first warms up, and is the shortest
    monkeypatch.setattr("cfdiff.fit.pace.time.monotonic", lambda: next(clock))
    config = ClassifierConfig(arch="resnet10t", channels=1, size=(32, 32), noisy=noisy)
    assert classified_a_second(config, torch.device("cpu")) == BATCH / 2


@pytest.mark.parametrize("space", ["pixel", "latent"])
def test_classifiers_get_a_batch_by_their_own_pace_and_time(monkeypatch: pytest.MonkeyPatch, space: str) -> None:
    asked: list[ClassifierConfig] = []

    def pace(config: ClassifierConfig, device: torch.device, precision: str) -> float:
        asked.append(config)
        return 200.0 if config.arch == ARCHITECTURES["judge"] else 400.0

    monkeypatch.setattr("cfdiff.fit.pace.classified_a_second", pace)

    def batches(minutes: float) -> dict[str, int]:
        return fitting_batches((128, 128, 3), space, minutes, torch.device("cpu"), "no", 48)

    short, hour, long = batches(1.0), batches(60.0), batches(1000.0)
    assert list(short) == list(hour) == list(long) == list(ARCHITECTURES)
    assert set(short.values()) == {32} and set(long.values()) == {64}
    assert (hour["verifier"], hour["guide"]) == (32, 64), "36,000 images and 202,000, fewer in latents"
    seen = [(config.size, config.noisy) for config in asked[:3]]  # verifiers and judge are one network
    steering = (128, 128) if space == "pixel" else (32, 32)
    assert seen == [(steering, True), (steering, False), ((128, 128), False)]
    assert len(asked) == 3 * (3 if space == "latent" else 4)
    begun = [config for config in asked if config.arch == "unet"]
    assert [(config.kwargs["width"], config.size) for config in begun] == [(48, (128, 128))] * len(begun)
    assert len(begun) == (0 if space == "latent" else 3), "the second verifier is the way down of the diffusion model"
