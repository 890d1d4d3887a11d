"""The identities of docs/theory.md on a mixture of two Gaussians, where both sides are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from closed_forms import Line, image, quantiles, score
from scipy.integrate import solve_ivp
from scipy.special import ndtr, ndtri

from cfdiff.engine import (
    ClassifierFree,
    Ddim,
    DpmSolver2M,
    Guidance,
    Heun,
    NoiseSchedule,
    NoiseSource,
    NoisyGuide,
    Solver,
    UniPC,
    convert,
    ddim_step,
    ddpm_step,
    decode,
    from_noise,
    l_simple,
    make_tau,
    noise_level,
    posterior,
    q_sample,
    vlb,
    vlb_term,
    x0_from_eps,
)
from cfdiff.models.space import saved_by_difference

LEVELS = [2, 40, 120, 190]
GRID = torch.linspace(-4, 4, 4001, dtype=torch.float64)


@pytest.fixture(scope="module")
def line() -> Line:
    return Line(NoiseSchedule.cosine(200))


def spread(n: int = 21) -> torch.Tensor:
    return torch.linspace(-1.5, 1.5, n, dtype=torch.float64)


def one_level(line: Line, condition=None):
    """The exact network as a training asks it: one level a sample, here all the same."""
    return lambda x, levels: line.eps(x, int(levels[0]), condition)


# Forward process


def test_steps_one_after_another_are_one_step_from_the_image(line: Line) -> None:
    """Mean and variance of each class go through x_t = sqrt(a) x_{t-1} + sqrt(1 - a) z, step by step."""
    x0, eps, k, weight = line.nodes()
    for level in LEVELS:
        mean, variance = line.mean, line.std**2
        for beta in line.schedule.betas[:level].tolist():
            mean, variance = math.sqrt(1 - beta) * mean, (1 - beta) * variance + beta
        x, mine = q_sample(line.schedule, x0, level, eps), weight * (k == 1) * 2
        assert float((mine * x).sum()) == pytest.approx(mean, abs=1e-12)
        assert float((mine * (x - mean) ** 2).sum()) == pytest.approx(variance, abs=1e-12)


def test_the_last_level_is_pure_noise(line: Line) -> None:
    density = line.log_density(GRID, line.schedule.T).exp()
    normal = (-(GRID**2) / 2).exp() / math.sqrt(2 * math.pi)
    assert float((density - normal).abs().max()) < 1e-3
    assert float((line.log_density(GRID, 100).exp() - normal).abs().max()) > 0.01


# Posterior


@pytest.mark.parametrize("level", LEVELS)
def test_the_reverse_step_is_the_posterior_averaged_over_the_images(line: Line, level: int) -> None:
    """E and Var of x_{l-1} given x_l, by Bayes' rule on a grid, against mu~(E[x_0 | x_l], x_l) and beta~."""
    signal, noise2, v = line.moments(level)
    beta = float(line.schedule.betas[level - 1])
    for x in spread(7):
        w = (line.log_density(GRID, level - 1) - (x - math.sqrt(1 - beta) * GRID) ** 2 / (2 * beta)).softmax(0)
        mean = (w * GRID).sum()
        mu, beta_tilde = posterior(line.schedule, line.x0(x[None], level), x[None], level)
        assert float(mu) == pytest.approx(float(mean), abs=1e-6)
        p = line.log_class_density(x[None], level).softmax(-1)[0]
        of_class = [m + signal * line.std**2 / v * (x - signal * m) for m in line.means]
        within = line.std**2 * noise2 / v
        variance_x0 = within + float(
            sum(q * (m - line.x0(x[None], level)) ** 2 for q, m in zip(p, of_class, strict=True))
        )
        c_0 = math.sqrt(float(line.schedule.alpha_bar[level - 1])) * beta / noise2
        assert float((w * (GRID - mean) ** 2).sum()) == pytest.approx(
            float(beta_tilde) + c_0**2 * variance_x0, rel=1e-4
        )


def test_small_steps_back_are_normal() -> None:
    """The excess kurtosis of q(x_{t-1} | x_t) between the classes vanishes as beta does."""
    grid = torch.linspace(-2, 2, 40001, dtype=torch.float64)
    kurtosis = []
    for T in (20, 100, 500):
        line = Line(NoiseSchedule.cosine(T))
        level = T // 2
        beta = float(line.schedule.betas[level - 1])
        w = (line.log_density(grid, level - 1) - (1 - beta) * grid**2 / (2 * beta)).softmax(0)
        kurtosis.append(abs(float((w * grid**4).sum() / (w * grid**2).sum() ** 2) - 3))
    assert kurtosis[0] > 3 * kurtosis[1] > 9 * kurtosis[2]


# Bound


def test_the_bound_lies_above_the_exact_negative_log_likelihood() -> None:
    """E[L_vlb] >= E[-log2 p(x_0)], the probability of the bin of x_0 under the mixture; nearer with more steps."""
    n, gaps = 2000, []
    for T in (50, 400):
        line = Line(NoiseSchedule.cosine(T), std=0.1)
        z = torch.from_numpy(ndtri(quantiles(n // 2)))
        x0 = torch.cat([m + line.std * z for m in line.means]).clamp(-1, 1)
        x0 = (x0 * 127.5 + 127.5).round() / 127.5 - 1
        half = 1 / 255
        exact = -np.log2(line.cdf((x0 + half).numpy(), 0) - line.cdf((x0 - half).numpy(), 0)).mean()
        bound = vlb(line.schedule, one_level(line), image(x0).float(), NoiseSource(0, map(str, range(n)))).total
        gaps.append(float(bound.mean()) - exact)
    error = float(bound.std()) / math.sqrt(n)
    assert gaps[0] > 3 * error and gaps[0] > gaps[1] > -3 * error


@pytest.mark.parametrize("level", LEVELS)
def test_the_three_parametrisations_are_one_term_of_the_bound(line: Line, level: int) -> None:
    """(mu~ - mu_theta)^2 / 2 s^2 with mu_theta made of x0, mu, eps and v, and the weighted squared error of eps."""
    x0, eps, _, _ = line.nodes(6)
    x, beta = q_sample(line.schedule, x0, level, eps), float(line.schedule.betas[level - 1])
    ab = float(line.schedule.alpha_bar[level])
    mu_q, beta_tilde = posterior(line.schedule, x0, x, level)
    constant = (float(beta_tilde) / beta - 1 - math.log(float(beta_tilde) / beta)) / 2
    said = {"eps": line.eps(x, level), "x0": line.x0(x, level)}
    said["mu"] = posterior(line.schedule, said["x0"], x, level)[0]
    said["v"] = math.sqrt(ab) * said["eps"] - math.sqrt(1 - ab) * said["x0"]
    terms = [
        constant + (mu_q - convert(line.schedule, x, level, value, kind, "mu")) ** 2 / (2 * beta)  # type: ignore[arg-type]
        for kind, value in said.items()
    ]
    terms.append(constant + beta / (2 * (1 - beta) * (1 - ab)) * (eps - said["eps"]) ** 2)
    ours = vlb_term(line.schedule, one_level(line), image(x0), level, image(eps)) * math.log(2)
    for term in terms:
        torch.testing.assert_close(ours, term, atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize("level", LEVELS)
def test_no_denoiser_has_a_smaller_loss_than_the_conditional_expectation(line: Line, level: int) -> None:
    """E ||eps - f||^2 = E ||eps - E[eps | x]||^2 + E ||f - E[eps | x]||^2 for any f: here, one that is off by sin x."""
    x0, eps, _, weight = line.nodes(120)
    levels = torch.full((len(x0),), level)

    def loss(f) -> float:
        return float((weight * l_simple(line.schedule, f, image(x0), levels, image(eps))).sum())

    best = loss(one_level(line))
    other = loss(lambda x, levels: one_level(line)(x, levels) + 0.1 * torch.sin(x))
    away = float((weight * (0.1 * torch.sin(q_sample(line.schedule, x0, level, eps))) ** 2).sum())
    assert other - best == pytest.approx(away, rel=0.01)


# DDIM


@pytest.mark.parametrize("level", LEVELS)
def test_sigma_tilde_between_neighbours_is_the_posteriors(line: Line, level: int) -> None:
    """With eta = 1 and b = a - 1 the step is the posterior's: sigma~^2 = beta~, and the same mean."""
    x = spread()
    eps, z = line.eps(x, level), torch.linspace(-2, 2, 21, dtype=torch.float64)
    mu, beta_tilde = posterior(line.schedule, x0_from_eps(line.schedule, x, level, eps), x, level)
    got = ddim_step(line.schedule, x, eps, level, level - 1, 1.0, z)
    torch.testing.assert_close(got, mu + beta_tilde.sqrt() * z, atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(got, ddpm_step(line.schedule, x, eps, level, level - 1, noise=z), atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize(("a", "b"), [(190, 120), (120, 3), (40, 1)])
def test_sigma_tilde_over_a_stride_is_the_posteriors_of_the_respaced_process(line: Line, a: int, b: int) -> None:
    """Its one step from b to a has alpha = ab_a / ab_b; of two normals in x_b, precisions add."""
    ab_a, ab_b = (float(line.schedule.alpha_bar[level]) for level in (a, b))
    alpha, x, z = ab_a / ab_b, spread(), torch.linspace(-2, 2, 21, dtype=torch.float64)
    eps = line.eps(x, a)
    x0 = x0_from_eps(line.schedule, x, a, eps)
    variance = 1 / (alpha / (1 - alpha) + 1 / (1 - ab_b))
    mean = variance * (math.sqrt(alpha) / (1 - alpha) * x + math.sqrt(ab_b) / (1 - ab_b) * x0)
    posterior_step = mean + math.sqrt(variance) * z
    torch.testing.assert_close(ddim_step(line.schedule, x, eps, a, b, 1.0, z), posterior_step, atol=1e-10, rtol=1e-10)
    ours = ddpm_step(line.schedule, x, eps, a, b, noise=z)
    torch.testing.assert_close(ours, posterior_step, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_a_step_is_that_of_the_slides_and_keeps_the_marginal(line: Line, eta: float) -> None:
    """Their alpha-bar is our sqrt(ab), their beta-bar sqrt(1 - ab). Given x_0, x_b is N(sqrt(ab_b) x_0, 1 - ab_b)."""
    a, b = 150, 60
    (alpha_a, noise_a, _), (alpha_b, noise_b, _) = line.moments(a), line.moments(b)
    sigma = eta * math.sqrt(noise_b / noise_a) * math.sqrt(1 - alpha_a**2 / alpha_b**2)
    x, z = spread(), torch.linspace(-2, 2, 21, dtype=torch.float64)
    eps = line.eps(x, a)
    inner = math.sqrt(noise_a) - alpha_a / alpha_b * math.sqrt(noise_b - sigma**2)
    slides = alpha_b / alpha_a * (x - inner * eps) + sigma * z
    torch.testing.assert_close(ddim_step(line.schedule, x, eps, a, b, eta, z), slides, atol=1e-12, rtol=1e-12)
    x0, eps, _, weight = line.nodes(20)
    mean = ddim_step(line.schedule, q_sample(line.schedule, x0, a, eps), eps, a, b, eta, torch.zeros_like(eps))
    left = mean - alpha_b * x0
    assert float((weight * left).sum()) == pytest.approx(0, abs=1e-12)
    assert float((weight * left**2).sum()) + sigma**2 == pytest.approx(noise_b, abs=1e-12)


def drawn(
    line: Line, guidance: Guidance | None, n: int, steps: int = 199, denoise=None, solver: Solver | None = None
) -> np.ndarray:
    """Where DDIM, or another solver, carries the quantiles of the noise, rising."""
    denoise, solver = denoise or line.eps, solver or Ddim()
    tau = make_tau(line.schedule, noise_level(line.schedule) / line.schedule.T, steps)
    x = image(torch.from_numpy(ndtri(quantiles(n))))
    path = from_noise(line.schedule, denoise, x, tau)
    return decode(line.schedule, denoise, path, solver=solver, guidance=guidance, anchored=False).flatten().numpy()


def test_ddim_carries_noise_to_the_data() -> None:
    """The flow keeps each sample's place among all: P(x_0 <= its end) is P(noise <= its start)."""
    line = Line(NoiseSchedule.cosine(1000))
    np.testing.assert_allclose(line.cdf(drawn(line, None, 99, 500), 0), quantiles(99), atol=0.01)


@pytest.mark.parametrize("solver", [DpmSolver2M(), UniPC(), Heun()], ids=["dpm++", "unipc", "heun"])
def test_every_deterministic_solver_ends_where_the_flow_does_in_fewer_steps(solver: Solver) -> None:
    """With 60 steps each is nearer to the quantiles of the data than DDIM, of which it is a higher order."""
    line = Line(NoiseSchedule.cosine(1000))
    error, euler = (
        np.abs(line.cdf(drawn(line, None, 99, 60, solver=one), 0) - quantiles(99)) for one in (solver, Ddim())
    )
    assert error.max() < 0.01 and error.max() < euler.max() / 2


# Classifier guidance


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_classifier_guidance_is_the_score_of_the_sharpened_density(line: Line, level: int, scale: float) -> None:
    """p(x_l) p(y | x_l)^s; with s = 1 and the exact classifier that is the class itself."""
    x, target = spread(), torch.ones(21, dtype=torch.int64)
    eps = image(line.eps(x, level))
    guidance = Guidance(line.schedule, [NoisyGuide(line.log_prob)], scale, None, target)
    got = guidance(image(x), level, eps, x0_from_eps(line.schedule, image(x), level, eps)).eps.flatten()

    def log_density(x: torch.Tensor) -> torch.Tensor:
        return line.log_density(x, level) + scale * line.log_prob(image(x), level)[:, 1]

    noise = math.sqrt(line.moments(level)[1])
    torch.testing.assert_close(-got / noise, score(log_density, x), atol=1e-6 / noise, rtol=1e-6)
    if scale == 1:
        torch.testing.assert_close(got, line.eps(x, level, target), atol=1e-6, rtol=1e-6)


# Classifier-free guidance


@pytest.mark.parametrize("level", LEVELS)
def test_the_conditional_denoiser_is_the_expectation_within_the_class(line: Line, level: int) -> None:
    """It has the least loss on the images of its class: that of any other is larger by their distance."""
    x0, eps, k, weight = line.nodes(120)
    for target in (0, 1):
        mine = k == target
        condition, levels = torch.full((int(mine.sum()),), target), torch.full((int(mine.sum()),), level)
        args = (image(x0[mine]), levels, image(eps[mine]))
        exact = one_level(line, condition)

        def loss(f, args=args, mine=mine) -> float:
            return float((2 * weight[mine] * l_simple(line.schedule, f, *args)).sum())

        x = q_sample(line.schedule, x0[mine], level, eps[mine])
        away = line.eps(x, level) - line.eps(x, level, condition)
        assert loss(one_level(line)) - loss(exact) == pytest.approx(
            float((2 * weight[mine] * away**2).sum()), rel=0.02, abs=1e-9
        )
        signal, _, v = line.moments(level)
        assert loss(exact) == pytest.approx(signal**2 * line.std**2 / v, rel=1e-6)


def towards(line: Line, w: float, n: int) -> Guidance:
    """eps(none) + w (eps(positive) - eps(none)), as cfdiff generate makes it."""
    guide = ClassifierFree(line.schedule, line.eps, w, eps_is_source=True)
    return Guidance(line.schedule, [guide], 1.0, None, torch.ones(n, dtype=torch.int64))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("w", [1.0, 2.0])
def test_cfg_is_at_every_level_the_score_of_the_sharpened_density(line: Line, level: int, w: float) -> None:
    """p(x_l)^(1 - w) p(x_l | y)^w."""
    x = spread()
    eps = image(line.eps(x, level))
    got = towards(line, w, 21)(image(x), level, eps, eps).eps.flatten()

    def log_density(x: torch.Tensor) -> torch.Tensor:
        return (1 - w) * line.log_density(x, level) + w * line.log_class_density(x, level)[:, 1]

    noise = math.sqrt(line.moments(level)[1])
    torch.testing.assert_close(-got / noise, score(log_density, x), atol=1e-6 / noise, rtol=1e-6)


def test_cfg_with_w_1_draws_the_class_itself() -> None:
    line = Line(NoiseSchedule.cosine(1000))
    x = drawn(line, towards(line, 1.0, 99), 99, 500)
    np.testing.assert_allclose(ndtr((x - line.mean) / line.std), quantiles(99), atol=0.01)


def test_cfg_with_w_2_draws_a_sharper_class_whose_flow_is_known() -> None:
    """The walk down follows dy = eps dsigma with y = x / sqrt(ab); here it is solved by scipy, with the densities'
    scores by hand. The classes' near sides are pushed away: a mean further out, and a smaller deviation."""
    line, n, w = Line(NoiseSchedule.cosine(1000)), 99, 2.0
    top = noise_level(line.schedule)
    ab = float(line.schedule.alpha_bar[top])

    def slope(sigma: float, y: np.ndarray) -> np.ndarray:
        v = line.std**2 + sigma**2
        p = 1 / (1 + np.exp(-2 * line.mean * y / v))  # of the positive class
        return sigma * ((y - line.mean) - (w - 1) * 2 * line.mean * (1 - p)) / v

    start = ndtri(quantiles(n)) / math.sqrt(ab)
    exact = solve_ivp(slope, (math.sqrt((1 - ab) / ab), 0), start, rtol=1e-8, atol=1e-8).y[:, -1]
    x = drawn(line, towards(line, w, n), n, 900)
    np.testing.assert_allclose(x, exact, atol=0.01)
    assert x.mean() > line.mean + 0.01 and x.std() < 0.95 * line.std


def test_cfg_with_w_2_on_gaussians_has_deviation_s_squared_over_S() -> None:
    """All N(0, S^2), the class N(m, s^2): the flow is linear, and its end has deviation S^(1 - w) s^w, less than
    that of p^(1 - w) p_y^w, sqrt(1 / ((1 - w) / S^2 + w / s^2)): at w = 2 the walk is sharper than its density."""
    schedule, S, s, m = NoiseSchedule.cosine(1000), 1.0, 0.5, 0.6
    line = Line(schedule)

    def eps(x: torch.Tensor, level: int, condition: torch.Tensor | None = None) -> torch.Tensor:
        ab = float(schedule.alpha_bar[level])
        mean, std = (0.0, S) if condition is None else (m, s)
        return math.sqrt(1 - ab) * (x - math.sqrt(ab) * mean) / (ab * std**2 + 1 - ab)

    for w in (1.0, 2.0):
        guide = ClassifierFree(schedule, eps, w, eps_is_source=True)
        guidance = Guidance(schedule, [guide], 1.0, None, torch.ones(99, dtype=torch.int64))
        x = drawn(line, guidance, 99, 900, denoise=eps)
        z = ndtri(quantiles(99))
        assert float(np.polyfit(z, x, 1)[0]) == pytest.approx(S ** (1 - w) * s**w, rel=0.02)
    assert s**2 / S < math.sqrt(1 / (2 / s**2 - 1 / S**2)) < s


def test_langevin_with_cfg_draws_the_sharpened_density(line: Line) -> None:
    """At one level, steps along the guided score with noise draw p(x_l)^(1 - w) p(x_l | y)^w itself."""
    level, w, n, step = 60, 2.0, 4000, 0.02
    g = torch.Generator().manual_seed(0)
    x, noise, guidance = torch.zeros(n, dtype=torch.float64), math.sqrt(line.moments(level)[1]), towards(line, w, n)
    for _ in range(250):
        eps = image(line.eps(x, level))
        along = -guidance(image(x), level, eps, eps).eps.flatten() / noise
        x = x + step / 2 * along + math.sqrt(step) * torch.randn(n, generator=g, dtype=torch.float64)
    log = (1 - w) * line.log_density(GRID, level) + w * line.log_class_density(GRID, level)[:, 1]
    p = log.softmax(0)
    mean = float((p * GRID).sum())
    std = math.sqrt(float((p * (GRID - mean) ** 2).sum()))
    assert float(x.mean()) == pytest.approx(mean, abs=5 * std / math.sqrt(n))
    assert float(x.std()) == pytest.approx(std, rel=0.08)


# Latent diffusion


class Plane:
    """A linear space: z = x q with orthonormal columns q (4, 2), and back by their transpose."""

    def __init__(self) -> None:
        self.q = torch.linalg.qr(torch.randn(4, 2, generator=torch.Generator().manual_seed(0)).double())[0]

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return (x.flatten(1) @ self.q).view(-1, 2, 1, 1)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        return (z.flatten(1) @ self.q.T).view(-1, 1, 2, 2)


def test_noise_in_a_latent_space_is_the_encoding_of_noise(mixture) -> None:
    """q_sample of z = E(x) with E(eps) is E(q_sample of x): the best denoiser of z is that of the encoded mixture."""
    space, x0 = Plane(), mixture.sample(8).double()
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(1)).double()
    for level in (1, 50, 200):
        x = q_sample(mixture.schedule, x0, level, eps)
        z = q_sample(mixture.schedule, space.encode(x0), level, space.encode(eps))
        torch.testing.assert_close(z, space.encode(x), atol=1e-12, rtol=0)
    assert torch.allclose(space.encode(space.decode(z)), z), "E D = 1, though D E is not"


def test_no_edit_of_the_latents_is_no_change_and_an_edit_adds_what_the_decoder_draws(mixture) -> None:
    space, x = Plane(), mixture.sample(8).double()
    z, step = space.encode(x), torch.tensor([0.1, -0.2]).double().view(1, 2, 1, 1)
    assert torch.equal(saved_by_difference(space, x, z, z), x)  # type: ignore[arg-type]
    assert not torch.allclose(space.decode(z), x), "the decoder alone would lose something"
    edited = saved_by_difference(space, x, z, z + step)  # type: ignore[arg-type]
    torch.testing.assert_close(edited, x + space.decode(step.expand(8, 2, 1, 1)), atol=1e-12, rtol=0)


# Conditional expectations


@pytest.mark.parametrize("level", LEVELS)
def test_tweedies_estimate_is_the_expectation_of_the_image(line: Line, level: int) -> None:
    x = spread()
    got = x0_from_eps(line.schedule, x, level, line.eps(x, level))
    torch.testing.assert_close(got, line.x0(x, level), atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("level", LEVELS)
def test_the_expectation_of_the_noise_is_the_score(line: Line, level: int) -> None:
    x = spread()
    want = score(lambda x: line.log_density(x, level), x)
    torch.testing.assert_close(-line.eps(x, level) / math.sqrt(line.moments(level)[1]), want, atol=1e-10, rtol=1e-10)
