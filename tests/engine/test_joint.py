from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from cfdiff.engine import (
    Ddim,
    Guidance,
    NoisyGuide,
    TweedieGuide,
    count_log_pmf,
    decode,
    encode_ddim,
    make_tau,
    q_sample,
    x0_from_eps,
)
from cfdiff.engine.joint import (
    JointGuide,
    JointTweedieGuide,
    assignment,
    chunked,
    count_reached,
    exact_count,
    join_paths,
    joint_gradient,
    log_odds,
)

LEVEL = 80


def bag_at(mixture, n: int, level: int = LEVEL, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """(x, eps, x0_hat) of n instances at a level."""
    g = torch.Generator().manual_seed(seed)
    x = q_sample(mixture.schedule, mixture.sample(n, seed), level, torch.randn((n, 1, 2, 2), generator=g))
    eps = mixture.eps(x, level)
    return x, eps, x0_from_eps(mixture.schedule, x, level, eps)


@pytest.mark.parametrize("k", [0, 1, 4, 7])
def test_the_gradient_is_the_finite_difference_of_log_p_of_the_count(k: int) -> None:
    """log P(K = k | X) with logits that are a curved function of x, float64."""
    x = torch.randn((7, 1, 2, 2), generator=torch.Generator().manual_seed(k), dtype=torch.float64)

    def logit(x: Tensor) -> Tensor:
        return (x + 0.3 * x**2).flatten(1).sum(1)

    def log_p(x: Tensor) -> float:
        return float(count_log_pmf(logit(x))[k])

    g, h = joint_gradient(logit, x, exact_count(k), 3), 1e-3
    for i in range(x.numel()):
        e = torch.zeros_like(x).view(-1)
        e[i] = h
        e = e.view_as(x)
        numeric = (8 * (log_p(x + e) - log_p(x - e)) - (log_p(x + 2 * e) - log_p(x - 2 * e))) / (12 * h)
        assert abs(float(g.view(-1)[i]) - numeric) < 1e-8


@pytest.mark.parametrize("n", [1, 2, 5, 12])
def test_the_posterior_agrees_with_all_labellings(n: int) -> None:
    logits = torch.randn(n, generator=torch.Generator().manual_seed(n), dtype=torch.float64) * 3
    p = torch.sigmoid(logits)
    labellings = torch.tensor(list(itertools.product([0.0, 1.0], repeat=n)), dtype=torch.float64)
    weight = torch.where(labellings == 1, p, 1 - p).prod(1)
    for k in range(n + 1):
        these = labellings.sum(1) == k
        q = (weight[these, None] * labellings[these]).sum(0) / weight[these].sum()
        torch.testing.assert_close(exact_count(k)(logits), q, atol=1e-12, rtol=0)


def test_a_bag_of_one_that_wants_one_is_guided_as_a_single_image(mixture) -> None:
    x, eps, x0_hat = bag_at(mixture, 1)
    for k in (0, 1):
        target = torch.tensor([k])
        single = NoisyGuide(mixture.log_prob).gradient(x, LEVEL, eps, x0_hat, target)
        joint = JointGuide(mixture.log_prob, exact_count(k)).gradient(x, LEVEL, eps, x0_hat, target)
        torch.testing.assert_close(joint, single, atol=1e-6, rtol=1e-4)


def test_a_fixed_assignment_is_ordinary_guidance_of_each_instance(mixture) -> None:
    x, eps, x0_hat = bag_at(mixture, 9)
    z = torch.arange(9) % 2
    pairs = [
        (JointGuide(mixture.log_prob, assignment(z), chunk=4), NoisyGuide(mixture.log_prob)),
        (
            JointTweedieGuide(mixture.schedule, mixture.clean_log_prob, assignment(z), chunk=4),
            TweedieGuide(mixture.schedule, mixture.clean_log_prob),
        ),
    ]
    for joint, single in pairs:
        torch.testing.assert_close(
            joint.gradient(x, LEVEL, eps, x0_hat, z), single.gradient(x, LEVEL, eps, x0_hat, z), atol=1e-5, rtol=1e-4
        )


def test_a_fixed_assignment_decodes_to_what_the_instance_mode_decodes_to(mixture) -> None:
    z = torch.tensor([1, 1, 0, 0, 1, 0])
    path = encode_ddim(mixture.schedule, mixture.eps, mixture.sample(6), make_tau(mixture.schedule, 0.5, 12))

    def run(guide) -> Tensor:
        guidance = Guidance(mixture.schedule, [guide], 5.0, 0.5, z)
        return decode(mixture.schedule, mixture.eps, path, solver=Ddim(), guidance=guidance)

    joint, single = run(JointGuide(mixture.log_prob, assignment(z))), run(NoisyGuide(mixture.log_prob))
    torch.testing.assert_close(joint, single, atol=1e-4, rtol=1e-4)


def test_the_size_of_the_chunks_does_not_change_the_gradient(mixture) -> None:
    x, eps, x0_hat = bag_at(mixture, 10)
    whole = JointGuide(mixture.log_prob, exact_count(3), chunk=10).gradient(x, LEVEL, eps, x0_hat, x)
    for chunk in (1, 3, 64):
        part = JointGuide(mixture.log_prob, exact_count(3), chunk=chunk).gradient(x, LEVEL, eps, x0_hat, x)
        torch.testing.assert_close(part, whole, atol=1e-6, rtol=1e-5)


def test_no_graph_holds_more_than_one_chunk() -> None:
    sizes = []

    def logit(x: Tensor) -> Tensor:
        sizes.append((len(x), torch.is_grad_enabled()))
        return x.flatten(1).sum(1)

    joint_gradient(logit, torch.zeros(10, 1, 2, 2), exact_count(4), 4)
    assert sizes == [(4, False), (4, False), (2, False), (4, True), (4, True), (2, True)]


def test_the_order_of_the_instances_does_not_matter(mixture) -> None:
    x, eps, x0_hat = bag_at(mixture, 8)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(3))
    guide = JointGuide(mixture.log_prob, exact_count(5))
    g = guide.gradient(x, LEVEL, eps, x0_hat, x)
    torch.testing.assert_close(guide.gradient(x[order], LEVEL, eps, x0_hat, x), g[order], atol=1e-6, rtol=1e-5)


def test_a_temperature_divides_the_logits(mixture) -> None:
    x, eps, x0_hat = bag_at(mixture, 6)
    hot = JointGuide(mixture.log_prob, exact_count(2), temperature=lambda level: level / 40)
    by_hand = joint_gradient(lambda x: log_odds(mixture.log_prob(x, LEVEL)) / 2, x, exact_count(2), 64)
    torch.testing.assert_close(hot.gradient(x, LEVEL, eps, x0_hat, x), by_hand)


def test_the_clean_form_is_the_gradient_at_x0_hat_over_the_signal(mixture) -> None:
    x, eps, x0_hat = bag_at(mixture, 6)
    g = JointTweedieGuide(mixture.schedule, mixture.clean_log_prob, exact_count(2)).gradient(x, LEVEL, eps, x0_hat, x)
    by_hand = joint_gradient(lambda x0: log_odds(mixture.clean_log_prob(x0)), x0_hat, exact_count(2), 64)
    signal = float(mixture.schedule.alpha_bar[LEVEL]) ** 0.5
    torch.testing.assert_close(g, by_hand / signal, atol=1e-5, rtol=1e-5)


def test_sampled_bags_reach_the_exact_count_and_unguided_ones_do_not(mixture) -> None:
    """With the exact score and classifier, scale 1 draws bags from p(X | K = k)."""
    tau, n, bags = make_tau(mixture.schedule, 1, 25), 5, 50

    def exact_share(scale: float) -> float:
        hits = 0
        for b in range(bags):
            k = b % (n + 1)
            x = torch.randn((n, 1, 2, 2), generator=torch.Generator().manual_seed(b))
            guidance = Guidance(mixture.schedule, [JointGuide(mixture.log_prob, exact_count(k))], scale, None, x)
            for a, below in zip(tau[:0:-1], tau[-2::-1], strict=True):
                eps = mixture.eps(x, a)
                eps = guidance(x, a, eps, x0_from_eps(mixture.schedule, x, a, eps)).eps
                x = Ddim().step(mixture.schedule, x, eps, a, below)
            hits += int(mixture.clean_log_prob(x).argmax(1).sum()) == k
        return hits / bags

    assert exact_share(1.0) >= 0.98
    assert exact_share(0.0) < 0.5


def test_a_chunked_denoiser_and_joined_paths_are_those_of_the_whole_bag(mixture) -> None:
    x0, tau = mixture.sample(7), make_tau(mixture.schedule, 0.5, 6)
    whole = encode_ddim(mixture.schedule, mixture.eps, x0, tau)
    parts = join_paths([encode_ddim(mixture.schedule, mixture.eps, part, tau) for part in x0.split(3)])
    assert parts.tau == whole.tau and parts.calls == whole.calls and parts.eps[0] is None
    for a, b in zip(parts.x, whole.x, strict=True):
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(chunked(mixture.eps, 3)(whole.x[-1], tau[-1]), whole.eps_at(whole.steps))


def test_the_loop_of_a_bag_closes_when_the_count_is_reached_and_every_instance_is_sure() -> None:
    def log_prob(logits: torch.Tensor) -> torch.Tensor:
        return torch.log_softmax(torch.stack([torch.zeros(len(logits)), logits.flatten()], 1), 1)

    enough = count_reached(log_prob, 2, 0.9, chunk=2)
    assert enough(torch.tensor([4.0, 4.0, -4.0, -4.0, -4.0])).tolist() == [True] * 5
    assert enough(torch.tensor([4.0, 0.5, -4.0, -4.0, -4.0])).tolist() == [False] * 5, "one is not sure: all go on"
    assert enough(torch.tensor([4.0, 4.0, 4.0, -4.0, -4.0])).tolist() == [False] * 5, "three are not two"
