from __future__ import annotations

import pytest
import torch

from cfdiff.models.calibration import HIGH, LOW, fit_temperature, temperature_at, temperatures


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_the_temperature_that_made_the_labels_is_found(temperature: float) -> None:
    g = torch.Generator().manual_seed(0)
    honest = torch.randn(20_000, 2, generator=g) * 1.5
    labels = torch.distributions.Categorical(logits=honest).probs.cumsum(1)[:, 0] < torch.rand(20_000, generator=g)
    assert fit_temperature(honest * temperature, labels.long()) == pytest.approx(temperature, rel=0.06)


def test_a_perfect_and_a_hopeless_classifier_end_at_the_bounds() -> None:
    labels = torch.tensor([0, 1] * 50)
    right = torch.nn.functional.one_hot(labels, 2).float()
    assert fit_temperature(right, labels) == pytest.approx(LOW, rel=1e-3)
    assert fit_temperature(right, 1 - labels) == pytest.approx(HIGH, rel=1e-3)


def test_a_card_gives_the_temperature_between_its_levels_and_one_without_them() -> None:
    labels = torch.tensor([0, 1])
    assert set(temperatures({0: torch.eye(2), 300: torch.eye(2)}, labels)) == {"0", "300"}
    training = {"calibration": {"0": 1.0, "100": 2.0, "300": 3.0}}
    assert [temperature_at(training, level) for level in (0, 50, 100, 200, 900)] == [1.0, 1.5, 2.0, 2.5, 3.0]
    assert temperature_at({}, 5) == 1.0
