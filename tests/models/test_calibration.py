from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cfdiff.models.calibration import HIGH, LOW, MOST, fit_intercept, fit_temperature, temperature_at, temperatures


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


def leaning(by: float, n: int = 4000, positive: int = 2000) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-odds of images of two classes that are alike but for their sign, and that lean by `by`; their labels."""
    g = torch.Generator().manual_seed(0)
    labels = (torch.arange(n) < positive).long()
    sign, size = 2.0 * labels - 1, torch.randn(2000, generator=g) + 1
    return sign * size[torch.arange(n) % 2000] + by, labels


@given(st.floats(-4, 4), st.integers(1, 100))
def test_the_intercept_takes_out_what_log_odds_lean_as_far_as_their_groups_are_many(by: float, groups: int) -> None:
    assert fit_intercept(*leaning(by), groups) == pytest.approx(-by * groups / (groups + 1), abs=1e-4)


def test_the_intercept_weighs_both_classes_alike_and_levels_too() -> None:
    z, labels = leaning(1.5)
    many = torch.cat([z, z[:2000].repeat(9)]), torch.cat([labels, labels[:2000].repeat(9)])
    assert fit_intercept(*many, 10**9) == pytest.approx(fit_intercept(z, labels, 10**9), abs=1e-4)
    two = fit_intercept(torch.stack([leaning(1.0)[0], leaning(2.0)[0]]), labels, 10**9)
    assert two == pytest.approx(-1.5, abs=1e-3)


def test_the_intercept_of_what_is_told_apart_lies_between_and_that_of_one_answer_at_the_bound() -> None:
    labels = torch.tensor([0, 1] * 50)
    assert fit_intercept(torch.where(labels == 1, 30.0, 10.0), labels, 10**9) == pytest.approx(-MOST, abs=1e-4)
    assert fit_intercept(torch.where(labels == 1, 9.0, 1.0), labels, 10**9) == pytest.approx(-5, abs=1e-4)
    assert fit_intercept(torch.full((100,), 99.0), labels, 10**9) == pytest.approx(-MOST, abs=1e-4)
