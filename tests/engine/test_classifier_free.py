"""The implicit classifier of a conditional denoiser against the explicit one of the same Gaussian mixture."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cfdiff.engine import (
    ClassifierFree,
    Ddim,
    Guidance,
    NoiseSchedule,
    NoiseSource,
    decode,
    encode_ddim,
    grad_log_prob,
    make_tau,
    q_sample,
    x0_from_eps,
)
from cfdiff.registry import SOLVERS

LEVELS = st.integers(1, 200)


class Told:
    """The exact eps of a mixture: of class 0 or 1 where it is told which, of the whole where told nothing (-1)."""

    def __init__(self, mixture) -> None:
        self.mixture, self.asked = mixture, []

    def __call__(self, x: Tensor, level: int, condition: Tensor | None = None) -> Tensor:
        told = torch.full((len(x),), -1) if condition is None else condition
        self.asked.append(told.tolist())
        each = [self.mixture.negative.eps(x, level), self.mixture.positive.eps(x, level), self.mixture.eps(x, level)]
        return torch.stack(each, 1)[torch.arange(len(x)), told]


@pytest.fixture
def told(mixture) -> Told:
    return Told(mixture)


def noised(mixture, level: int, seed: int = 0, n: int = 8) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(x, eps told nothing, x0_hat, target) at a level."""
    g = torch.Generator().manual_seed(seed)
    x = q_sample(mixture.schedule, mixture.sample(n, seed), level, torch.randn((n, 1, 2, 2), generator=g))
    eps = mixture.eps(x, level)
    return x, eps, x0_from_eps(mixture.schedule, x, level, eps), torch.randint(0, 2, (n,), generator=g)


@given(LEVELS, st.integers(0, 99))
def test_its_gradient_is_that_of_the_log_odds_of_the_exact_classifier(mixture, level: int, seed: int) -> None:
    """grad log p(c_t | x_l) - grad log p(c_s | x_l), with the classifier written down and not implied."""
    x, eps, x0_hat, target = noised(mixture, level, seed)
    g = ClassifierFree(mixture.schedule, Told(mixture)).gradient(x, level, eps, x0_hat, target)
    log_prob = lambda x: mixture.log_prob(x, level)  # noqa: E731
    exact = grad_log_prob(log_prob, x.double(), target) - grad_log_prob(log_prob, x.double(), 1 - target)
    # The difference of two float32 eps is divided by sqrt(1 - ab), which is small at the lowest levels.
    noise = float((1 - mixture.schedule.alpha_bar[level]).sqrt())
    torch.testing.assert_close(g.double(), exact, atol=2e-6 / noise, rtol=1e-5)


@given(LEVELS, st.floats(0, 10), st.integers(0, 99))
def test_guidance_adds_w_times_the_difference_whatever_its_scale(mixture, level: int, w: float, seed: int) -> None:
    """The formula of the field: eps + w (eps(target) - eps(source))."""
    x, eps, x0_hat, target = noised(mixture, level, seed)
    ask = Told(mixture)
    want = eps + w * (ask(x, level, target) - ask(x, level, 1 - target))
    for scale in (1.0, 20.0):
        guide = ClassifierFree(mixture.schedule, ask, weight=w / scale)
        got = Guidance(mixture.schedule, [guide], scale, None, target)(x, level, eps, x0_hat).eps
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


def test_from_the_eps_of_the_source_weight_1_leads_to_that_of_the_target(mixture, told: Told) -> None:
    x, _, x0_hat, target = noised(mixture, 80)
    source = told(x, 80, 1 - target)
    guide = ClassifierFree(mixture.schedule, told)
    got = Guidance(mixture.schedule, [guide], 1.0, None, target)(x, 80, source, x0_hat).eps
    torch.testing.assert_close(got, told(x, 80, target), atol=1e-6, rtol=1e-6)


def test_an_eps_that_was_told_the_source_is_not_asked_for_again(mixture, told: Told) -> None:
    x, _, x0_hat, target = noised(mixture, 80)
    source = told(x, 80, 1 - target)
    told.asked.clear()
    twice = ClassifierFree(mixture.schedule, told).gradient(x, 80, source, x0_hat, target)
    assert told.asked == [(1 - target).tolist(), target.tolist()]
    told.asked.clear()
    once = ClassifierFree(mixture.schedule, told, eps_is_source=True).gradient(x, 80, source, x0_hat, target)
    assert told.asked == [target.tolist()] and torch.equal(once, twice)


def test_the_samples_that_are_still_guided_are_told_their_own_classes(mixture, told: Told) -> None:
    """On a CPU the guides get the active rows alone: the classes must be cut with them."""
    x, eps, x0_hat, _ = noised(mixture, 20)
    target = torch.tensor([0, 1] * 4)
    active = torch.tensor([True, True, True, False, False, True, False, True])
    guidance = Guidance(
        mixture.schedule, [ClassifierFree(mixture.schedule, told)], 2.0, None, target, enough=lambda _: ~active
    )
    got = guidance(x, 20, eps, x0_hat).eps
    want = eps + 2 * (told(x, 20, target) - told(x, 20, 1 - target))
    assert torch.equal(got[~active], eps[~active])
    torch.testing.assert_close(got[active], want[active], atol=1e-5, rtol=1e-5)


def test_the_clamp_holds_it_as_it_holds_any_guide(mixture, told: Told) -> None:
    x, eps, x0_hat, target = noised(mixture, 80)
    step = Guidance(mixture.schedule, [ClassifierFree(mixture.schedule, told, 50.0)], 1.0, 0.2, target)(
        x, 80, eps, x0_hat
    )
    norm = lambda x: x.flatten(1).norm(dim=1)  # noqa: E731
    torch.testing.assert_close(norm(step.eps - eps), 0.2 * norm(eps), atol=1e-6, rtol=1e-5)


@given(
    st.sampled_from(sorted(SOLVERS)),
    st.integers(0, 99),
    st.sampled_from([0.2, 0.6, 1.0]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, 0.3]),
)
def test_weight_0_is_the_input_bit_for_bit(
    mixture, name: str, seed: int, depth: float, source: bool, clip: bool, ratio
) -> None:
    """Anchored, for every solver, told nothing or the source class on the way up and down."""
    ask, x0 = Told(mixture), mixture.sample(4, seed)
    target = torch.randint(0, 2, (4,), generator=torch.Generator().manual_seed(seed))
    denoise = (lambda x, level: ask(x, level, 1 - target)) if source else ask
    path = encode_ddim(mixture.schedule, denoise, x0, make_tau(mixture.schedule, depth, 5))
    solver = SOLVERS[name](0.5)
    options = {"solver": solver, "clip": clip}
    still, moved = (
        decode(
            mixture.schedule,
            denoise,
            path,
            guidance=Guidance(mixture.schedule, [ClassifierFree(mixture.schedule, ask, weight)], 1.0, ratio, target),
            noise=NoiseSource(seed, map(str, range(4))),
            **copy.deepcopy(options),
        )
        for weight in (0.0, 1.0)
    )
    assert torch.equal(still, x0)
    assert not torch.equal(moved, x0)


def test_weight_1_from_the_sources_own_path_translates_a_gaussian_into_the_other() -> None:
    """Classes N(m, s^2) and N(-m, s^2): the flow of one keeps (x - mean) / s, so that x becomes x - 2 m."""
    schedule = NoiseSchedule.cosine(1000)
    mean, std = torch.tensor([[[0.4, -0.4], [0.2, 0.5]]]), 0.2

    def ask(x: Tensor, level: int, condition: Tensor) -> Tensor:
        ab = float(schedule.alpha_bar[level])
        sign = (2 * condition - 1).view(-1, 1, 1, 1)
        return (1 - ab) ** 0.5 * (x - ab**0.5 * sign * mean) / (ab * std**2 + 1 - ab)

    positive = torch.ones(64, dtype=torch.int64)
    x0 = mean + std * torch.randn((64, 1, 2, 2), generator=torch.Generator().manual_seed(0))
    denoise = lambda x, level: ask(x, level, positive)  # noqa: E731
    path = encode_ddim(schedule, denoise, x0, make_tau(schedule, 1.0, 500))
    guide = ClassifierFree(schedule, ask, eps_is_source=True)
    guidance = Guidance(schedule, [guide], 1.0, None, 1 - positive)
    # Beyond the first step the walk leaves the encoded path, where eps told the source is asked anew.
    y = decode(schedule, denoise, path, solver=Ddim(), guidance=guidance)
    torch.testing.assert_close(y, x0 - 2 * mean, atol=0.02, rtol=0)


@pytest.mark.parametrize("w", [0.5, 1.0, 3.0, 7.5])
def test_it_is_the_difference_of_two_guided_predictions_of_diffusers(mixture, told: Told, w: float) -> None:
    """Theirs is uncond + w (cond - uncond); ours is what theirs for the target is above theirs for the source."""
    guiders = pytest.importorskip("diffusers.guiders")
    x, eps, x0_hat, target = noised(mixture, 80)
    theirs = guiders.ClassifierFreeGuidance(guidance_scale=w)
    to_target, to_source = (theirs.forward(told(x, 80, k), eps).pred for k in (target, 1 - target))
    ours = Guidance(mixture.schedule, [ClassifierFree(mixture.schedule, told, w)], 1.0, None, target)
    torch.testing.assert_close(ours(x, 80, eps, x0_hat).eps, eps + to_target - to_source, atol=1e-5, rtol=1e-5)
