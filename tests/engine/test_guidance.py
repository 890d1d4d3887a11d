from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from cfdiff.engine import (
    Ddim,
    Guidance,
    NoiseSchedule,
    NoisyGuide,
    TweedieGuide,
    count_gradient,
    count_log_pmf,
    decode,
    encode_ddim,
    grad_log_prob,
    make_tau,
    q_sample,
    x0_from_eps,
)
from cfdiff.engine.symmetry import Symmetry, views

LEVEL = 80


@pytest.fixture(scope="module")
def at_level(mixture):
    """(x, eps, x0_hat, target) at LEVEL."""
    g = torch.Generator().manual_seed(0)
    x = q_sample(mixture.schedule, mixture.sample(8), LEVEL, torch.randn((8, 1, 2, 2), generator=g))
    eps = mixture.eps(x, LEVEL)
    return x, eps, x0_from_eps(mixture.schedule, x, LEVEL, eps), (torch.arange(8) < 4).long()


def guide_once(mixture, at_level, *, guides=None, scale=1.0, ratio=None, **options):
    x, eps, x0_hat, target = at_level
    guides = [NoisyGuide(mixture.log_prob)] if guides is None else guides
    guidance = Guidance(mixture.schedule, guides, scale, ratio, target, **options)
    return guidance(x, LEVEL, eps, x0_hat)


def numeric_gradient(f, x: Tensor, h: float = 1e-5) -> Tensor:
    """Central differences of f: (B, ...) -> (B,), float64."""
    x = x.double()
    g = torch.zeros_like(x)
    for i in range(x[0].numel()):
        step = torch.zeros_like(x[0]).flatten()
        step[i] = h
        g.flatten(1)[:, i] = (f(x + step.view_as(x[0])) - f(x - step.view_as(x[0]))) / (2 * h)
    return g


def test_scale_1_makes_the_exact_conditional_eps(mixture, at_level) -> None:
    """eps - sqrt(1 - ab) grad log p(y | x) is the eps of p(x | y): here another Gaussian's, known exactly."""
    x, _, _, target = at_level
    exact = torch.where(
        (target == 1)[:, None, None, None], mixture.positive.eps(x, LEVEL), mixture.negative.eps(x, LEVEL)
    )
    torch.testing.assert_close(guide_once(mixture, at_level).eps, exact, atol=1e-5, rtol=1e-5)


def test_guided_sampling_draws_from_the_exact_conditional(mixture) -> None:
    """Scale 1 leads all the mass to the target's mode, with its mean and its spread."""
    tau = make_tau(mixture.schedule, 1, 200)
    x = torch.randn((2000, 1, 2, 2), generator=torch.Generator().manual_seed(0))
    target = torch.ones(2000, dtype=torch.long)
    guidance = Guidance(mixture.schedule, [NoisyGuide(mixture.log_prob)], 1.0, None, target)
    for a, b in zip(tau[:0:-1], tau[-2::-1], strict=True):
        eps = mixture.eps(x, a)
        eps = guidance(x, a, eps, x0_from_eps(mixture.schedule, x, a, eps)).eps
        x = Ddim().step(mixture.schedule, x, eps, a, b)
    assert (mixture.clean_log_prob(x).argmax(1) == 1).all()
    assert (x.mean(0) - mixture.positive.mean).abs().max() < 0.02
    assert (x.std(0) / mixture.positive.std - 1).abs().max() < 0.06


def test_a_stronger_scale_moves_more(mixture) -> None:
    x0 = mixture.sample(8)
    trajectory = encode_ddim(mixture.schedule, mixture.eps, x0, make_tau(mixture.schedule, 0.6, 30))
    target = (torch.arange(8) < 4).long()
    changes = []
    for scale in (0.0, 0.5, 2.0, 8.0):
        guidance = Guidance(mixture.schedule, [NoisyGuide(mixture.log_prob)], scale, None, target)
        y = decode(mixture.schedule, mixture.eps, trajectory, solver=Ddim(), guidance=guidance)
        changes.append(float((y - x0).abs().mean()))
    assert changes[0] == 0
    assert changes == sorted(changes) and len(set(changes)) == 4


def test_the_noisy_gradient_is_the_finite_difference(mixture, at_level) -> None:
    x, eps, x0_hat, target = at_level
    g = NoisyGuide(mixture.log_prob).gradient(x, LEVEL, eps, x0_hat, target)
    numeric = numeric_gradient(lambda x: mixture.log_prob(x, LEVEL).gather(1, target[:, None])[:, 0], x)
    assert g.dtype == torch.float32
    torch.testing.assert_close(g.double(), numeric, atol=1e-5, rtol=1e-5)


def test_the_cheap_tweedie_gradient_is_that_of_x0_hat_over_sqrt_alpha_bar(mixture, at_level) -> None:
    x, eps, x0_hat, target = at_level
    g = TweedieGuide(mixture.schedule, mixture.clean_log_prob).gradient(x, LEVEL, eps, x0_hat, target)
    numeric = numeric_gradient(lambda x0: mixture.clean_log_prob(x0).gather(1, target[:, None])[:, 0], x0_hat)
    numeric = numeric / math.sqrt(float(mixture.schedule.alpha_bar[LEVEL]))
    torch.testing.assert_close(g.double(), numeric, atol=1e-4, rtol=1e-4)


def test_the_exact_tweedie_gradient_passes_through_the_network(mixture, at_level) -> None:
    x, eps, x0_hat, target = at_level
    guide = TweedieGuide(mixture.schedule, mixture.clean_log_prob, exact=True, denoise=mixture.eps)
    g = guide.gradient(x, LEVEL, eps, x0_hat, target)

    def log_p(x: Tensor) -> Tensor:
        x0_hat = x0_from_eps(mixture.schedule, x, LEVEL, mixture.eps(x, LEVEL))
        return mixture.clean_log_prob(x0_hat).gather(1, target[:, None])[:, 0]

    torch.testing.assert_close(g.double(), numeric_gradient(log_p, x), atol=1e-4, rtol=1e-4)


def test_for_a_gaussian_the_exact_tweedie_gradient_is_the_cheap_one_times_the_jacobian(gaussian) -> None:
    """d x0_hat / d x = sqrt(ab) s^2 / v, and the cheap form takes 1 / sqrt(ab) for it."""
    x, target = gaussian.sample(4), torch.zeros(4, dtype=torch.long)
    eps = gaussian.eps(x, LEVEL)
    x0_hat = x0_from_eps(gaussian.schedule, x, LEVEL, eps)

    def log_prob(x0: Tensor) -> Tensor:
        return torch.log_softmax(torch.stack([x0.sum((1, 2, 3)), -x0.square().sum((1, 2, 3))], 1), 1)

    cheap = TweedieGuide(gaussian.schedule, log_prob)
    exact = TweedieGuide(gaussian.schedule, log_prob, exact=True, denoise=gaussian.eps)
    signal, v = gaussian.moments(LEVEL)
    torch.testing.assert_close(
        exact.gradient(x, LEVEL, eps, x0_hat, target),
        cheap.gradient(x, LEVEL, eps, x0_hat, target) * signal**2 * gaussian.std**2 / v,
        atol=1e-5,
        rtol=1e-4,
    )


def test_the_gradients_of_several_guides_add(mixture, at_level) -> None:
    eps = at_level[1]
    noisy, clean = NoisyGuide(mixture.log_prob), TweedieGuide(mixture.schedule, mixture.clean_log_prob)
    alone = [guide_once(mixture, at_level, guides=[g]).eps - eps for g in (noisy, clean)]
    both = guide_once(mixture, at_level, guides=[noisy, clean]).eps - eps
    torch.testing.assert_close(both, alone[0] + alone[1], atol=1e-5, rtol=1e-5)


def test_the_strength_is_clamped_to_a_fraction_of_the_networks_norm(mixture, at_level) -> None:
    eps = at_level[1]
    free = guide_once(mixture, at_level, scale=2.0)
    clamped = guide_once(mixture, at_level, scale=2.0, ratio=1.6)
    torch.testing.assert_close(clamped.ratio, free.ratio.clamp(max=1.6), atol=1e-6, rtol=1e-5)
    assert (free.ratio > 1.6).any() and (free.ratio < 1.6).any(), "both sides of the clamp are tested"
    term = (clamped.eps - eps).flatten(1).norm(dim=1) / eps.flatten(1).norm(dim=1)
    torch.testing.assert_close(term, clamped.ratio, atol=1e-5, rtol=1e-4)


def test_an_infinite_scale_is_the_pure_ratio(mixture, at_level) -> None:
    step = guide_once(mixture, at_level, scale=math.inf, ratio=0.3)
    torch.testing.assert_close(step.ratio, torch.full((8,), 0.3), atol=1e-5, rtol=0)


def test_scale_and_ratio_may_differ_by_sample(mixture, at_level) -> None:
    scale, ratio = torch.linspace(0, 3, 8), torch.linspace(0.1, 0.8, 8)
    step = guide_once(mixture, at_level, scale=scale, ratio=ratio)
    for i in range(8):
        one = guide_once(mixture, at_level, scale=float(scale[i]), ratio=float(ratio[i]))
        torch.testing.assert_close(step.eps[i], one.eps[i], atol=1e-6, rtol=1e-5)
    assert step.active.tolist() == [False] + [True] * 7


def test_scale_0_returns_eps_bit_for_bit_and_calls_no_guide(mixture, at_level) -> None:
    def log_prob(x, level):
        raise AssertionError("called")

    step = guide_once(mixture, at_level, guides=[NoisyGuide(log_prob)], scale=0.0)
    assert torch.equal(step.eps, at_level[1])
    assert not step.active.any() and not step.ratio.any()


@pytest.mark.parametrize("scale", [1.0, math.inf])
@pytest.mark.parametrize("ratio", [None, 0.0, 0.5])
def test_a_zero_gradient_gives_no_strength_and_no_nan(mixture, at_level, scale, ratio) -> None:
    guide = NoisyGuide(lambda x, level: torch.stack([0 * x.sum((1, 2, 3)), 0 * x.sum((1, 2, 3))], 1))
    step = guide_once(mixture, at_level, guides=[guide], scale=scale, ratio=ratio)
    assert torch.equal(step.eps, at_level[1])
    assert step.ratio.tolist() == [0] * 8


def test_a_network_that_predicts_no_noise_gives_no_nan(mixture, at_level) -> None:
    x, eps, x0_hat, target = at_level
    guidance = Guidance(mixture.schedule, [NoisyGuide(mixture.log_prob)], 1.0, 0.5, target)
    step = guidance(x, LEVEL, 0 * eps, x0_hat)
    assert not step.eps.any() and not step.ratio.any()


def test_the_closed_loop_stops_the_samples_that_the_checker_is_sure_of(mixture, at_level) -> None:
    eps, x0_hat, target = at_level[1:]
    p = mixture.clean_log_prob(x0_hat).exp().gather(1, target[:, None])[:, 0]
    confidence = float(p.sort().values[4])
    step = guide_once(mixture, at_level, checker=mixture.clean_log_prob, confidence=confidence)
    assert torch.equal(step.active, p < confidence)
    assert 0 < step.active.sum() < 8
    assert torch.equal(step.eps[~step.active], eps[~step.active])
    assert (step.eps[step.active] != eps[step.active]).any()
    assert torch.equal(step.ratio > 0, step.active)


def test_a_guide_sees_only_the_active_samples_and_none_is_called_for_nobody(mixture, at_level) -> None:
    x, eps, x0_hat, target = at_level
    seen: list[Tensor] = []

    def log_prob(x, level):
        seen.append(x.detach())
        return mixture.log_prob(x, level)

    sure = torch.tensor([0.999, 0.001]).log().expand(8, 2)  # of class 0
    guide = NoisyGuide(log_prob)
    guide_once(mixture, at_level, guides=[guide], checker=lambda x0: sure)
    assert len(seen) == 1 and torch.equal(seen[0], x[target == 1])
    guidance = Guidance(mixture.schedule, [guide], 1.0, None, 0 * target, lambda x0: sure)
    assert not guidance(x, LEVEL, eps, x0_hat).active.any()
    assert len(seen) == 1


def test_the_closed_loop_changes_less_and_still_flips(mixture) -> None:
    x0 = mixture.sample(16)
    target = (torch.arange(16) < 8).long()
    trajectory = encode_ddim(mixture.schedule, mixture.eps, x0, make_tau(mixture.schedule, 0.6, 40))

    def run(checker):
        guide = TweedieGuide(mixture.schedule, mixture.clean_log_prob)
        guidance = Guidance(mixture.schedule, [guide], math.inf, 1.2, target, checker)
        return decode(mixture.schedule, mixture.eps, trajectory, solver=Ddim(), guidance=guidance)

    open_, closed = run(None), run(mixture.clean_log_prob)
    assert (closed - x0).abs().mean() < 0.7 * (open_ - x0).abs().mean()
    assert torch.equal(mixture.clean_log_prob(closed).argmax(1), target)


@pytest.mark.parametrize(
    ("max_level", "min_level", "on"), [(LEVEL, 1, True), (LEVEL - 1, 1, False), (None, LEVEL + 1, False)]
)
def test_guidance_is_off_outside_its_levels(mixture, at_level, max_level, min_level, on) -> None:
    guide = NoisyGuide(mixture.log_prob, max_level=max_level)
    step = guide_once(mixture, at_level, guides=[guide], min_level=min_level)
    assert step.active.tolist() == [on] * 8
    assert torch.equal(step.eps, at_level[1]) is not on


def test_each_guide_has_its_own_highest_level(mixture, at_level) -> None:
    off = NoisyGuide(mixture.log_prob, max_level=LEVEL - 1)
    clean = TweedieGuide(mixture.schedule, mixture.clean_log_prob)
    both = guide_once(mixture, at_level, guides=[off, clean])
    assert torch.equal(both.eps, guide_once(mixture, at_level, guides=[clean]).eps)


def test_a_gradient_is_float32_under_autocast_and_leaves_the_weights_alone() -> None:
    linear = torch.nn.Linear(4, 2)
    x, target = torch.randn(5, 4), torch.tensor([0, 1, 0, 1, 1])

    def log_prob(x):
        return torch.log_softmax(linear(x), 1)

    plain = grad_log_prob(log_prob, x, target)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        under_autocast = grad_log_prob(log_prob, x, target)
    assert torch.equal(plain, under_autocast)
    assert linear.weight.grad is None and not x.requires_grad


def test_a_gradient_does_not_depend_on_the_batch(mixture, at_level) -> None:
    x, _, _, target = at_level
    together = grad_log_prob(lambda x: mixture.log_prob(x, LEVEL), x, target)
    alone = [grad_log_prob(lambda x: mixture.log_prob(x, LEVEL), x[i : i + 1], target[i : i + 1]) for i in range(8)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-6, rtol=1e-5)


@dataclass(frozen=True)
class CountGuide:
    """The joint mode of a bag as a guide: log P(K = k | X), with the gradient (q_i - p_i) grad l_i(x_i)."""

    logit: object
    k: int
    max_level: int | None = None
    joint: bool = True

    def gradient(self, x: Tensor, level: int, eps: Tensor, x0_hat: Tensor, target: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            logits = self.logit(x, level)
            return torch.autograd.grad(logits @ count_gradient(logits, self.k).to(logits), x)[0]


def test_a_joint_guide_gets_the_whole_bag_and_moves_only_the_active(mixture, at_level) -> None:
    x, eps, x0_hat, target = at_level

    def logit(x: Tensor, level: int) -> Tensor:
        log_p = mixture.log_prob(x, level)
        return log_p[:, 1] - log_p[:, 0]

    guide = CountGuide(logit, k=3)
    sure = torch.tensor([0.999, 0.001]).log().expand(8, 2)
    step = guide_once(mixture, at_level, guides=[guide], checker=lambda x0: sure)
    assert torch.equal(step.active, target == 1)
    assert torch.equal(step.eps[target == 0], eps[target == 0])

    g = guide.gradient(x, LEVEL, eps, x0_hat, target)
    h = 1e-5
    for i in (0, 5):
        up, down = x.double(), x.double()
        up[i, 0, 0, 0] += h
        down[i, 0, 0, 0] -= h
        numeric = (count_log_pmf(logit(up, LEVEL))[3] - count_log_pmf(logit(down, LEVEL))[3]) / (2 * h)
        assert float(g[i, 0, 0, 0]) == pytest.approx(float(numeric), abs=1e-4)


def test_guidance_works_on_any_schedule_at_its_ends() -> None:
    schedule = NoiseSchedule.cosine(1000)
    x = torch.randn(2, 1, 2, 2)
    guide = NoisyGuide(lambda x, level: torch.log_softmax(x.flatten(1)[:, :2], 1))
    for level in (1, 1000):
        step = Guidance(schedule, [guide], 5.0, 0.5, torch.tensor([0, 1]))(x, level, x, x)
        assert torch.isfinite(step.eps).all() and (step.ratio > 0).all()


@pytest.mark.parametrize("scale", [3.0, 1e4])
def test_asking_the_guides_of_all_samples_gives_what_asking_the_active_ones_gives(mixture, scale: float) -> None:
    """On a GPU no step may wait to learn which samples are active; the inactive ones keep their eps bit for bit."""
    x0 = mixture.sample(6)
    level = 40
    x = q_sample(mixture.schedule, x0, level, torch.randn(x0.shape, generator=torch.Generator().manual_seed(1)))
    eps = mixture.eps(x, level)
    x0_hat = x0_from_eps(mixture.schedule, x, level, eps)
    guides, target = [NoisyGuide(mixture.log_prob)], torch.ones(6).long()
    options = {"checker": mixture.clean_log_prob, "confidence": 0.9}
    sparse, dense = (
        Guidance(mixture.schedule, guides, scale, 0.5, target, dense=dense, **options)(x, level, eps, x0_hat)
        for dense in (False, True)
    )
    assert torch.equal(sparse.active, dense.active) and 0 < sparse.active.sum() < 6
    torch.testing.assert_close(sparse.eps, dense.eps)
    assert torch.equal(dense.eps[~dense.active], eps[~dense.active])


def test_a_guide_that_overflows_for_a_sample_that_has_enough_does_not_touch_it(mixture) -> None:
    class Overflows:
        max_level, joint = None, False

        def gradient(self, x, level, eps, x0_hat, target):
            return torch.full_like(x, float("nan"))

    x, target = mixture.sample(4), torch.ones(4).long()
    enough = lambda x0_hat: torch.ones(4, dtype=torch.bool)  # noqa: E731
    done = Guidance(mixture.schedule, [Overflows()], 3.0, 0.5, target, enough=enough, dense=True)
    assert torch.equal(done(x, 40, x, x).eps, x)


@pytest.mark.parametrize("exact", [False, True])
def test_with_views_each_level_shows_another_mirror_image_and_the_gradient_is_that_of_the_image(exact: bool) -> None:
    """Of log p = sum of the weights times the image: its gradient is the weights, seen from where the image was."""
    weights = torch.arange(9.0, dtype=torch.float64).view(1, 1, 3, 3)
    schedule = NoiseSchedule.cosine(100)
    x, target = torch.zeros(2, 1, 3, 3, dtype=torch.float64), torch.tensor([0, 1])

    def log_prob(x: Tensor, level: int = 0) -> Tensor:
        p = (x * weights).sum((1, 2, 3))
        return torch.stack([p, -p], 1)

    def shown(level: int, kind: Symmetry) -> set[tuple[float, ...]]:
        noisy = NoisyGuide(log_prob, views=kind).gradient(x, level, x, x, target)
        clean = TweedieGuide(schedule, log_prob, exact=exact, denoise=lambda x, level: 0 * x, views=kind)
        signal, _ = schedule.signal_noise(level, x)
        torch.testing.assert_close(clean.gradient(x, level, x, x, target) * signal, noisy)
        torch.testing.assert_close(noisy[1], -noisy[0])
        return {tuple(noisy[0].flatten().tolist())}

    plain = set.union(*(shown(level, "none") for level in range(1, 60)))
    turned = set.union(*(shown(level, "dihedral") for level in range(1, 60)))
    assert plain == {tuple(weights.flatten().tolist())}
    assert turned == {tuple(view.flatten().tolist()) for view in views(weights, "dihedral")}
