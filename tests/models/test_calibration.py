from __future__ import annotations

import numpy as np
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


@given(st.floats(-4, 4), st.integers(1, 40))
def test_the_intercept_takes_out_what_log_odds_lean_as_far_as_their_groups_are_many(by: float, groups: int) -> None:
    z, labels = leaning(by)
    assert fit_intercept(z, labels, np.arange(4000) % groups) == pytest.approx(
        -by / (1 + 1 / groups), rel=5e-3, abs=1e-4
    )


def test_the_intercept_weighs_both_classes_alike_and_levels_too() -> None:
    z, labels = leaning(1.5)
    one = fit_intercept(z, labels, np.zeros(4000))
    many = torch.cat([z, z[:2000].repeat(9)]), torch.cat([labels, labels[:2000].repeat(9)])
    assert fit_intercept(*many, np.zeros(22_000)) == pytest.approx(one, rel=1e-2)
    two = fit_intercept(torch.stack([leaning(1.0)[0], leaning(2.0)[0]]), labels, np.zeros(4000))
    assert two == pytest.approx(one, rel=1e-2)


def test_a_group_that_outweighs_the_others_is_hardly_more_than_one() -> None:
    z, labels = leaning(2.0)
    groups = np.zeros(4000, int)
    groups[::500] = np.arange(8) + 1
    assert fit_intercept(z, labels, groups) == pytest.approx(-1, rel=1e-2)


def test_few_images_say_little_and_those_that_are_told_apart_nothing() -> None:
    z, labels = leaning(2.0)
    some = np.r_[:4, 2000:2004]
    few = fit_intercept(z[some], labels[some], np.arange(8))
    assert 0.8 * fit_intercept(z, labels, np.arange(4000)) < few < 0
    for far in (5.0, 50.0):
        assert fit_intercept(torch.tensor([-far, far + 1]), torch.tensor([0, 1]), np.arange(2)) == pytest.approx(
            0, abs=0.02
        )


def test_no_intercept_lies_beyond_the_bound() -> None:
    labels = torch.tensor([0, 1] * 500)
    z = 99 + torch.randn(1000, generator=torch.Generator().manual_seed(0))
    assert -MOST <= fit_intercept(z, labels, np.arange(1000)) <= 0
